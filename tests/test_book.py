"""The static site names every notebook; on a page nothing is raw, fetched or mistaken for maths."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
README = (ROOT / "README.md").read_text()
LIVE = {"application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"}
PIXEL = (  # a PNG of one
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PYTHON = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}

spec = importlib.util.spec_from_file_location("book_conf", NOTEBOOKS / "book" / "conf.py")
conf = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conf)

ORDER = [name for names in conf.PARTS.values() for name in names]


def test_every_notebook_has_its_place_in_the_book():
    found = {path.stem for path in (*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("src/*.py"))}
    assert found and found - set(ORDER) == set()
    assert len(ORDER) == len(set(ORDER))


def test_contents_name_what_is_built_and_nothing_else():
    found = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    lines = conf.contents({*found, "index"}).splitlines()
    assert [line for line in lines if line in ORDER] == [name for name in ORDER if name in found]
    alone = conf.contents({"lab00"})
    assert alone.count("toctree") == 1 and "Theory" not in alone


def test_the_map_is_the_table_of_the_readme():
    listed = re.findall(r"^\| \[`?(\w+)`?\]\(notebooks/", README, re.MULTILINE)
    head, rule, *rows = conf.course_map({*listed, "index"}, README).splitlines()
    assert head.startswith("| notebook |") and set(rule) == {"|", "-"}
    assert {re.match(r"\| \[(\w+)\]\(\1\.ipynb\) \| ", row)[1] for row in rows} == set(listed)
    assert len(conf.course_map({"lab00"}, README).splitlines()) == 3


def test_the_first_page_asks_for_both():
    index = (NOTEBOOKS / "book" / "index.md").read_text()
    assert index.count("<!-- map -->") == index.count("<!-- contents -->") == 1
    assert "🇪🇸" in index


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_is_live_has_a_picture_or_a_sentence_beside_it(path):
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if data.keys() & LIVE and "image/png" not in data:
                said = data.get("text/plain", "")
                assert " " in said and not re.match(r"\w+\(", said), cell.source


def test_names_of_notebooks_become_links_only_where_they_are_clear():
    found = {"01_scaling_laws", "02_cluster_economics", "lab00"}
    assert conf.named("02", found, "lab00") == conf.named("02_cluster_economics", found, "lab00")
    assert conf.named("lab00", found, "01_scaling_laws") == "lab00"
    assert conf.named("lab00", found, "lab00") is None and conf.named("04", found, "lab00") is None


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A site of two small notebooks that hold what has gone wrong in one."""
    for module in ("myst_nb", "sphinx_book_theme", "sphinx_copybutton"):
        pytest.importorskip(module, reason=f"{module} is not installed: `make book` installs it")
    folder = tmp_path_factory.mktemp("book")
    sources = folder / "source"
    sources.mkdir()
    shutil.copy(NOTEBOOKS / "book" / "index.md", sources)
    display = "execute_result"
    dragged = {"application/vnd.plotly.v1+json": {"data": []}, "image/png": PIXEL}
    moved = {"application/vnd.jupyter.widget-view+json": {"model_id": "a", "version_major": 2}}
    cells = [
        new_markdown_cell("# 01: a page\n\nIt costs \\$5, then \\$7. 🇪🇸 Años. And $x^2$ is maths."),
        new_markdown_cell("See notebook 02, [it](02_cluster_economics.ipynb), notebook 04."),
        new_markdown_cell("<details><summary>Solution</summary>\n\n*Here.*\n\n</details>"),
        new_code_cell("a", outputs=[new_output("stream", text="$5 and $7\n")]),
        new_code_cell("b", outputs=[new_output(display, dragged | {"text/plain": "Figure()"})]),
        new_code_cell("c", outputs=[new_output(display, moved | {"text/plain": "It is live."})]),
        new_code_cell(
            "d", outputs=[new_output(display, {"text/markdown": "| a |\n|---|\n| $5 and $7 |"})]
        ),
    ]
    nbformat.write(new_notebook(cells=cells, metadata=PYTHON), sources / "01_scaling_laws.ipynb")
    other = new_notebook(cells=[new_markdown_cell("# 02: another")], metadata=PYTHON)
    nbformat.write(other, sources / "02_cluster_economics.ipynb")
    options = ["-b", "html", "-q", "-W", "--keep-going", "-c", str(NOTEBOOKS / "book")]
    command = [sys.executable, "-m", "sphinx", *options, str(sources), str(folder / "site")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_a_page_shows_its_outputs_and_fetches_nothing(site):
    page = (site / "01_scaling_laws.html").read_text()
    article = page[page.index("<article") : page.index("</article>")]
    assert re.findall(r'(?:src|<link[^>]*href)="(?:https?:)?//[^"]*"', page) == []
    assert (site / "_static" / conf.mathjax_path).stat().st_size > 1_000_000
    assert article.count('class="math') == 1 and "x^2" in article
    assert "It costs $5, then $7. 🇪🇸 Años." in article
    assert article.count("$5 and $7") == 2 and article.count("<table") == 1
    assert "It is live." in article and "model_id" not in page
    assert "<img" in article and "Figure()" not in article
    assert "<em>Here.</em>" in article[article.index("<summary>") : article.index("</details>")]
    assert article.count('href="02_cluster_economics.html"') == 2
    assert "notebook 04" in article


def test_the_first_page_leads_to_every_notebook(site):
    index = (site / "index.html").read_text()
    article = index[index.index("<article") : index.index("</article>")]
    for name in ("01_scaling_laws", "02_cluster_economics"):
        assert f'href="{name}.html"' in article
    assert "lab00.html" not in index
    assert "scale" in (site / "searchindex.js").read_text()
