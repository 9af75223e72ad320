"""Notebook 01's figures, what it computes beside them, and the published points it may download."""

import hashlib
import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import minimize_scalar

from x1lib.economics.published import PUBLISHED_RUNS
from x1lib.figures import scaling, sweeps
from x1lib.published_points import (
    CHINCHILLA,
    PointsUnavailable,
    Source,
    chinchilla,
    fetched,
)
from x1lib.scaling import (
    PORIAN_2024,
    PUBLISHED,
    ScalingError,
    cheapest,
    envelope,
    fit_law,
    isoflop,
    lifetime_flops,
    tokens_for_loss,
)
from x1lib.shapes import count_params

LAW = PUBLISHED["besiroglu2024"].law


def grid(n_params, n_tokens):
    n, d = np.meshgrid(np.asarray(n_params, float), np.asarray(n_tokens, float))
    return n.ravel(), d.ravel()


def drawn(picture, least_colors: int = 8) -> bytes:
    """The picture's PNG, which holds more than a blank page."""
    image = Image.open(io.BytesIO(picture.png))
    assert image.width > 500 and len(image.convert("RGB").getcolors(1 << 20)) > least_colors
    return picture.png


# What a loss costs, and a life


def test_the_least_compute_for_a_loss_is_the_optimums():
    C = np.array([1e17, 1e21, 1e26])
    losses = [LAW.optimal(one).loss for one in C]
    assert LAW.compute_for(losses) == pytest.approx(C, rel=1e-9)
    for bad in (LAW.E, math.nan, math.inf, [2.5, 1.0]):
        with pytest.raises(ScalingError, match="above E"):
            LAW.compute_for(bad)


def test_tokens_for_a_loss_reach_it_and_a_small_size_never_does():
    sizes = np.array([1e6, 3e8, 1e10])
    tokens = tokens_for_loss(LAW, sizes, 2.5)
    assert tokens[0] == np.inf and np.isfinite(tokens[1:]).all()
    assert LAW.loss(sizes[1:], tokens[1:]) == pytest.approx(2.5, rel=1e-12)
    with pytest.raises(ScalingError, match="above E"):
        tokens_for_loss(LAW, sizes, LAW.E)


