"""Notebook 03's exercises: what they ask for, and the slips that lead astray."""

from __future__ import annotations

import math

from x1lib.exercises.key import Key


def terabytes() -> Key:
    n_tokens = 15e12
    return Key(
        4 * n_tokens / 1e12,
        "Which whole number of bytes holds an id up to 128,255? Then multiply.",
        {
            2 * n_tokens / 1e12: "Two bytes end at 65,535; these ids go beyond, and a cast would"
            " wrap them without a word.",
            128_256 * n_tokens / 1e12: "That is ids times tokens. Each token stores one id.",
        },
        rel_tol=0.01,
    )


def half_found() -> Key:
    bands, rows = 20, 5
    return Key(
        (1 - 0.5 ** (1 / bands)) ** (1 / rows),
        "Set 1 - (1 - s^5)^20 to one half and solve for s.",
        {
            (1 / bands) ** (1 / rows): "That is the rule of thumb, where the curve is steepest;"
            " there 1 - 1/e are found, not half.",
            (1 - 0.5 ** (1 / rows)) ** (1 / bands): "Bands and rows are swapped: 5 minima make a"
            " band, and there are 20 bands.",
        },
        rel_tol=0.01,
    )


def bits_per_byte() -> Key:
    nats, bytes_a_token = 3.2, 2.8
    return Key(
        nats / math.log(2) / bytes_a_token,
        "Nats over ln 2 are bits; a token's bits are shared by the bytes behind it.",
        {
            nats / bytes_a_token: "Those are nats a byte; a bit is ln 2 = 0.693 nats.",
            nats * math.log(2) / bytes_a_token: "A nat is more than a bit: divide by ln 2.",
            nats / math.log(2): "Those are bits a token; it has 2.8 bytes behind it.",
        },
        rel_tol=0.01,
    )


def junk_left() -> Key:
    junk, dropped, wronged = 0.7, 0.9, 0.05
    left, prose = (1 - dropped) * junk, (1 - wronged) * (1 - junk)
    return Key(
        left / (left + prose),
        "Of 1,000 pages 700 are junk. Count the junk that stays and the prose that stays.",
        {
            1 - dropped: "That is the share of the junk that stays; you are asked for its share"
            " of all that stays.",
            left: "That is a share of all pages, the dropped ones too.",
            wronged * (1 - junk) / (wronged * (1 - junk) + dropped * junk): "That is the prose"
            " among what was dropped; look at what was kept.",
        },
        rel_tol=0.02,
    )


def share_read_once() -> Key:
    return Key(
        1 - math.exp(-0.5),
        "After the kill the same windows come again: how much was drawn that was new?",
        {
            1 - math.exp(-1): "So it would be without the kill; the second half repeats the first.",
            0.5: "Half as many tokens were drawn as the text has, but at random: some of them"
            " twice already.",
        },
        rel_tol=0.02,
    )


EXERCISES = (terabytes, half_found, bits_per_byte, junk_left, share_read_once)
