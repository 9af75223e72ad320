"""A sweep's design, its arithmetic, its money, its points and what it says of them."""

import dataclasses
import json
import math
import time

import numpy as np
import pytest

from x1lib import sweep, tracking
from x1lib.budget_guard import BudgetRefused, Ledger, LedgerError
from x1lib.pacing import Schedule
from x1lib.scaling import Law
from x1lib.sweep import Design, Recipe, Settings, Speed, SweepError, costs, points, running, sealing
from x1lib.sweep.answers import best_of, summary, words_of
from x1lib.sweep.design import FIT, GPU_RECIPE, HELDOUT, in_batches, spread
from x1lib.sweep.points import Point

SIZES = sweep.CPU_SIZES
TOKENS = tuple(512 * n for n in (200, 400, 800, 1600))
DESIGN = Design(SIZES, TOKENS)
LAW = Law(E=1.8, A=40.0, alpha=0.28, B=120.0, beta=0.32)


# The design


def test_runs_are_chains_that_train_no_token_at_the_peak_twice():
    for trunk in {run.trunk for run in DESIGN.runs}:
        chain = [run for run in DESIGN.runs if run.trunk == trunk]
        assert [run.n_tokens for run in chain] == list(TOKENS)
        for before, run in zip([None, *chain], chain):
            schedule = Schedule.of(run.n_steps, 0.02, 0.2, first_step=run.branch_step)
            assert schedule.cooldown_start == run.cooldown_step == round(0.8 * run.n_steps)
            assert run.parent == (before and before.id)
            assert run.branch_step == (before.cooldown_step if before else 0)
            assert run.branch_step >= schedule.warmup_steps or before is None
            # where it begins, the one before it is at the peak still: the same state
            assert before is None or schedule.multiplier(run.branch_step) == 1.0
        own = sum(DESIGN.own_tokens(run) for run in chain)
        assert own == sum(TOKENS) - 0.8 * sum(TOKENS[:-1])


def test_seeds_and_the_held_out_size():
    by_size = {size: {r.seed for r in DESIGN.runs if r.shape == size} for size in SIZES}
    assert [len(by_size[size]) for size in SIZES] == [3, 3, 1, 1]
    assert {run.shape for run in DESIGN.of_role(HELDOUT)} == {SIZES[-1]}
    assert len(DESIGN.runs) == 32 == len({run.id for run in DESIGN.runs})
    assert len(DESIGN.of_role(FIT)) == 28


def test_every_size_has_the_same_rule_and_the_kv_group_is_fixed():
    configs = [DESIGN.config(run) for run in DESIGN.runs]
    same = ("lr", "batch_tokens", "base_width", "weight_decay", "seq_len", "cooldown", "warmup")
    for name in same:
        assert len({getattr(config, name) for config in configs}) == 1
    for size in SIZES:
        shape = DESIGN.shape(size)
        assert shape.n_heads == 2 * shape.n_kv_heads and shape.d_ff == 3 * shape.d_model


def test_depth_is_undone_on_the_residual_branches():
    gpu = Design(sweep.GPU_SIZES, spread(sweep.GPU_TOKENS, 1, GPU_RECIPE), 3, 2, GPU_RECIPE)
    found = {run.shape: gpu.config(run).branch_multiplier for run in gpu.runs}
    assert found["5m"] == 1.0 and found["100m"] == 7 / 16
    assert gpu.count("100m").body == 103_836_416


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"sizes": SIZES[:2]}, "three or more"),
        ({"sizes": (SIZES[1], SIZES[0], SIZES[2])}, "smallest first"),
        ({"tokens": (102_400,)}, "two or more"),
        ({"tokens": (102_400, 150_000)}, "no multiple"),
        ({"tokens": (512 * 202, 512 * 203)}, "too near"),
        ({"replicated": 4}, "replicate"),
    ],
)
def test_a_design_that_cannot_be_is_refused(wrong, words):
    with pytest.raises(SweepError, match=words):
        Design(**({"sizes": SIZES, "tokens": TOKENS} | wrong)).runs  # noqa: B018


# What it costs and can tell


SPEED = Speed(dict(zip(SIZES, (28e3, 17e3, 8e3, 5.5e3))), 6.0, jobs=2)


def test_flops_are_counted_by_hand():
    """6 FLOPs a weight and token, head included, and attention."""
    expected = 0.0
    for run in DESIGN.runs:
        width = int(run.shape.partition(":")[0].partition("x")[2])
        weights = 2 * (3 * width**2 + 9 * width**2) + 4096 * width
        expected += DESIGN.own_tokens(run) * (6 * weights + 12 * 2 * width * 256)
    assert math.isclose(DESIGN.flops, expected, rel_tol=1e-12)


