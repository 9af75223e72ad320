"""Text: bytes, filters, duplicates, units of loss, and the order in which it is read."""

from __future__ import annotations

import math

import numpy as np

from x1lib.data.stages.minhash import BAND_ROWS, N_BANDS, band_probability
from x1lib.data.writer import token_dtype
from x1lib.quiz.question import Bank, Draw, Item, figures

bank = Bank("data", "03_data_pipelines")
VOCABULARIES = {"GPT-2": 50_257, "Llama 3": 128_256}


@bank("7. Tokens, bytes and bits")
def on_disk(draw: Draw) -> Item:
    name, n_tokens = draw.pick(list(VOCABULARIES)), draw.pick([5e9, 10e9, 15e9])
    size = token_dtype(VOCABULARIES[name]).itemsize
    say = lambda n_bytes: f"{n_bytes * n_tokens / 1e9:.0f} GB"  # noqa: E731
    return Item(
        f"How large are {figures(n_tokens)} tokens of {name}'s vocabulary"
        f" ({VOCABULARIES[name]:,} ids) on disk, in the smallest whole type? (The brief: 200 GB for"
        " 5 billion.)",
        say(size),
        tuple(say(n) for n in (1, 2, 4, 40) if n != size)[:3],
        "An id up to 65,535 takes 2 bytes, one beyond takes 4. Five billion GPT-2 tokens are 10 GB;"
        " 200 GB would be 40 bytes a token.",
    )


@bank("7. Tokens, bytes and bits")
def overflow(draw: Draw) -> Item:
    id_ = draw.pick([65_600, 70_000, 100_000, 128_000])
    stored = int(np.array(id_).astype(np.uint16))
    return Item(
        f"An array of Llama 3's tokens holds the id {id_:,} and is cast by `.astype(np.uint16)`."
        " What is read back?",
        f"token {stored:,}, without a word",
        (f"an error that names {id_:,}", "token 65,535, the largest there is", "token 0"),
        "A cast by `astype` wraps around at 65,536: another token, silently. (Python's own"
        " numbers, as in `np.uint16(70000)`, numpy 2 refuses.) So the type is chosen by the"
        " vocabulary, and ids are checked when shards are verified.",
    )


@bank("4. The same page again")
def near_duplicates(draw: Draw) -> Item:
    s = draw.pick([0.6, 0.7, 0.8])
    return Item(
        f"MinHash with {N_BANDS} bands of {BAND_ROWS} rows: two texts share {s:.0%} of their"
        " 5-grams. How likely are they to be found as near-duplicates?",
        f"{band_probability(s):.1%}",
        (
            f"{s:.1%}",
            f"{s**BAND_ROWS:.1%}",
            f"{band_probability(s, BAND_ROWS, N_BANDS):.1%}",
        ),
        f"A band agrees when all its {BAND_ROWS} minima do, with probability s^{BAND_ROWS}; one of"
        f" {N_BANDS} bands is enough. Between nothing and all lies a steep S, which is the point.",
    )


@bank("7. Tokens, bytes and bits")
def bits(draw: Draw) -> Item:
    nats, size = draw.pick([(3.2, 4.2), (4.2, 3.5), (2.9, 4.4)])
    right = nats / math.log(2) / size
    return Item(
        f"A model loses {nats} nats a token, and a token stands for {size} bytes. How many bits per"
        " byte are that?",
        f"{right:.3f}",
        (f"{nats / size:.3f}", f"{nats * math.log(2) / size:.3f}", f"{nats / math.log(2):.3f}"),
        "Nats over ln 2 are bits, and they are shared by the bytes behind the token. Only in bits"
        " per byte may models of two tokenisers be compared.",
    )


@bank("3. How often is a rule wrong?")
def junk_left(draw: Draw) -> Item:
    junk, dropped, wronged = draw.pick([(0.7, 0.9, 0.05), (0.6, 0.8, 0.1), (0.8, 0.95, 0.1)])
    left, prose = (1 - dropped) * junk, (1 - wronged) * (1 - junk)
    return Item(
        f"Of the pages {junk:.0%} are junk. A filter drops {dropped:.0%} of the junk and"
        f" {wronged:.0%} of the prose. How much of what it keeps is junk?",
        f"{left / (left + prose):.1%}",
        (f"{1 - dropped:.1%}", f"{left:.1%}", f"{(1 - wronged) * (1 - junk):.1%}"),
        "Count what stays of each and divide by all that stays. Where most is junk, a filter that"
        " sounds good leaves more of it than its miss rate says.",
    )


@bank("8. Order is a function of the sample number")
def order(draw: Draw) -> Item:
    return Item(
        "Here a batch is a pure function of seed and sample number. What does a loader with a"
        " shuffle buffer do instead when a run is killed and resumed?",
        "it repeats some documents and never shows others",
        (
            "it starts again from the first document, which costs an epoch",
            "nothing else: the buffer is drawn from the same seed",
            "it trains on the batches in sorted order until the buffer is full",
        ),
        "What was in the buffer is lost with the process, and nobody can replay a batch. With"
        " numbered samples the loader's whole state is the next number, so a spike's own batch can"
        " be taken out and tried again.",
    )


@bank("8. Order is a function of the sample number")
def random_windows(draw: Draw) -> Item:
    share = draw.pick([0.5, 1.0, 2.0])
    return Item(
        f"Windows are drawn at random with replacement, {share:g} times as many tokens as the text"
        " has. Which share of the text was read at least once?",
        f"{1 - math.exp(-share):.0%}",
        (
            f"{min(share, 1) * 0.999:.0%}",
            f"{math.exp(-share):.0%}",
            f"{1 - math.exp(-share / 2):.0%}",
        ),
        "Each place is missed with probability exp(−draws per place). A permutation of windows"
        " reads every token once in an epoch, and none twice.",
    )
