"""Run notebook 02 in JupyterLab in headless Chromium, move a slider, see words and figure follow.

    make browser-test

Works on a copy under build/browser/ and leaves screenshots there. Exits with 1 and a sentence where
something is not as it should be, a request to another host included. CHROMIUM=/path names a
browser.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import nbformat
from playwright.sync_api import Error, sync_playwright

from x1lib.economics import estimate

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "browser"
NOTEBOOK, DRAGGED = "02_cluster_economics", "dragged"
# lab00's figure that is dragged, without lab00's three minutes of training.
DRAGGED_CELL = """from x1lib.figures import day
plans = [day.Day("50m, 5B tokens", "50m", 5e9), day.Day("240m, 5B tokens", "240m", 5e9)]
day.plans(plans, 0.45, 1024, "A100-80GB-SXM", 1.10)"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
HERE = {"127.0.0.1", "localhost"}
START_S, RUN_S, CHANGE_S = 90, 300, 30
SETTINGS = {
    # Cells out of sight are drawn too; nobody is asked about news.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}


class BrowserTestError(Exception):
    """What was not as it should be, in a sentence."""


def find_browser() -> str | None:
    """Path of a Chromium or Chrome on this machine; None leaves it to what playwright installed."""
    named = os.environ.get("CHROMIUM")
    if named:
        if not Path(named).exists():
            raise BrowserTestError(f"CHROMIUM is {named}, and there is no such file")
        return named
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or (str(APPS) if APPS.exists() else None)


@contextmanager
def jupyterlab(folder: Path):
    """A JupyterLab of its own on a free port of this machine; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "settings"
    for name, values in SETTINGS.items():
        path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
        "X1_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    command += ["--allow-root", f"--ServerApp.root_dir={folder}"]
    with open(folder / "jupyterlab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_S
        while True:
            if server.poll() is not None or time.monotonic() > end:
                raise BrowserTestError(f"JupyterLab did not start: read {folder}/jupyterlab.log")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def watch(context, foreign: list[str]) -> None:
    """Stop every request to another host, and write it down."""

    def decide(route) -> None:
        address = urlparse(route.request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in HERE:
            foreign.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    context.route("**/*", decide)

    def socket_opened(one) -> None:
        if urlparse(one.url).hostname not in HERE:
            foreign.append(one.url)

    context.on("page", lambda page: page.on("websocket", socket_opened))


def open_notebook(page, address: str, name: str) -> None:
    page.goto(f"{address}/lab/workspaces/auto-{name}/tree/{name}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=START_S * 1000)
    # Before this line stands in the status bar there is no kernel, and a run would ask for one.
    page.wait_for_selector("text=/ipykernel.* \\| Idle/", timeout=START_S * 1000)


def run_all(page, picture: str) -> None:
    """Run every cell from the menu, and wait until each has its number and the picture stands."""
    page.click(".lm-MenuBar-itemLabel >> text='Run'")
    page.click(".lm-Menu-item[data-command='runmenu:run-all']")
    page.wait_for_function(
        """picture => { const prompts = [...document.querySelectorAll(
                     '.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent.trim());
                   return prompts.length && prompts.every((p, i) => p === `[${i + 1}]:`)
                     && document.querySelector(picture)?.naturalWidth > 0; }""",
        arg=picture,
        timeout=RUN_S * 1000,
    )
    wrong = page.query_selector(".jp-OutputArea-output[data-mime-type*=error]")
    if wrong:
        raise BrowserTestError(f"a cell ended in an error: {wrong.inner_text()[-500:]}")


def shown(page) -> tuple[str, str]:
    """The calculator's words, and its picture's bytes in hexadecimal."""
    words = page.inner_text(".x1-cost-words")
    picture = page.evaluate(
        """async () => { const at = document.querySelector('.x1-cost-figure').src;
                         const bytes = new Uint8Array(await (await fetch(at)).arrayBuffer());
                         return [...bytes].map(b => b.toString(16).padStart(2, '0')).join(''); }"""
    )
    return words, picture


def expected(mfu: float) -> str:
    """What the calculator has to say of its starting values at another MFU."""
    return estimate("50m", n_tokens=5e9, mfu=mfu, usd_per_gpu_hour=1.10).sentence()


def move_mfu(page) -> tuple[str, str, float]:
    """Push the MFU slider up; return the words before and after, and the seconds it took.

    The words have to be those of the MFU that the slider then shows, and the picture another one.
    """
    before = shown(page)
    if not before[1].startswith("89504e47"):
        raise BrowserTestError("the calculator shows no PNG before anything was moved")
    if not before[0].startswith(expected(0.40)):
        raise BrowserTestError(f"before anything was moved it says {before[0]!r}")
    slider = page.locator(".widget-slider", has=page.locator("text='MFU'"))
    slider.scroll_into_view_if_needed()
    slider.locator(".noUi-handle").focus()
    begun = time.monotonic()
    page.keyboard.press("PageUp")
    while time.monotonic() < begun + CHANGE_S:
        mfu, after = float(slider.locator(".widget-readout").inner_text()), shown(page)
        said = expected(mfu)
        if after[0] != before[0] and after[0].startswith(said) and after[1] != before[1]:
            return before[0], after[0], time.monotonic() - begun
        time.sleep(0.02)
    raise BrowserTestError(f"the slider shows MFU {mfu}: expected {said!r}, and read {after[0]!r}")


def drag(page) -> tuple[str, str]:
    """Drag the plotly figure by its slider; return its title before and after."""
    picture = page.query_selector("img.plot-img")  # until the mouse enters it
    if picture and (at := picture.bounding_box()):
        page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    grip = page.locator(".plot-container .slider-grip-rect")
    grip.wait_for(timeout=CHANGE_S * 1000)
    title = page.locator(".plot-container .gtitle")
    before, box = title.text_content(), grip.bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    page.mouse.down()
    page.mouse.move(box["x"] - 200, box["y"] + 3, steps=8)
    page.mouse.up()
    end = time.monotonic() + CHANGE_S
    while title.text_content() == before:
        if time.monotonic() > end:
            raise BrowserTestError(f"lab00's figure was dragged, and its title stayed: {before}")
        time.sleep(0.1)
    return before, title.text_content()


def look() -> None:
    """All of it; raises BrowserTestError."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    built = nbformat.read(ROOT / "notebooks" / f"{NOTEBOOK}.ipynb", as_version=4)
    for cell in built.cells:
        if cell.cell_type == "code":  # so that what is seen was made here
            cell.outputs, cell.execution_count = [], None
    drawn = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(DRAGGED_CELL)])
    for name, notebook in {NOTEBOOK: built, DRAGGED: drawn}.items():
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "name": "python3"}
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
    foreign: list[str] = []
    with sync_playwright() as play, jupyterlab(FOLDER) as address:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        try:
            browser = play.chromium.launch(executable_path=find_browser(), args=arguments)
        except Error as error:
            raise BrowserTestError(
                "no Chromium could be started; install one (apt-get install chromium, brew install"
                " --cask chromium), run '.venv/bin/playwright install chromium', or name one with"
                f" CHROMIUM=/path ({str(error).splitlines()[0]})"
            ) from error
        context = browser.new_context(viewport={"width": 1200, "height": 1000})
        watch(context, foreign)
        page = context.new_page()
        begun = time.monotonic()
        try:
            open_notebook(page, address, NOTEBOOK)
            run_all(page, ".x1-cost-figure")
            print(f"{NOTEBOOK} ran in JupyterLab: {time.monotonic() - begun:.0f} s", flush=True)
            *words, seconds = move_mfu(page)
            page.screenshot(path=FOLDER / "calculator.png")
            print(f"MFU moved; words and figure followed in {seconds:.2f} s:")
            print(*(f"    {said.splitlines()[0]}" for said in words), sep="\n", flush=True)
            open_notebook(page, address, DRAGGED)
            run_all(page, "img.plot-img")
            titles = drag(page)
            page.screenshot(path=FOLDER / "dragged.png")
            print("lab00's figure dragged:", *titles, sep="\n    ", flush=True)
        except Error as error:
            page.screenshot(path=FOLDER / "failed.png")
            raise BrowserTestError(
                f"{str(error).splitlines()[0]}; see {FOLDER / 'failed.png'}"
            ) from error
        finally:
            browser.close()
    if foreign:
        raise BrowserTestError(f"requests to other hosts: {', '.join(sorted(set(foreign)))}")
    print(f"no request left this machine; screenshots in {FOLDER.relative_to(ROOT)}/")


if __name__ == "__main__":
    try:
        look()
    except BrowserTestError as error:
        sys.exit(f"browser-test: {error}")
