"""Notebook 04's figures: each draws what it says; the sweep's table; BLOOM's lines."""

import io

import numpy as np
import pytest
from PIL import Image

from x1lib.figures import stability as figures
from x1lib.stability import lead, spike_score

WIDTHS = (32, 64, 128)


def drawn(picture, least_colors: int = 8) -> bytes:
    """The picture's PNG, which holds more than a blank page."""
    image = Image.open(io.BytesIO(picture.png))
    assert image.width > 500 and len(image.convert("RGB").getcolors(1 << 20)) > least_colors
    return picture.png


def test_updates_say_how_far_the_probe_rose():
    ratio, probe = np.ones(26), np.zeros(26)
    late, rise = ratio.copy(), probe.copy()
    late[12], rise[13] = 6.0, 0.8
    before = {0.95: (ratio, probe), 0.999: (late, rise)}
    picture = figures.updates(before, {0.95: 1.1, 0.999: 6.6})
    assert "β₂ 0.999: the probe rises by 0.80" in picture.words
    assert "β₂ 0.95: the probe rises by 0.00" in picture.words
    other = figures.updates(before | {0.999: (ratio, rise)}, {0.95: 1.1, 0.999: 6.6})
    assert drawn(picture) != drawn(other)


def test_weights_say_where_they_end():
    picture = figures.weights({0.0: [0.02, 0.05], 4.0: [0.02, 0.025]}, 20, {4.0: 0.025})
    drawn(picture)
    assert "decay 0 ends at 0.050; decay 4 ends at 0.025" in picture.words


def test_rises_have_a_panel_a_fault_and_say_each_peak():
    cases = {
        "garbage": {"no clip": [0, 0, 1.5], "clip 0.1": [0, 0, 0.5]},
        "rate": {"no clip": [0, 0, 2.0]},
    }
    picture = figures.rises(cases, 1, "A title")
    for words in ("A title.", "garbage, no clip: 1.50", "garbage, clip 0.1: 0.50", "rate, no clip"):
        assert words in picture.words
    assert drawn(picture) != drawn(figures.rises(cases, 1, "A title", held=1))


def test_coordinates_say_by_how_much_the_mean_of_seeds_grows():
    plain = {w: [{"queries": w / 32 * k, "logits": 1.0} for k in (0.5, 1.5)] for w in WIDTHS}
    ruled = {w: [{"queries": 1.0, "logits": 1.0 + (w == 64)}] * 2 for w in WIDTHS}
    picture = figures.coordinates(plain, ruled, {64: {"queries": 1.0, "logits": 2.0}})
    drawn(picture)
    for words in ("queries, one rate for all: 4", "queries, the rule (muP): 1;", "(muP): 2."):
        assert words in picture.words
    other = figures.coordinates(plain, ruled, {64: {"queries": 3.0, "logits": 2.0}})
    assert picture.png != other.png  # the live point is drawn


HEAD = "width,base_width,batch_tokens,lr,status,val_loss\n"


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        HEAD + "64,0,512,0.005,finished,5.4\n64,0,512,0.01,finished,5.9\n"
        "256,0,512,0.000625,finished,5.2\n256,64,512,0.005,finished,5.5\n"
        "256,64,512,0.0025,finished,5.3\n256,64,512,0.01,failed,\n"
        "64,0,1024,0.0025,finished,4.0\n"
    )
    return path


def test_a_sweep_is_read_by_base_and_width(runs):
    found = figures.sweep_rows(runs)
    assert found[0] == {64: {0.005: 5.4, 0.01: 5.9}, 256: {0.000625: 5.2}}
    # At the base width there is nothing to scale: those runs belong to the rule, too.
    assert found[64] == {64: {0.005: 5.4, 0.01: 5.9}, 256: {0.0025: 5.3, 0.005: 5.5}}
    assert list(found[64][256]) == [0.0025, 0.005]
    assert figures.sweep_rows(runs, batch_tokens=1024) == {0: {64: {0.0025: 4.0}}}


def test_the_best_rate_of_each_width_is_said(runs):
    picture = figures.rates(figures.sweep_rows(runs), (0, 64))
    drawn(picture)
    assert "no rule, width 256: 0.000625" in picture.words
    assert "64, width 256: 0.0025" in picture.words and "64, width 64: 0.005" in picture.words


def test_alarms_are_counted_by_rule():
    rng = np.random.default_rng(0)
    loss = 6 + 0.05 * rng.standard_normal(80)
    calm = figures.alarms(loss, loss, ("robust", "zclip"), begins=201)
    loss[50:53] += 3
    picture = figures.alarms(loss, loss, ("robust", "zclip"), begins=201)
    assert "robust flags 0" in calm.words and "robust flags 3" in picture.words
    assert drawn(picture) != drawn(calm)


def test_replays_name_the_recovery_with_the_lowest_median():
    garbage = {"untouched": [1.0, 0.8, 0.9], "skip-batch": [0.1, 0.9, 0.05]}
    stale = {"untouched": [0.8], "beta2-lower": [0.9], "mended": [0.2]}
    recorded = {"garbage": garbage, "stale": stale}
    picture = figures.replays(recorded, {"garbage": {"untouched": 1.1}})
    assert "garbage: untouched 0.90, skip-batch 0.10 nats" in picture.words
    assert "stale: untouched 0.80, mended 0.20 nats" in picture.words
    assert drawn(picture) != drawn(figures.replays(recorded, {}))


def test_replays_show_how_far_placebos_reach():
    played = {"untouched": [1.0], "skip-batch": [0.1], "placebo": [0.7, 1.2]}
    picture = figures.replays({"garbage": played}, {})
    assert "skip-batch 0.10 nats, placebos 0.70 to 1.20." in picture.words
    other = figures.replays({"garbage": played | {"placebo": [0.7, 0.9, 1.2]}}, {})
    assert other.words == picture.words and drawn(other) != drawn(picture)


def test_interventions_say_each_median_with_its_sign():
    gains = {"young": {"cooldown": {"book": [0.2, 0.3, -0.9], "pages": [-0.1]}}}
    picture = figures.interventions(gains)
    drawn(picture)
    assert "young, cooldown: book +0.20, pages -0.10" in picture.words


def test_records_are_read_as_numbers_and_nested(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("seed,cause,peak\n0,a,-0.5\n1,a,2\n0,b,1e-3\n")
    rows = figures.rows_of(path)
    assert rows[0] == {"seed": 0, "cause": "a", "peak": -0.5} and rows[2]["peak"] == 1e-3
    found = figures.nested(rows, "cause", "seed")
    assert found == {"a": {0: [rows[0]], 1: [rows[1]]}, "b": {0: [rows[2]]}}


def test_blooms_norm_led_by_four_steps():
    assert len(figures.BLOOM_LOSS) == len(figures.BLOOM_GRAD_NORM) == 9
    assert lead(figures.BLOOM_LOSS, figures.BLOOM_GRAD_NORM) == 4
    assert spike_score(figures.BLOOM_LOSS, window=3, k=7.0) > 0  # 5.1 among 2.2s
    picture = figures.bloom()
    drawn(picture)
    assert "5.10" in picture.words and "960" in picture.words