def test_the_factor_fills_the_hours_and_no_more():
    def grown(factor: float):
        return spread((0.25e6, 0.5e6, 1e6, 2e6), factor, DESIGN.recipe)

    factor = costs.fitting_factor(DESIGN, (), SPEED, 1 / 6, grown)
    filled = SPEED.sweep_seconds(dataclasses.replace(DESIGN, tokens=grown(factor)))
    assert 0.85 * 600 < filled <= 0.9 * 600
    over = SPEED.sweep_seconds(dataclasses.replace(DESIGN, tokens=grown(1.1 * factor)))
    assert over > 0.9 * 600


def test_choices_say_what_three_sizes_cannot():
    gpu = Design(sweep.GPU_SIZES, spread(sweep.GPU_TOKENS, 1, GPU_RECIPE), 3, 2, GPU_RECIPE)
    speed = sweep.gpu_speed(gpu, "A100-80GB-SXM")
    one_d, every_d, five, plan = costs.choices(gpu, speed, 1.18)
    assert (one_d.known.rank, one_d.n_runs) == (3, 3)
    assert every_d.known.rank == five.known.rank == plan.known.rank == 5
    assert every_d.known.saturated_in_n and not five.known.saturated_in_n
    assert (five.n_runs, plan.n_runs) == (25, 45)
    assert five.known.se_log_optimal_tokens_1e9 < every_d.known.se_log_optimal_tokens_1e9
    assert 9 < plan.hours < 13 and plan.usd == plan.hours * 1.18  # the brief's 11 h and $13
    alone = sum(gpu.tokens[-1] / speed.tokens_per_sec[size] for size in sweep.TRIPLE) / 3600
    assert alone < one_d.hours < alone + 1  # whole runs, not branches


def test_a_run_of_one_size_alone_takes_its_tokens_time():
    run = DESIGN.of_role(HELDOUT)[-1]
    seconds = SPEED.seconds(DESIGN, run) - 6.0
    tokens = DESIGN.own_tokens(run) + 2 * 32_768 / 3
    assert math.isclose(seconds, tokens / 5.5e3)


# Money


def priced(folder, **settings):
    out = folder / "scaling-law"
    return Settings(out=str(out), usd_per_hour=2.0, hours=2.0, billed_since=time.time(), **settings)


def stored(folder, design=DESIGN) -> None:
    """A sweep that was planned in this folder."""
    folder.mkdir(parents=True)
    kept = {"run_id": "sweep-1", "hours": 2.0, "design": dataclasses.asdict(design)}
    tracking.write_json(folder / "design.json", kept | {"speed": dataclasses.asdict(SPEED)})


def test_a_plan_that_does_not_fit_beside_what_was_spent_is_refused_whole(tmp_path):
    stored(tmp_path / "scaling-law")
    Ledger(tmp_path / "ledger.jsonl", cap_usd=50).reserve(47.0, "another", "other")
    planned = sweep.plan(priced(tmp_path))
    with pytest.raises(BudgetRefused, match="it would fit at"):
        planned.admit()
    with pytest.raises(BudgetRefused):
        sweep.run(planned, log=lambda _: None)
    assert not (tmp_path / "scaling-law" / "runs").exists()  # nothing was begun
    ledger = Ledger(tmp_path / "ledger.jsonl", cap_usd=50)
    assert ledger.committed_usd == 47.0


def test_one_reservation_for_all_runs(tmp_path):
    stored(tmp_path / "scaling-law")
    planned = sweep.plan(priced(tmp_path))
    assert "is 4.62 US dollars" in planned.admit()  # (2 h + a twentieth) x 2, and a tenth on top
    from x1lib.sweep import money

    with money.metered(planned.settings.price, 2.0, planned.folder, "sweep-1") as purse:
        ledger = Ledger(tmp_path / "ledger.jsonl", cap_usd=50)
        assert len([r for r in ledger.reservations.values() if r.state == "open"]) == 1
        assert math.isclose(ledger.committed_usd + ledger.spent_usd, 4.62, abs_tol=0.01)
        assert purse.must_stop() is None and purse.usd >= 0
    ledger = Ledger(tmp_path / "ledger.jsonl", cap_usd=50)
    assert ledger.committed_usd == 0 and ledger.billed_to("sweep-1") == ledger.spent_usd


