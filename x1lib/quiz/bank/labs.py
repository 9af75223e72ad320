"""The labs: a run in hours, a law with a seal, a post-mortem by replay."""

from __future__ import annotations

import math

from x1lib.pacing import Schedule
from x1lib.planning import step_law_lr
from x1lib.quiz.question import Bank, Draw, Item
from x1lib.shapes import count_params

bank = Bank("labs", "lab00")


@bank("Run")
def resumed(draw: Draw) -> Item:
    return Item(
        "A run of 1,000 steps is killed at step 417 and the same command is given again. What does"
        " this course promise, with `deterministic` on and on the same machine?",
        "the same weights and losses as of the run that was never killed, to the bit",
        (
            "the same loss within the noise between seeds",
            "a run that goes on at step 417 with other batches",
            "the same batches, and weights that differ by rounding",
        ),
        "Weights, moments, the next sample's number and the plan are in the checkpoint, steps since"
        " then are done again, and no shuffle buffer is lost: so a spike can be rewound.",
    )


@bank("Load")
def rate_by_law(draw: Draw) -> Item:
    d = draw.pick([1e9, 2e9, 5e9])
    body, total = count_params("100m").body, count_params("100m").total
    say = lambda v: f"{v:.2e}"  # noqa: E731
    return Item(
        f"Step Law: lr = 1.79 · N^−0.713 · D^0.307, N without embeddings. Which peak rate has"
        f" `100m` ({body / 1e6:.1f}M body, {total / 1e6:.1f}M in all) for {d / 1e9:.0f} billion"
        " tokens?",
        say(step_law_lr(body, d)),
        (
            say(step_law_lr(total, d)),
            say(step_law_lr(body, d) / 2),
            say(step_law_lr(body, d / 1e3)),
        ),
        "The law's N is the body. It was fitted on larger models, so here it is an extrapolation"
        " with a guard beside it.",
    )


@bank("While it trains: read it")
def cooldown(draw: Draw) -> Item:
    total = 1000
    step = draw.pick([850, 900, 950])
    right = Schedule.of(total, 0.02, 0.2).multiplier(step)
    p = (step - 800) / 200
    say = lambda v: f"{v:.3f}"  # noqa: E731
    return Item(
        f"1,000 steps, a cooldown over the last 20% as 1 − √progress. Which share of the peak rate"
        f" has step {step}?",
        say(right),
        (
            say(1 - p),
            say(1 - p * p),
            say(1 - math.sqrt(step / total)),
        ),
        "Progress counts from where the cooldown starts, 0 at 80% of the steps and 1 at the end."
        " The root falls fast at first, faster than a straight line or a cosine.",
    )


@bank("The noise floor", "lab01")
def noise(draw: Draw) -> Item:
    floor = draw.pick([0.003, 0.004, 0.005])
    return Item(
        f"Between seeds the loss differs by {floor:.1%} (a standard deviation). One run with a new"
        f" setting ends {floor:.1%} better than one run without. What has been found?",
        "nothing yet: it takes nearly three times that",
        (
            "a gain, since it is no smaller than the noise",
            "a gain with a chance of 68%",
            "that the new setting is worse on average",
        ),
        "The difference of two single runs has √2 times the deviation of one, so that chance"
        " alone stays within 1.96 · √2 = 2.8 times the floor in 95 of 100 pairs. Several seeds a"
        " side need less; all that this course calls better is judged by it.",
    )


@bank("The reveal", "lab01")
def sealed(draw: Draw) -> Item:
    return Item(
        "A prediction of the largest size is hashed, and the hash goes into the first manifest of"
        " the run that it is about. What would make it worthless?",
        "a prediction that is written after the run has ended",
        (
            "an interval that is too narrow",
            "a law that was fitted to the smaller sizes alone",
            "a straight line through the other sizes that does better",
        ),
        "The seal shows that the number stood before the result. It may be wrong, and a ruler may"
        " beat it: both are findings. Only the order of events must not be in doubt.",
    )


@bank("What could this design tell?", "lab01")
def trunk(draw: Draw) -> Item:
    n = draw.pick([3, 4, 5])
    apart = 2**n - 1
    saved = 0.8 * (2 ** (n - 1) - 1)
    return Item(
        f"Runs of D, 2D, ... up to {2 ** (n - 1)}D are branched from one trunk, each cooling down"
        " over its last 20%. Which share of the tokens of separate runs is trained?",
        f"{(apart - saved) / apart:.1%}",
        (f"{saved / apart:.1%}", f"{2 ** (n - 1) / apart:.1%}", f"{1 / n:.1%}"),
        "Each run starts where the one before it began to cool down, at 0.8 of its tokens; only the"
        " cooldowns are trained besides the longest run.",
    )


@bank("A day of an A100")
def ceiling(draw: Draw) -> Item:
    return Item(
        "`hours 24` is a ceiling that the trainer holds. The machine becomes a fifth slower"
        " half-way. What does the run do?",
        "it cools down earlier and ends inside the hours",
        (
            "it is cut off at 24 hours at the full learning rate",
            "it goes on for as long as the planned tokens take",
            "it drops the cooldown to reach its tokens in time",
        ),
        "The clock decides the end again, with fewer tokens and as an event in the log. A run"
        " without its cooldown would be the most expensive kind: its last drop in loss is missing.",
    )
