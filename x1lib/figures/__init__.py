"""Figures of the notebooks, one module each; and what they are shown with."""

from x1lib.figures.shown import Code, Picture

__all__ = ["Code", "Picture"]
