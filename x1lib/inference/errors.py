"""The package's named error."""

from x1lib import X1Error


class InferenceError(X1Error, ValueError):
    """A model that cannot be quantised, decoded or priced as asked."""
