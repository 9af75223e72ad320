"""Which window a sample number means: pure functions of seed, epoch, block and place."""

from functools import lru_cache

import numpy as np

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser on uint64: a bijection whose output looks random.

    Constants from Vigna's splitmix64.c (public domain), after Steele, Lea and Flood 2014. Written
    here rather than drawn from numpy's Generator, whose streams may change between versions.
    """
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def key(*numbers: int) -> int:
    """One 64-bit key from several integers; their order counts."""
    state = 0
    for number in numbers:
        state = (state + _GOLDEN ^ (number & _MASK)) & _MASK
        state = int(mix(np.array([state], dtype=np.uint64))[0])
    return state


@lru_cache(maxsize=32)
def permutation(seed: int, epoch: int, block: int, n: int) -> np.ndarray:
    """The order of the `n` windows of a block in one epoch: int64[n], read-only.

    Place i holds the window with the i-th smallest hash of (seed, epoch, block, window).
    """
    with np.errstate(over="ignore"):
        places = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        hashes = mix(places + np.uint64(key(seed, epoch, block)))
    order = np.argsort(hashes, kind="stable")
    order.flags.writeable = False
    return order


def probe(seed: int, sample: int, n: int) -> int:
    """Where among `n` windows the search for the replacement of a skipped sample begins."""
    return key(seed, sample, 0x736B6970) % n
