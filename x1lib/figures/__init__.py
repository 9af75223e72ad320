"""Figures of the notebooks, one module each; and what they are shown with."""

from x1lib.figures.shown import Code, Dragged, Picture, Table

__all__ = ["Code", "Dragged", "Picture", "Table"]
