"""Sweep sizes and token counts, fit a scaling law, predict the largest size and train it.

python -m x1lib.sweep plan [--flags]    what it would train, take and tell; trains nothing
python -m x1lib.sweep run [--flags]     carry it out, or go on where it was
python -m x1lib.sweep fit [--flags]     fit again what is there
"""

from __future__ import annotations

import signal
import sys

from x1lib import X1Error, settings
from x1lib.sweep import lab
from x1lib.sweep.answers import billions

VERBS = ("plan", "run", "fit")


def show(planned: lab.Planned) -> None:
    """Print what a sweep would take, and what it could tell, choice by choice."""
    design, speed = planned.design, planned.speed
    print(f"{len(design.runs)} runs in {planned.folder}; {speed.jobs} at a time")
    print("tokens: " + ", ".join(f"{n:,}" for n in design.tokens))
    for size in design.sizes:
        count, rate = design.count(size), speed.tokens_per_sec[size]
        print(f"  {size}: {count.total:,} parameters, {count.body:,} in the body, {rate:,.0f}"
              f" tokens/s ({speed.source})")  # fmt: skip
    for choice in planned.choices():
        low, high = choice.known.interval_optimal_tokens_1e9
        print(
            f"{choice.name}: {choice.n_runs} runs, {choice.flops:.2g} FLOPs, {choice.hours:.2f} h,"
            f" {choice.usd:.2f} US dollars; {choice.verdict}; condition"
            f" {choice.known.condition:.3g}; D_opt(1B) within {billions(low)} to {billions(high)}"
        )
    seconds = speed.sweep_seconds(design)
    if seconds > 3600 * planned.hours:
        print(f"does not fit: what is not done in {planned.hours:g} hours becomes a row 'not run';"
              f" --hours {1.1 * seconds / 3600:.2g} would hold it")  # fmt: skip
    print(f"about {seconds / 60:.1f} minutes of {60 * planned.hours:.0f}; {planned.admit()}")


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    verb = next((word for word in argv if word in VERBS), None)
    if verb is None and not {"-h", "--help"} & set(argv):
        print(f"say what to do: one of {', '.join(VERBS)}; --help says more", file=sys.stderr)
        return 2
    flags = [word for word in argv if word != verb]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: children save and leave
    try:
        chosen = settings.from_command_line(lab.Settings, flags, __doc__, "x1lib.sweep")
        if verb == "fit":
            print(lab.answer(chosen.folder).words)
            return 0
        planned = lab.plan(chosen)
        show(planned)
        if verb == "run":
            print(lab.run(planned).words)
    except X1Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("stopped; what was at work is saved, and the same command goes on", file=sys.stderr)
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())
