"""The project keeps its own promises: README against the disk, pins, layers, sizes, style."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()

# Lowest first. A module imports only from rows above its own; one row's modules not each other.
# Names on one row are parts of one thing.
LAYERS = [
    ("shapes",),
    ("economics",),
    ("scaling",),
    ("stability",),
    ("data",),
    ("checkpoint",),
    ("tracking",),
    ("budget_guard",),
    ("watchdog",),
    ("pacing",),
    ("runtime",),
    ("settings",),
    ("planning",),
    ("sampling",),
    ("session",),
    ("train",),
    ("ladder",),
    ("launch",),
    ("sweep",),
    ("postmortem",),
    ("inference",),
    ("published_files",),
    ("published_logs",),
    ("published_points",),
    ("exercises",),
    ("check",),
    ("quiz",),
    ("done",),
    ("figures",),
    ("widgets",),
]
RANK = {module: row for row, modules in enumerate(LAYERS) for module in modules}
TRAINER_NEEDS = {"torch", "numpy", "safetensors", "tokenizers"}


def tracked(*patterns: str) -> list[Path]:
    """Files that git holds or would hold, or all files where this is no clone."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, "run the tests in a clone"
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def normal(requirement: str) -> str:
    """A requirement's project name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", requirement.strip())[0]).lower()


# Set-up


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    split = [line.partition("==") for line in lines]
    assert all(sign and version for _, sign, version in split), "only exact versions"
    names = [normal(name) for name, _, _ in split]
    assert len(names) == len(set(names)), "a name is pinned twice"
    return {normal(name): version for name, _, version in split}


def test_every_direct_dependency_is_pinned():
    extras = PROJECT["optional-dependencies"].values()
    wanted = {normal(one) for group in [PROJECT["dependencies"], *extras] for one in group}
    assert wanted - pins().keys() == set()


def test_pins_carry_no_local_build():
    assert [name for name, version in pins().items() if "+" in version] == []


def test_the_base_is_what_the_trainer_needs():
    assert {normal(one) for one in PROJECT["dependencies"]} == TRAINER_NEEDS


def test_conda_gives_what_make_gives():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [one["pip"] for one in dependencies if isinstance(one, dict)]
    python = [one for one in dependencies if str(one).startswith("python")]
    assert python == ["python" + PROJECT["requires-python"]]
    installed = re.search(r"pip install .*?(-c \S+) (-e) '(\S+)'", MAKEFILE)
    assert pip == [installed[1], f"{installed[2]} {installed[3]}"]
    extras = re.search(r"\[(.*)\]", installed[3])[1].split(",")
    assert set(extras) <= PROJECT["optional-dependencies"].keys()


def test_ci_runs_the_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make test"
    assert "make test" in re.findall(r"^(make test)\b", README, re.MULTILINE)


# README


def targets() -> dict[str, bool]:
    """Make's targets, and whether `make help` has a line for each."""
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    return {name: bool(re.search(rf"^{name}:.*## \S", MAKEFILE, re.MULTILINE)) for name in phony}


def test_help_is_the_default_and_lists_every_target():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and all(targets().values())
    assert re.findall(r"^make (\S+)", done.stdout, re.MULTILINE) == list(targets())


def test_every_make_command_of_the_readme_exists():
    code = "\n".join(re.findall(r"`[^`]+`|^```.*?^```", README, re.MULTILINE | re.DOTALL))
    named = set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", code))
    assert {"lab00", "test"} <= named <= targets().keys()