@pytest.mark.parametrize("served", [0.0, 1e11, 1e13])
def test_the_cheapest_size_is_where_a_search_finds_it(served):
    found = cheapest(LAW, 2.5, served)
    searched = minimize_scalar(
        lambda x: float(lifetime_flops(LAW, math.exp(x), 2.5, served)),
        bounds=(math.log(1.6e8), math.log(1e11)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    assert math.log(found.n_params) == pytest.approx(searched.x, abs=2e-3)
    assert LAW.loss(found.n_params, found.n_tokens) == pytest.approx(2.5, rel=1e-9)


def test_serving_nothing_is_the_compute_optimum_and_more_serving_wants_less_model():
    optimal = LAW.optimal(float(LAW.compute_for(2.5)))
    assert cheapest(LAW, 2.5, 0).n_params == pytest.approx(optimal.n_params, rel=2e-3)
    sizes = [cheapest(LAW, 2.5, served).n_params for served in (0, 1e10, 1e11, 1e12, 1e13)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 3 * sizes[3]
    trained, both = (float(lifetime_flops(LAW, 1e9, 2.5, served)) for served in (0, 1e12))
    assert trained == pytest.approx(6e9 * tokens_for_loss(LAW, 1e9, 2.5))
    assert both - trained == pytest.approx(2e21)
    for bad in (-1.0, math.nan):
        with pytest.raises(ScalingError, match="served_tokens"):
            lifetime_flops(LAW, 1e9, 2.5, bad)


def test_porians_steps_fall_to_a_half_and_lie_in_their_intervals():
    for steps in PORIAN_2024.values():
        assert [step.what for step in steps] == [step.what for step in PORIAN_2024["RefinedWeb"]]
        exponents = [step.exponent for step in steps]
        assert exponents == sorted(exponents, reverse=True)
        assert all(step.low < step.exponent < step.high for step in steps)
        assert exponents[-1] == pytest.approx(0.5, abs=0.02)


# Points that are not shipped


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setenv("X1_OFFLINE", "0")


def source_of(path, content: bytes, sha256: str | None = None) -> Source:
    """A source that is a file of this test, by an address of its own."""
    path.write_bytes(content)

    class Local(Source):
        url = path.as_uri()

    return Local("x/y", "c", path.name, sha256 or hashlib.sha256(content).hexdigest(), "runs")


def test_a_source_is_fetched_once_and_kept(tmp_path, online):
    source = source_of(tmp_path / "a.csv", b"x,y\n1,2\n")
    kept = tmp_path / "kept"
    assert fetched(source, kept) == b"x,y\n1,2\n"
    (tmp_path / "a.csv").unlink()
    assert fetched(source, kept) == b"x,y\n1,2\n"
    (one,) = kept.iterdir()
    one.write_bytes(b"damaged")
    with pytest.raises(PointsUnavailable, match="put the file at"):
        fetched(source, kept)


def test_another_file_than_the_published_one_is_not_used(tmp_path, online):
    source = source_of(tmp_path / "a.csv", b"x,y\n1,2\n", sha256="0" * 64)
    with pytest.raises(PointsUnavailable, match="not used"):
        fetched(source, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_offline_nothing_is_read_not_even_what_is_kept(tmp_path, monkeypatch, online):
    source = source_of(tmp_path / "a.csv", b"x,y\n1,2\n")
    fetched(source, tmp_path / "kept")
    monkeypatch.setenv("X1_OFFLINE", "1")
    with pytest.raises(PointsUnavailable, match="X1_OFFLINE=1"):
        fetched(source, tmp_path / "kept")


def test_the_published_file_gives_the_published_fit(optional_data, tmp_path, online):
    """By our reader, from the file put where a download is kept; figures of LOG.md."""
    content = optional_data("scaling/chinchilla_points.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == CHINCHILLA.sha256
    (tmp_path / f"{CHINCHILLA.sha256[:12]}-svg_extracted_data.csv").write_bytes(content)
    points = chinchilla(tmp_path)
    assert len(points.loss) == 240
    law = fit_law(points.n_params, points.n_tokens, points.loss).law
    assert law.E == pytest.approx(1.8172, abs=5e-5)
    assert pytest.approx(477.8, abs=0.05) == law.A
    assert pytest.approx(2143, abs=0.5) == law.B
    assert (law.alpha, law.beta) == pytest.approx((0.3473, 0.3672), abs=5e-5)


def test_the_address_names_one_commit():
    assert CHINCHILLA.url.split("/")[5] == CHINCHILLA.commit and len(CHINCHILLA.commit) == 40
    assert CHINCHILLA.url.startswith("https://raw.githubusercontent.com/epoch-research/")


# Figures


def test_every_model_that_is_shown_is_published_once():
    names = [run.name for run in PUBLISHED_RUNS]
    assert scaling.SHOWN.keys() <= set(names) and len(names) == len(set(names))
    drawn(scaling.trained())


def test_figures_of_laws_say_what_they_show():
    drawn(scaling.bends((1e19, 5.76e23)))
    words = scaling.misses(LAW, 1e21, np.geomspace(0.1, 10, 81)).words
    assert "0.1x: 82%" in words and "1x: 0%" in words
    assert "head counted 0.71" in scaling.disagreement(LAW).words
    assert "3.73" in scaling.repetition(np.geomspace(1, 64, 20)).words
    best = LAW.optimal(1.3e19)
    picture = scaling.pareto(LAW, 1.3e19, "50 USD", {"a plan": (1e8, 5e9)})
    assert f"{best.loss:.2f}" in picture.words
    drawn(picture)


def test_the_dragged_figure_and_its_twin_say_the_same():
    shown = scaling.serving(LAW, 2.5)
    figure = shown.figure
    (slider,) = figure.layout.sliders
    assert figure.layout.title.text in shown.twin.words
    assert slider.steps[slider.active].args[1]["title.text"] == figure.layout.title.text
    assert len(slider.steps) == len(scaling.SERVED)
    for i, step in enumerate(slider.steps):
        visible = step.args[0]["visible"]
        assert len(visible) == len(figure.data) and visible[-1] is True
        on = [figure.data[j] for j in range(len(visible) - 1) if visible[j]]
        curve, least = on
        best = cheapest(LAW, 2.5, scaling.SERVED[i])
        assert least.x[0] == best.n_params and least.y[0] <= min(curve.y) * 1.0005
        assert f"{best.tokens_per_param:,.0f} tokens" in step.args[1]["title.text"]
    now = [trace.visible for trace in figure.data]
    assert now[:-1] == slider.steps[slider.active].args[0]["visible"][:-1]


def test_the_three_approaches_are_drawn_with_what_they_found():
    n, d = grid(np.geomspace(7e7, 1e10, 8), np.geomspace(1e9, 5e11, 30))
    curves = n, d, LAW.loss(n, d)
    C, k = grid(np.geomspace(6e18, 3e21, 5), np.geomspace(1 / 8, 8, 7))
    size = k * np.array([LAW.optimal(one).n_params for one in C])
    points = size, C / (6 * size), LAW.loss(size, C / (6 * size))
    one = envelope(6 * n * d, n, curves[2])
    two, three = isoflop(C, size, points[2]), fit_law(*points)
    picture = sweeps.approaches(curves, points, points, one, two, three)
    for found in (one.exponent_n, two.exponent_n, three.law.a):
        assert f"a = {found:.3f}" in picture.words
    drawn(picture)


def test_runs_are_drawn_with_those_held_out():
    n, d = grid([1e6, 3e6], [1e7, 2e7, 4e7])
    loss = 1.01 * LAW.loss(n, d)
    far, tokens = grid([9e6], [1e7, 2e7])
    picture = sweeps.runs(n, d, loss, LAW, (far, tokens, LAW.loss(far, tokens)))
    assert "6 runs to within 1.0%" in picture.words
    alone = sweeps.runs(n, d, loss, LAW)
    assert drawn(picture) != drawn(alone)


def test_intervals_count_those_that_hold_the_truth():
    ends = [(1e9, 4e9), (1e9, 2e9), (4e9, 6e9), (2e9, 9e9)]
    words = sweeps.intervals({"one": ends, "other": ends[:1]}, 3e9).words
    assert "one: 50% hold" in words and "other: 100% hold" in words and "simulated" in words


def test_the_wrong_count_is_drawn_through_the_same_points():
    names = ("5m", "25m", "100m")
    totals, bodies = (
        np.array([float(getattr(count_params(name), kind)) for name in names])
        for kind in ("total", "body")
    )
    n, d = grid(totals, [5e8, 1e9, 2e9])
    body, _ = grid(bodies, [5e8, 1e9, 2e9])
    wrong = fit_law(body, d, LAW.loss(n, d)).law
    assert wrong.loss(bodies, 2e9) == pytest.approx(LAW.loss(totals, 2e9), rel=1e-6)
    words = sweeps.which_n(LAW, wrong, totals, bodies).words
    assert "18B and not 23B" in words
