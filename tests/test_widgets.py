"""The calculator: its pure function, and the widget by setting values, without a browser."""

import inspect
import math
import time
import warnings
from dataclasses import replace
from datetime import date, timedelta

import ipywidgets
import numpy as np
import pytest

from x1lib import X1Error
from x1lib.economics import PRICES, Price, estimate
from x1lib.economics import prices as price_module
from x1lib.figures import clusters, money
from x1lib.figures.money import bill_figure
from x1lib.widgets import CHINCHILLA, FILL, OWN_PRICE, OWN_SIZE, CostCalculator, calculate


@pytest.fixture
def calculator():
    return CostCalculator()


def test_the_start_is_the_courses_run(calculator):
    assert calculator.answer.sentence == "6.8 h on one A100, $7.5, 2.7 kWh; 6 of these fit in $50."
    assert calculator.answer.sentence.split(";")[0] in calculator.words.value
    assert bytes(calculator.picture.value).startswith(b"\x89PNG")


def test_there_is_no_output_widget(calculator):
    pending, seen = [calculator], []
    while pending:
        one = pending.pop()
        seen.append(one)
        pending += getattr(one, "children", ())
    assert not any(isinstance(one, ipywidgets.Output) for one in seen)
    assert len(seen) > len(calculator.controls)


def test_the_controls_are_the_functions_parameters(calculator):
    assert list(inspect.signature(calculate).parameters) == list(calculator.controls)


# Every control that is at work changes the words or the picture.
@pytest.mark.parametrize(
    ("before", "name", "value", "said"),
    [
        ({}, "card", "H100-80GB-SXM", "one H100"),
        ({}, "usd_per_gpu_hour", 1.79, "$12"),
        ({}, "model", "240m", "19 h"),
        ({}, "n_tokens", 1e10, "14 h"),
        ({}, "rule", CHINCHILLA, "2.4 h"),
        ({}, "rule", FILL, "24 h on one A100"),
        ({"rule": FILL}, "hours", 12.0, "12 h on one A100"),
        ({"model": OWN_SIZE}, "n_params", 7e10, "4,674 h"),
        ({}, "n_gpus", 8, "8 A100s"),
        ({}, "mfu", 0.2, "14 h"),
        ({}, "pue", 1.5, "4.1 kWh"),
        ({}, "usd_per_kwh", 0.3, "$8.3"),
        ({}, "budget_usd", 5.0, "not one of these fits in $5"),
        ({}, "provider", "runpod", "$1.79 an hour"),
        ({"provider": "gcp", "card": "H100-80GB-SXM"}, "spot", True, "$6.57"),
    ],
)
def test_a_control_changes_the_answer(before, name, value, said):
    made = CostCalculator(**before)
    words, picture = made.words.value, bytes(made.picture.value)
    made.controls[name].value = value
    assert said in made.words.value
    assert made.words.value != words
    # The picture shows dollars, hours, N, D and the budget; energy is in the words alone.
    assert (bytes(made.picture.value) != picture) == (name != "pue")


def test_the_answer_is_estimates(calculator):
    calculator.controls["n_gpus"].value = 4
    made = estimate("50m", n_tokens=5e9, n_gpus=4, usd_per_gpu_hour=1.10)
    assert calculator.answer.made.usd == made.usd
    assert calculator.answer.sentence == made.sentence()


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [("mfu", 7.0, 0.75), ("mfu", 0.0, 0.05), ("n_gpus", 0, 1), ("pue", 0.2, 1.0),
     ("usd_per_gpu_hour", -3.0, 0.0), ("hours", 1e9, 240.0)],
)  # fmt: skip
def test_what_is_out_of_range_clamps(calculator, name, given, kept):
    calculator.controls[name].value = given
    assert calculator.controls[name].value == kept


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"provider": "runpod", "spot": True}, "no verified spot price of A100-80GB-SXM"),
        ({"provider": "lambda", "spot": True}, "Lambda sells no spot machines"),
        ({"provider": "azure", "card": "RTX-4090"}, "give usd_per_gpu_hour"),
        ({"card": "T4"}, "no card to train on"),
    ],
)
def test_the_impossible_is_said_in_place_of_the_figure(calculator, settings, said):
    for name, value in settings.items():
        calculator.controls[name].value = value
    assert said in calculator.words.value
    assert calculator.picture.value == b"" and calculator.picture.layout.display == "none"
    assert calculator.answer.made is None
    # And back: the figure returns.
    for name, value in {"provider": OWN_PRICE, "card": "A100-80GB-SXM"}.items():
        calculator.controls[name].value = value
    assert calculator.picture.value and calculator.picture.layout.display is None


def test_a_price_says_where_and_when_it_was_read_and_that_it_is_old(monkeypatch):
    class Later(date):
        @classmethod
        def today(cls):
            return max(p.date for p in PRICES if p.date) + timedelta(days=400)

    monkeypatch.setattr(price_module, "date", Later)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = CostCalculator(provider="runpod")
    assert "read 2026-" in made.words.value and "days old" in made.words.value