def test_a_ledger_that_is_gone_is_not_begun_again_at_nothing(tmp_path):
    stored(tmp_path / "scaling-law")
    planned = sweep.plan(priced(tmp_path))
    from x1lib.sweep import money

    with money.metered(planned.settings.price, 2.0, planned.folder, "sweep-1"):
        pass
    planned.admit()
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(LedgerError, match="is gone, and scaling-law was metered in it before"):
        planned.admit()
    with pytest.raises(LedgerError, match="restore it from a copy"):
        sweep.run(planned, log=lambda _: None)
    assert not (tmp_path / "ledger.jsonl").exists()
    (tmp_path / "ledger.jsonl").touch()
    planned.admit()


def test_the_end_of_the_money_stops_what_is_at_work(tmp_path):
    runner = FakeRunner()
    one = make_sweep(tmp_path, runner, must_stop=lambda: "budget: over" if runner.started else None)
    one.carry_out(DESIGN.of_role(FIT))
    assert runner.stopped and one.ended == "budget: over"
    assert "budget: over" in one.why_not(DESIGN.runs[1])


# Carrying out


class FakeRunner:
    """Runs that end at once, as finished, failed or dead; it writes what a trainer would."""

    def __init__(self, failing=()):
        self.started, self.failing, self.stopped, self._done = [], set(failing), False, {}

    def start(self, name, command, folder, environment):
        self.started.append(name)
        (folder / "state").mkdir(exist_ok=True)
        values = {"status": "finished", "val_loss": 4.0, "finished": str(len(self.started))}
        if name in self.failing:
            values = {"status": "failed", "reason": "NotFiniteError: step 3"}
        else:
            flags = dict(f[2:].split("=", 1) for f in command if f.startswith("--") and "=" in f)
            for step in filter(None, flags.get("milestones", "").split(",")):
                place = folder / "state" / f"step-{int(step):08d}"
                place.mkdir(exist_ok=True)
                (place / "checksums.json").write_text("{}")
        tracking.write_json(folder / "manifest.json", values)
        self._done[name] = 65 if name in self.failing else 0

    def ended(self):
        done, self._done = self._done, {}
        return done

    def stop(self):
        self.stopped = True
        return self.ended()


def make_sweep(folder, runner, hours=1.0, design=DESIGN, **kwargs):
    clock = running.Clock(hours, 0.0, now=lambda: 0.0)
    return running.Sweep(
        design, folder, runner, SPEED, clock, log=lambda _: None, **kwargs
    )  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(running, "NEAR_SECONDS", 0.0)


def test_all_runs_are_carried_out_once(tmp_path):
    runner = FakeRunner()
    make_sweep(tmp_path, runner).carry_out(DESIGN.runs)
    assert sorted(runner.started) == sorted(run.id for run in DESIGN.runs)
    for run in DESIGN.runs:
        if run.parent:
            assert runner.started.index(run.parent) < runner.started.index(run.id)
    again = FakeRunner()
    make_sweep(tmp_path, again).carry_out(DESIGN.runs)
    assert again.started == []  # points already there are not run again


def test_a_failed_run_is_a_row_with_a_status_and_never_a_number(tmp_path):
    bad = DESIGN.runs[0]
    one = make_sweep(tmp_path, FakeRunner([bad.id]))
    one.carry_out(DESIGN.runs)
    rows = {run.id: points.point_of(one, run) for run in DESIGN.runs}
    points.write(tmp_path / "points.csv", rows.values())
    assert points.read(tmp_path / "points.csv") == list(rows.values())
    assert rows[bad.id].status == "failed: NotFiniteError: step 3"
    assert rows[bad.id].val_loss is None and rows[bad.id].seconds is None
    after = next(run for run in DESIGN.runs if run.parent == bad.id)
    assert rows[after.id].status.startswith("not run: ")
    assert len(points.finished(rows.values())) == len(DESIGN.runs) - len(TOKENS)


def test_what_the_hours_do_not_hold_is_not_run(tmp_path):
    runner = FakeRunner()
    one = make_sweep(tmp_path, runner, hours=30 / 3600)  # 30 s
    one.carry_out(DESIGN.runs)
    assert 0 < len(runner.started) < len(DESIGN.runs)
    rows = [points.point_of(one, run) for run in DESIGN.runs]
    left = [row for row in rows if not row.is_finished]
    assert left and all(row.status.startswith("not run") for row in left)
    assert any("the hours leave" in row.status for row in left)


