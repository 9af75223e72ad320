"""Notebook 00's figures draw what they say; the path keeps its promises and is the README's."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from x1lib.figures import motivation
from x1lib.figures.motivation import PATH, Evening

ROOT = Path(__file__).resolve().parent.parent


def drawn(picture) -> bytes:
    """The picture's PNG, which holds more than a blank page."""
    image = Image.open(io.BytesIO(picture.png))
    assert image.width > 500 and len(image.convert("RGB").getcolors(1 << 20)) > 8
    return picture.png


def test_a_spike_says_its_height_and_where_it_was_flagged():
    steps, control = [1, 2, 3, 4], [6.0, 6.0, 6.0, 6.0]
    picture = motivation.spike(steps, control, [6.0, 9.5, 9.0, 6.2], [2, 3], (2, 3))
    assert "2 bad batches: 3.5 nats up" in picture.words and "steps 2, 3." in picture.words
    other = motivation.spike(steps, control, [6.0, 9.5, 9.0, 6.2], [2], (2, 3))
    assert drawn(picture) != drawn(other)


def test_compute_sorts_the_runs_and_says_how_far_the_largest_is():
    runs = {"large": (1e23, "published"), "small": (1e12, "measured")}
    picture = motivation.compute(runs, ("50 dollars", 1e19))
    assert (
        "a 10,000th of large's" in picture.words and "small 1.0e+12; large 1.0e+23" in picture.words
    )
    assert drawn(picture) != drawn(motivation.compute(runs, ("50 dollars", 1e15)))


def test_the_path_is_drawn_and_every_evening_named():
    picture = motivation.path()
    for one in PATH:
        assert f"{one.label} ({one.minutes})" in picture.words
    assert drawn(picture) != drawn(motivation.path((*PATH, Evening((("more", 60),), "a thing"))))


def test_the_path_has_short_evenings_and_every_notebook():
    assert max(one.minutes for one in PATH) <= 90
    parts = " ".join(one.label for one in PATH)
    names = {path.stem.partition("_")[0] for path in (ROOT / "notebooks" / "src").glob("*.py")}
    assert [name for name in names if not re.search(rf"\b{name}\b", parts)] == []
    nights = [one for one in PATH if one.overnight]
    assert [one.card_hours for one in nights] == [12, 24]  # lab01 before lab00, whose loss it seals
    order = [next(i for i, one in enumerate(PATH) if what in one.label) for what in ("03", "lab02")]
    assert [PATH.index(one) for one in nights] == order


def sections(label: str) -> set[int]:
    """The numbers in "sections 1 to 5, 9, 10"."""
    found = set()
    for first, last in re.findall(r"(\d+)(?: to (\d+))?", label.partition("section")[2]):
        found |= set(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "src").glob("0*.py")))
def test_no_section_of_a_notebook_is_left_out_of_the_path(path):
    number = path.stem[:2]
    labels = [what for one in PATH for what, _ in one.parts if what.startswith(number)]
    there = {int(n) for n in re.findall(r"^# ## (\d+)\. ", path.read_text(), re.MULTILINE)}
    assert there, "a theory notebook numbers its sections"
    if not any("rest" in label or "section" not in label for label in labels):
        assert set().union(*map(sections, labels)) == there


@pytest.fixture(scope="module")
def readme() -> str:
    text = (ROOT / "README.md").read_text()
    return re.search(r"^## The path\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize("number", range(1, len(PATH) + 1))
def test_the_readme_has_the_same_path(readme, number):
    one = PATH[number - 1]
    assert f"{number}. {one.label} ({one.minutes})" in readme
    assert len(re.findall(r"\d+\. \w", readme)) == len(PATH)