def tree() -> list[str]:
    """Paths of the README's tree: the block that starts with README.md, two spaces a level."""
    block = re.search(r"^```text\n(README\.md.*?)^```", README, re.MULTILINE | re.DOTALL)[1]
    paths, parents = [], []
    for line in block.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        parents[len(indent) // 2 :] = [name]
        paths.append("".join(parents))
    return paths


def test_the_tree_of_the_readme_is_on_the_disk():
    assert [path for path in tree() if not (ROOT / path).exists()] == []


def test_the_tree_of_the_readme_leaves_out_no_top_folder():
    folders = {f"{path.relative_to(ROOT).parts[0]}/" for path in tracked() if path.parent != ROOT}
    assert folders - set(tree()) - {".ci/"} == set()


def test_links_and_pictures_of_the_readme_exist():
    local = [one for one in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in one]
    assert [one for one in local if not (ROOT / one).exists()] == []


def test_every_notebook_is_in_the_table_of_the_readme():
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    table = set(re.findall(r"^\| \[`?(\w+)`?\]\(notebooks/\1\.ipynb\)", README, re.MULTILINE))
    assert table == notebooks


# Sizes and words


@pytest.mark.parametrize(
    "path", tracked("x1lib/*.py"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_module_stays_small(path):
    limit = 400 if path == ROOT / "x1lib" / "train.py" else 350
    assert len(path.read_text().splitlines()) <= limit


def test_the_readme_stays_short():
    assert len(README.splitlines()) <= 150


def test_nothing_is_left_open_and_no_path_of_a_machine_is_named():
    # Written in pieces, since this file is searched as well.
    marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"]
    homes = ["/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/tm" + "p/", "/wo" + "rk/"]
    # A path starts where no letter, digit, dot or closing brace stands before it.
    words = re.compile(
        "|".join([rf"\b{mark}\b" for mark in marks] + [rf"(?<![\w.}}]){h}" for h in homes])
    )
    found = []
    for path in tracked():
        if path.suffix in {".py", ".md", ".toml", ".yml", ".json", ".txt", ".ipynb", ""}:
            if "assets" in path.parts:
                continue
            for number, line in enumerate(path.read_text(errors="ignore").splitlines(), start=1):
                if len(line) < 5_000 and (hit := words.search(line)):  # longer: a picture
                    found.append(f"{path.relative_to(ROOT)}:{number}: {hit[0]}")
    assert found == []


def test_style():
    for arguments in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "."]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


# Layers


def modules() -> dict[str, Path]:
    """x1lib's files by dotted name, a package by the name of its folder."""
    found = {}
    for path in sorted((ROOT / "x1lib").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, source: str, *, package: bool, everywhere: bool = True) -> set[str]:
    """Dotted names that a module imports; without `everywhere` only what its import runs."""
    body = ast.parse(source)
    found: set[str] = set()
    pending: list[ast.AST] = [body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: len(name.split(".")) - node.level + package]
            origin = ".".join([*(base if node.level else []), *filter(None, [node.module])])
            found |= {f"{origin}.{alias.name}" for alias in node.names}
        functions = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        if everywhere or not isinstance(node, functions):
            pending += ast.iter_child_nodes(node)
    return found


def broken_layers(name: str, imported: set[str]) -> list[str]:
    """What a module imports from its own row or below it."""
    own = name.split(".")[1]
    others = {one.split(".")[1] for one in imported if one.startswith("x1lib.")} - {own}
    return [f"{name} imports {one}" for one in others if one in RANK and RANK[one] >= RANK[own]]


def test_every_module_has_its_place():
    parts = {name.split(".")[1] for name in modules() if name != "x1lib"}
    assert parts and parts - RANK.keys() == set()


def test_modules_import_only_from_layers_above_theirs():
    broken = []
    for name, path in modules().items():
        package = path.name == "__init__.py"
        if name != "x1lib":
            broken += broken_layers(name, imports(name, path.read_text(), package=package))
    assert broken == []


@pytest.mark.parametrize(
    "source",
    [
        "import x1lib.train",
        "from x1lib import train",
        "from x1lib.train import Config",
        "from . import train",
        "from .train import Config",
        "def late():\n    from x1lib.train import Config",
    ],
)
def test_a_wrong_import_would_be_found(source):
    found = broken_layers("x1lib.pacing", imports("x1lib.pacing", source, package=False))
    assert found == ["x1lib.pacing imports train"]


def test_the_trainer_starts_on_the_base_dependencies():
    """What importing the lower layers and the trainer pulls in, followed through x1lib."""
    known = modules()
    lower = [name for name in known if RANK.get(name.split(".")[-1], 99) <= RANK["train"]]
    pending = ["x1lib.train"] if "x1lib.train" in known else lower
    seen: set[str] = set()
    foreign: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        path = known[name]
        package = path.name == "__init__.py"
        for one in imports(name, path.read_text(), package=package, everywhere=False):
            if one.split(".")[0] != "x1lib":
                foreign.add(one.split(".")[0])
            elif one in known:
                pending.append(one)
            elif one.rpartition(".")[0] in known:
                pending.append(one.rpartition(".")[0])
    assert len(seen) > 1
    assert foreign - sys.stdlib_module_names - TRAINER_NEEDS == set()