def test_a_run_made_with_other_settings_is_refused(tmp_path):
    one = make_sweep(tmp_path, FakeRunner())
    folder = one.folder(DESIGN.runs[0])
    folder.mkdir()
    config = dataclasses.asdict(DESIGN.config(DESIGN.runs[0])) | {"lr": 0.5}
    tracking.write_json(folder / "manifest.json", {"status": "finished", "config": config})
    with pytest.raises(SweepError, match=r"lr 0\.5"):
        make_sweep(tmp_path, FakeRunner())


def test_a_sweep_goes_on_with_what_it_began_with(tmp_path):
    stored(tmp_path / "scaling-law")
    assert sweep.plan(priced(tmp_path)).design == DESIGN
    with pytest.raises(SweepError, match="began with lr"):
        sweep.plan(priced(tmp_path, lr=0.5))
    with pytest.raises(SweepError, match="began with tokens"):
        sweep.plan(priced(tmp_path, branches="100000,200000"))


# Points, fits, predictions


def rows_of(law=LAW, noise=0.002, trunk_noise=0.003, design=DESIGN, seed=1) -> list[Point]:
    """Points of the law, with noise as a trunk and a run have it."""
    rng = np.random.default_rng(seed)
    trunks = {run.trunk: rng.normal(0, trunk_noise) for run in design.runs}
    rows = []
    for run in design.runs:
        count, shape = design.count(run.shape), design.shape(run.shape)
        loss = law.loss(count.total, run.n_tokens)
        loss *= math.exp(trunks[run.trunk] + rng.normal(0, noise))
        rows.append(
            Point(
                run.id, run.trunk, run.role, "finished", run.shape, shape.n_layers, shape.d_model,
                count.body, count.total, count.matmul, run.n_tokens,
                run.n_tokens * design.flops_per_token(run.shape), run.seed, float(loss), None,
                None, 0.0025, 512, 10.0,
            )
        )  # fmt: skip
    return rows


def test_a_planted_law_is_found_and_its_noise_is_split():
    fitted = sweep.fit_points(rows_of(noise=1e-7, trunk_noise=0), n_resamples=4)
    assert math.isclose(fitted.law.alpha, LAW.alpha, rel_tol=1e-3)
    assert math.isclose(fitted.optimal_tokens(), LAW.optimal_tokens(1e9), rel_tol=0.02)
    noisy = sweep.fit_points(rows_of(), n_resamples=200)
    assert noisy.refits.kind == "trunk" and 0.001 < noisy.own_noise < 0.012


def test_the_body_is_priced_with_its_head():
    """Body N over real FLOPs: the head makes a token dearer, and D_opt smaller."""
    fitted = sweep.fit_points(rows_of(noise=1e-7, trunk_noise=0), "body", n_resamples=4)
    cost = fitted.cost()
    for size in SIZES:
        count = DESIGN.count(size)
        assert math.isclose(cost(count.body), 6 * count.total, rel_tol=0.02)
    assert fitted.optimal_tokens() < fitted.law.optimal_tokens(1e9)


def test_the_joint_form_is_found_and_tells_itself_from_the_additive_one():
    planted = sweep.JointLaw(log_nc=26.0, log_dc=22.0, alpha_n=0.11, alpha_d=0.18)
    rows = rows_of(planted, noise=0.001, trunk_noise=0.001)
    joint, additive = sweep.fit_joint(rows, n_refits=40), sweep.fit_points(rows, n_resamples=50)
    assert math.isclose(joint.law.alpha_n, 0.11, rel_tol=0.1)
    assert joint.spread < 0.002 < additive.spread and best_of(forms(joint, additive))[0] is joint
    low, high = joint.interval_optimal_tokens()
    assert low < planted.optimal_tokens(1e9) < high
    rows = rows_of(noise=0.001, trunk_noise=0.001)
    joint, additive = sweep.fit_joint(rows, n_refits=4), sweep.fit_points(rows, n_resamples=50)
    assert best_of(forms(joint, additive))[0] is additive


def forms(joint, additive) -> dict:
    return {"additive": {"total": additive}, "joint": {"total": joint}}


def test_the_joint_forms_optimum_is_one():
    """At D_opt(N) no size of the same compute does better."""
    law = sweep.JointLaw(log_nc=26.0, log_dc=22.0, alpha_n=0.11, alpha_d=0.18)
    n_tokens = law.optimal_tokens(1e6)
    best = law.loss(1e6, n_tokens)
    for factor in (0.8, 0.95, 1.05, 1.25):
        assert law.loss(1e6 * factor, n_tokens / factor) > best


