"""The one named error of the arithmetic, and the checks that raise it."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Collection

import numpy as np

from x1lib import X1Error


class EconomicsError(X1Error, ValueError):
    """A card, price, convention or quantity that the arithmetic cannot use."""


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    whole: bool = False,
    hint: str = "",
) -> np.ndarray:
    """Return value (a number or an array of them) as float64 when all of it lies in the range.

    Raises EconomicsError naming the quantity, the first value outside, and the range. Text, None,
    booleans, NaN and infinities are outside every range.
    """
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (
            ("above", above),
            ("at least", low),
            ("at most", high),
            ("below", below),
        )
        if bound is not None
    ]
    expected = f"a {'whole' if whole else 'finite'} number {' and '.join(bounds)}".rstrip()
    try:
        raw = np.asarray(value)
    except ValueError:  # lists of different lengths
        raise EconomicsError(f"{name} is {value!r}; expected {expected}{hint}") from None
    if raw.dtype.kind not in "iuf" or not raw.size:
        raise EconomicsError(f"{name} is {value!r}; expected {expected}{hint}")
    numbers = raw.astype(np.float64)
    good = np.isfinite(numbers)
    for test, bound in (
        (np.greater, above),
        (np.greater_equal, low),
        (np.less_equal, high),
        (np.less, below),
    ):
        if bound is not None:
            good &= test(numbers, bound)
    if whole:
        good &= numbers == np.round(numbers)
    if not good.all():
        wrong = numbers[~good].flat[0] if numbers.ndim else numbers.item()
        raise EconomicsError(f"{name} is {wrong:g}; expected {expected}{hint}")
    return numbers


def near(name: str, known: Collection[str], n: int = 4) -> list[str]:
    """The known names that hold `name`, or else those nearest to it in spelling, best first."""
    plain = {_plain(one): one for one in known}
    wanted = _plain(name)
    holding = [one for key, one in plain.items() if wanted and wanted in key]
    alike = difflib.get_close_matches(wanted, plain, n=n, cutoff=0.4)
    return (holding or [plain[key] for key in alike])[:n]


def _plain(name: str) -> str:
    return "".join(c for c in name.lower().replace("nvidia", "") if c.isalnum())


def check_lengths(given: dict[str, object]) -> None:
    """Raise EconomicsError where lists and arrays do not broadcast."""
    shapes = {}
    for name, value in given.items():
        if isinstance(value, list | tuple | np.ndarray):
            try:
                shapes[name] = np.shape(value)
            except ValueError:
                raise EconomicsError(f"{name} is {value!r}; expected rows of one length") from None
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        sizes = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise EconomicsError(f"arrays that do not go together: {sizes}; give one length") from None


def check_finite(found: dict[str, object]) -> None:
    """Raise EconomicsError, naming it, where a result is more than a number can hold."""
    for name, value in found.items():
        if np.isinf(value).any():
            raise EconomicsError(
                f"the run's {name} come to more than a number can hold; look at the exponents of"
                " what you gave"
            )


def each_of(name: str, values: object) -> set | list:
    """The distinct values of one or of a list; raises EconomicsError for an empty one."""
    found = np.ravel(np.array(values, dtype=object))
    if not found.size:
        raise EconomicsError(f"{name} is {values!r}: an empty list names no run; give one or more")
    with contextlib.suppress(TypeError):  # one that cannot be hashed is refused where it is read
        return set(found)
    return list(found)
