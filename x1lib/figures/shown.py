"""What a notebook cell displays: pictures with their words, tables, pieces of source."""

from __future__ import annotations

import base64
import inspect
import io
import textwrap
from collections.abc import Callable, Sequence

DPI = 120
TWIN_DPI = 90  # JupyterLab shows a twin pixel by pixel, until the mouse enters it
COLORS = 128  # of a picture's palette
SCREEN_DPI = 96  # a figure of 8 inches is shown 768 pixels wide, with more in store for zooming


class Picture:
    """A matplotlib figure as PNG, with words for whoever cannot see it."""

    def __init__(self, figure, words: str, dpi: int = DPI) -> None:
        self.png, self.words = _small_png(figure, dpi), words
        self.width = round(figure.get_figwidth() * SCREEN_DPI)

    def __repr__(self) -> str:
        return self.words

    def _repr_mimebundle_(self, include=None, exclude=None):
        image = base64.b64encode(self.png).decode()
        data = {"image/png": image, "text/plain": self.words}
        return data, {"image/png": {"width": self.width}}


def _small_png(figure, dpi: int) -> bytes:
    """A figure's PNG with a palette of its own: a third of the bytes, and lines look the same."""
    from PIL import Image  # comes with matplotlib

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
    image = Image.open(drawn).convert("RGB")
    image = image.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()


class Dragged:
    """A plotly figure to drag, and its static twin for wherever nothing can be dragged.

    figure: a plotly Figure. twin: the same at one setting, drawn with TWIN_DPI; code hosts, phones
    and printed pages show it in the figure's place, and JupyterLab until the mouse enters it.
    """

    def __init__(self, figure, twin: Picture) -> None:
        self.figure, self.twin = figure, twin

    def __repr__(self) -> str:
        return self.twin.words

    def _repr_mimebundle_(self, include=None, exclude=None):
        data, metadata = self.twin._repr_mimebundle_()
        return {"application/vnd.plotly.v1+json": self.figure.to_plotly_json(), **data}, metadata


class Table:
    """Rows of text under a heading each, shown as a table; cells may hold Markdown."""

    def __init__(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self.head, self.rows = list(head), [[str(cell) for cell in row] for row in rows]

    def __repr__(self) -> str:
        every = [self.head, *self.rows]
        widths = [max(len(row[i]) for row in every) for i in range(len(self.head))]
        lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in every)
        return "\n".join(line.rstrip() for line in lines)

    def _repr_markdown_(self) -> str:
        def line(cells):
            return f"| {' | '.join(cells)} |"

        rule = line(["---"] * len(self.head))
        return "\n".join([line(self.head), rule, *map(line, self.rows)])


class Code:
    """The source of functions, as a highlighted block."""

    def __init__(self, *functions: Callable) -> None:
        parts = [textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions]
        self.text = "\n\n\n".join(parts)

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}\n```"