def test_noise_floor_is_the_spread_between_seeds():
    found, freedom = sweep.noise_floor(rows_of(noise=0, trunk_noise=0.004))
    assert freedom == 16 and 0.001 < found < 0.008
    single = dataclasses.replace(DESIGN, seeds=1)
    assert sweep.noise_floor(rows_of(design=single)) == (None, 0)


def test_fixed_tokens_and_fixed_compute_read_the_same_points():
    rows = rows_of(noise=1e-7, trunk_noise=0)
    by_tokens = sweep.fixed_tokens(rows)
    assert list(by_tokens) == list(TOKENS)
    n, loss = np.array(by_tokens[TOKENS[1]]).T
    np.testing.assert_allclose(loss, LAW.loss(n, TOKENS[1]), rtol=1e-6)
    budgets = sweep.budgets_inside(rows)
    by_compute = sweep.fixed_compute(rows, budgets)
    for budget, found in by_compute.items():
        for n_params, value in found:
            size = next(s for s in SIZES if DESIGN.count(s).total == n_params)
            tokens = budget / DESIGN.flops_per_token(size)
            assert TOKENS[0] * 0.999 <= tokens <= TOKENS[-1] * 1.001
            assert math.isclose(value, LAW.loss(n_params, tokens), rel_tol=3e-3)


def test_a_ruler_is_a_straight_line_of_logs():
    power = Law(E=1e-9, A=40.0, alpha=0.2, B=1e-9, beta=0.3)
    rows = [r for r in rows_of(power, 1e-7, 0) if r.role == FIT]
    n = DESIGN.count(SIZES[-1]).total
    assert math.isclose(sweep.ruler(rows, n, TOKENS[0]), 40 * n**-0.2, rel_tol=1e-6)


def test_sealed_before_and_revealed_after(tmp_path):
    rows = rows_of()
    fitted = sweep.fit_points([r for r in rows if r.role == FIT], n_resamples=200)
    sealed = sealing.seal_heldout(DESIGN, rows, fitted, tmp_path)
    assert set(sealed) == {run.id for run in DESIGN.of_role(HELDOUT)}
    assert sealing.seal_heldout(DESIGN, rows_of(seed=9), fitted, tmp_path) == sealed  # they stay
    for name, digest in sealed.items():
        values = {"config": {"sealed": digest}, "created": "2100-01-01T00:00:00+00:00"}
        (tmp_path / "runs" / name).mkdir(parents=True)
        tracking.write_json(tmp_path / "runs" / name / "manifest.json", values)
    found = sealing.reveal(rows, tmp_path, tmp_path / "runs")
    assert [one.tokens for one in found] == list(TOKENS)
    assert all(one.sound and abs(one.error) < 0.02 for one in found)
    kept = json.loads((tmp_path / "sealed.json").read_text())
    name = found[0].run
    kept[name]["text"] = kept[name]["text"].replace('"loss": ', '"loss": 1')  # tampered with
    tracking.write_json(tmp_path / "sealed.json", kept)
    assert not sealing.reveal(rows, tmp_path, tmp_path / "runs")[0].sound


def test_a_prediction_made_after_its_run_is_not_sound(tmp_path):
    rows = rows_of()
    fitted = sweep.fit_points([r for r in rows if r.role == FIT], n_resamples=50)
    sealed = sealing.seal_heldout(DESIGN, rows, fitted, tmp_path)
    name = next(iter(sealed))
    (tmp_path / "runs" / name).mkdir(parents=True)
    values = {"config": {"sealed": sealed[name]}, "created": "2020-01-01T00:00:00+00:00"}
    tracking.write_json(tmp_path / "runs" / name / "manifest.json", values)
    assert not sealing.reveal(rows, tmp_path, tmp_path / "runs")[0].sound


def test_held_out_intervals_hold_what_they_say():
    """Over simulated sweeps of this design, the held-out size comes inside about 95% of times."""
    inside = []
    for seed in range(12):
        rows = rows_of(seed=seed)
        fitted = sweep.fit_points([r for r in rows if r.role == FIT], n_resamples=200)
        for row in (r for r in rows if r.role == HELDOUT):
            _, low, high = fitted.predict(row.n_total, row.tokens)
            inside.append(low <= row.val_loss <= high)
    assert 0.88 <= np.mean(inside) <= 1.0


