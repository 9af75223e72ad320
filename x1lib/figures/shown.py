"""What a notebook cell displays: a picture with its words, and a piece of source."""

from __future__ import annotations

import base64
import inspect
import io
import textwrap
from collections.abc import Callable

DPI = 120
SCREEN_DPI = 96  # a figure of 8 inches is shown 768 pixels wide, with more in store for zooming


class Picture:
    """A matplotlib figure as PNG, with words for whoever cannot see it."""

    def __init__(self, figure, words: str) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        self.png, self.words = buffer.getvalue(), words
        self.width = round(figure.get_figwidth() * SCREEN_DPI)

    def __repr__(self) -> str:
        return self.words

    def _repr_mimebundle_(self, include=None, exclude=None):
        image = base64.b64encode(self.png).decode()
        data = {"image/png": image, "text/plain": self.words}
        return data, {"image/png": {"width": self.width}}


class Code:
    """The source of functions, as a highlighted block."""

    def __init__(self, *functions: Callable) -> None:
        parts = [textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions]
        self.text = "\n\n\n".join(parts)

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}\n```"