def test_a_free_machine_costs_nothing_and_says_so(calculator):
    calculator.controls["usd_per_gpu_hour"].value = 0.0
    assert "$0" in calculator.words.value and calculator.picture.value


def test_idle_controls_are_greyed_out(calculator):
    controls = calculator.controls
    assert controls["hours"].disabled and not controls["n_tokens"].disabled
    controls["rule"].value = FILL
    assert not controls["hours"].disabled and controls["n_tokens"].disabled
    controls["provider"].value = "runpod"
    assert controls["usd_per_gpu_hour"].disabled and not controls["spot"].disabled


def test_the_words_are_escaped():
    made = calculate(**{name: c.value for name, c in CostCalculator().controls.items()} | {
        "card": "<b>H100</b>"})  # fmt: skip
    assert "<b>" not in made.as_html() and "&lt;b&gt;" in made.as_html()


@pytest.mark.parametrize("name", ["n_params", "n_tokens", "mfu", "hours", "pue"])
def test_a_slider_starts_on_one_of_its_steps(calculator, name):
    """A browser would move it there, and the first answer would not be the stated one."""
    slider = calculator.controls[name]
    at = math.log10(slider.value) if hasattr(slider, "base") else slider.value
    steps = (at - slider.min) / slider.step
    assert math.isclose(steps, round(steps), abs_tol=1e-6)


@pytest.mark.parametrize("budget_usd", [50.0, 2000.0])
def test_the_budgets_line_is_what_the_budget_buys(budget_usd):
    """Where the line passes over this run's N, that many tokens cost the budget."""
    price = {"usd_per_gpu_hour": 1.10}
    made = estimate("240m", n_tokens=5e9, **price)
    plane = bill_figure(made, budget_usd).axes[1]
    (line,) = [one for one in plane.lines if str(one.get_label()).startswith("$")]
    n, d = np.log10(line.get_data())
    bought = 10 ** np.interp(math.log10(made.n_params), n, d)
    assert math.isclose(estimate("240m", n_tokens=bought, **price).usd, budget_usd, rel_tol=1e-6)


def test_an_unknown_control_is_an_error():
    with pytest.raises(X1Error, match="no control named colour"):
        CostCalculator(colour="red")


def test_an_update_is_cheap(calculator):
    """Processor seconds, of the best of five: what other work on the machine cannot slow down."""
    taken = []
    for mfu in (0.3, 0.31, 0.32, 0.33, 0.34):
        begun = time.process_time()
        calculator.controls["mfu"].value = mfu
        taken.append(time.process_time() - begun)
    assert min(taken) < 0.3


# Notebook 02's other figures


def priced(usd: float, **changes: object) -> Price:
    like = Price("aws", "L4", False, usd, date(2026, 8, 6), "a page", gpus=8)
    return replace(like, **changes)


@pytest.mark.parametrize(
    ("changes", "is_pair"),
    [
        ({}, True),
        ({"date": date(2026, 9, 6)}, True),
        ({"date": date(2026, 9, 7)}, False),
        ({"gpus": 1}, False),
        ({"gpu": "A10"}, False),
        ({"provider": "gcp"}, False),
        ({"source": "another page"}, False),
        ({"usd_per_gpu_hour": None, "date": None}, False),
        ({"spot": False}, False),
    ],
)
def test_spot_is_compared_with_its_like(monkeypatch, changes, is_pair):
    spot = replace(priced(1.0, spot=True), **changes)
    monkeypatch.setattr(money, "PRICES", (priced(4.0), spot))
    assert money.pairs() == [(priced(4.0), spot)] * is_pair


def test_the_table_of_spot_shows_every_pair_and_its_saving():
    pairs = money.pairs()
    assert len(pairs) >= 3
    shown = money.spot_pairs()
    for row, (full, spot) in zip(shown.rows, pairs, strict=True):
        assert row[5] == f"{1 - spot.usd_per_gpu_hour / full.usd_per_gpu_hour:.0%}"
        assert str(full.date) in row[6] and str(spot.date) in row[6]


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are drawn, in the place of their pictures."""
    monkeypatch.setattr(clusters, "Picture", lambda figure, words: figure)


def test_a_short_bars_figure_stands_clear_of_the_line(drawn):
    (axes,) = clusters.states(70e9, 64, "A100-80GB-SXM").axes
    room = max(line.get_xdata()[0] for line in axes.lines)
    starts = [text.xy[0] for text in axes.texts]
    assert len(starts) == 4 and min(starts) >= room


def test_what_was_checked_is_drawn_apart_from_what_was_not(drawn):
    (axes,) = clusters.against(["a", "b", "c"], [1, 2, 3], [2, 2, 4], checked=["c"]).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["published, checked"].get_xdata()) == [2]
    assert list(lines["published, checked"].get_ydata()) == [4]
    assert lines["published, unverified"].get_markerfacecolor() == "white"