def test_lab00_reads_what_is_sealed_for_it(tmp_path):
    from x1lib.check import sealed_prediction

    fits = {n: sweep.fit_points(rows_of(), n, 100) for n in ("total", "body")}
    every = [*fits.values(), sweep.fit_joint(rows_of(), n_refits=10)]
    labs = tmp_path / "scaling-law"
    labs.mkdir()
    sealing.seal_lab00(DESIGN, every, fits["total"], labs, sweep.Target())
    manifest = {
        "created": "2100-01-01T00:00:00+00:00", "tokens": 3_000_000, "plan": {"window": 256},
        "config": {"shape": "tiny"}, "data": {"source": "embedded", "tokenizer": "bpe4096"},
    }  # fmt: skip
    found = sealed_prediction(tmp_path / "run-local", manifest)
    expected = fits["total"].law.loss(DESIGN.count("tiny").total, 3e6)
    assert math.isclose(found.loss, expected, rel_tol=2e-3)
    assert found.low < expected * math.exp(-sealing.OTHER_RECIPE) < found.high
    other = dataclasses.replace(DESIGN, recipe=Recipe(source="elsewhere.txt"))
    with pytest.raises(SweepError, match="losses of other text"):
        sealing.seal_lab00(other, every, fits["total"], tmp_path, sweep.Target())


def test_the_words_hold_the_three_bars_and_the_limits(tmp_path):
    rows = rows_of()
    fits = {
        "additive": {n: sweep.fit_points(rows, n, 200) for n in points.COUNTS},
        "joint": {"total": sweep.fit_joint(rows, n_refits=10)},
    }
    runs = tmp_path / "runs.csv"
    lines = ["width,base_width,batch_tokens,lr,val_loss"]
    lines += [f"{w},{256 if w < 256 else 0},512,{lr},{5 + 0.1 * (math.log(lr / best)) ** 2}"
              for w, best in ((64, 0.00125), (256, 0.0025))
              for lr in (0.000625, 0.00125, 0.0025, 0.005)]  # fmt: skip
    runs.write_text("\n".join(lines) + "\n")
    swept = dataclasses.replace(DESIGN, recipe=Recipe(lr=0.00125))
    found = summary(swept, rows, fits, {}, [], runs)
    bar = found["prediction_1e9"]
    assert bar["lost_by_width"][64] < 1e-9 and bar["lost_by_width"][256] > 0.005
    assert bar["learning_rate"][0] < bar["learning_rate"][1]
    assert json.loads(json.dumps(found))  # as fit.json takes it
    text = words_of(DESIGN, rows, found, 4.0)
    for words in (
        "noise of seeds and trunks",
        "which N",
        "the learning rate",
        "which form",
        "What this",
    ):
        assert words in text
    assert "times the largest model here" in text and "Hoffmann" not in text


def test_batches():
    assert in_batches(250_000, 512) == 249_856 and in_batches(1, 512) == 5120


# The notebook's kernel, the command line


def test_a_misspelt_parameter_is_refused():
    from x1lib.settings import ConfigError
    from x1lib.sweep import notebook

    known = {"hours": 0.5, "seeds": 2}
    assert notebook.configure(known, "hours seeds").seeds == 2
    wrong = known | {"In": ["# Parameters\nseds = 4\n"], "seds": 4}
    with pytest.raises(ConfigError, match=r"unknown parameter 'seds'; did you mean seeds\?"):
        notebook.configure(wrong, "hours seeds")
    injected = known | {"In": ["# Parameters\nlr = 0.25\n"], "lr": 0.25}
    assert notebook.configure(injected, "hours seeds").lr == 0.25


def test_a_guess_after_the_points_is_none(tmp_path):
    from x1lib.sweep import notebook

    stored(tmp_path / "scaling-law")
    planned = sweep.plan(priced(tmp_path))
    assert notebook.in_time(planned, error=0.01) == {"error": 0.01}
    points.write(planned.folder / "points.csv", rows_of())
    assert notebook.in_time(planned, error=0.01) == {"error": None}


def test_the_command_line_says_what_it_would_do(tmp_path, capsys):
    from x1lib.sweep.__main__ import main

    stored(tmp_path / "scaling-law")
    assert main(["plan", f"--out={tmp_path / 'scaling-law'}"]) == 0
    said = capsys.readouterr().out
    assert "32 runs" in said and "three sizes, one D" in said and "rank 3 of 5" in said
    assert main(["plan", "--sizes=2x64,2x128", f"--out={tmp_path / 'other'}"]) != 0
    assert main([]) == 2
