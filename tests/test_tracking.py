"""What a run writes about itself survives being torn, and is read back as one history."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from x1lib import tracking
from x1lib.tracking import Manifest, Meter, Run, TrackingError, read_lines, read_metrics


def strict(text: str):
    """JSON as every other reader takes it: NaN and Infinity are errors."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def history(folder, kind=None) -> list[tuple]:
    return [
        (m["kind"], m.get("event"), m.get("step"), m.get("loss"))
        for m in read_metrics(folder, kind)
    ]


def test_lines_come_back_as_written(tmp_path):
    before = time.time()
    with Run(tmp_path) as run:
        run.log("step", step=1, loss=2.5, phase="warmup")
        run.event("plan", lr=0.01)
        run.log("eval", step=1, name="documents", loss=2.4)
    lines = read_metrics(tmp_path)
    assert [(m["kind"], m.get("event")) for m in lines] == [
        ("step", None), ("event", "plan"), ("eval", None),
    ]  # fmt: skip
    assert all(before - 1 <= m["time"] <= time.time() + 1 for m in lines)
    assert read_metrics(tmp_path, "eval") == [lines[2]]
    assert read_metrics(tmp_path / "metrics.jsonl") == lines


def test_a_line_is_there_as_soon_as_it_is_logged(tmp_path):
    """Without closing: a kill loses nothing that was logged."""
    code = (
        "import os, signal, sys; from pathlib import Path; from x1lib.tracking import Run;"
        " run = Run(Path(sys.argv[1])); run.log('step', step=1); run.log('step', step=2);"
        " os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [m["step"] for m in read_metrics(tmp_path)] == [1, 2]


def test_a_torn_line_costs_itself_alone_wherever_it_is_torn(tmp_path):
    with Run(tmp_path) as run:
        run.log("step", step=1, loss=1.0)
        run.log("step", step=2, loss=2.0)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert [m["step"] for m in read_lines(path)] == ([1, 2] if cut >= len(whole) - 1 else [1])
        with Run(tmp_path) as run:
            run.log("step", step=3, loss=3.0)
        kept = [1, 2, 3] if cut >= len(whole) - 1 else [1, 3]
        assert [m["step"] for m in read_lines(path)] == kept, whole[first:cut]


def test_bytes_that_are_no_text_are_passed_over(tmp_path):
    """What a power cut leaves: a block of zeros, or of something else."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "step", "step": 1}\n' + bytes(300) + b"\n\xff\xfe\xfd\n")
    with Run(tmp_path) as run:
        run.log("step", step=2)
    assert [m["step"] for m in read_metrics(tmp_path)] == [1, 2]


def test_a_resume_takes_back_what_was_lost_with_the_crash(tmp_path):
    with Run(tmp_path) as run:
        run.event("start", step=0)
        for step in (1, 2, 3, 4):
            run.log("step", step=step, loss=float(step))
        run.log("eval", step=2, loss=0.2)
        run.log("eval", step=4, loss=0.4)
        run.event("checkpoint", step=2)
        run.event("failed", step=4)
    with Run(tmp_path) as run:
        run.event("resume", step=2)
        run.log("step", step=3, loss=33.0)
    found = history(tmp_path)
    assert ("step", None, 3, 3.0) not in found and ("step", None, 4, 4.0) not in found
    assert [f for f in found if f[0] == "step"] == [
        ("step", None, 1, 1.0), ("step", None, 2, 2.0), ("step", None, 3, 33.0),
    ]  # fmt: skip
    assert [f for f in found if f[0] == "eval"] == [("eval", None, 2, 0.2)]
    # What happened stays: an event is never taken back.
    assert [f[1] for f in found if f[0] == "event"] == ["start", "checkpoint", "failed", "resume"]
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 11  # the file keeps everything


def test_two_resumes_in_a_row(tmp_path):
    with Run(tmp_path) as run:
        for step in (1, 2, 3):
            run.log("step", step=step, loss=1.0)
        run.event("resume", step=2)
        run.log("step", step=3, loss=2.0)
        run.log("step", step=4, loss=2.0)
        run.event("resume", step=1)
        run.log("step", step=2, loss=3.0)
    assert [f[2:] for f in history(tmp_path, "step")] == [(1, 1.0), (2, 3.0)]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    bad = {"loss": math.nan, "deep": {"a": [1.0, math.inf, (2.0, -math.inf)]}, "fine": 1e300}
    with Run(tmp_path) as run:
        run.log("step", step=1, **bad)
    Manifest(tmp_path).update(**bad)
    for text in (tmp_path / "metrics.jsonl", tmp_path / "manifest.json"):
        found = strict(text.read_text())
        assert found["loss"] is None and found["fine"] == 1e300
        assert found["deep"] == {"a": [1.0, None, [2.0, None]]}


def test_a_run_that_never_began_is_said_so(tmp_path):
    with pytest.raises(TrackingError, match="does not exist; has the run been started"):
        read_metrics(tmp_path)


def test_used_seconds_is_the_last_word_of_all_segments(tmp_path):
    assert tracking.used_seconds(tmp_path) == 0.0
    with Run(tmp_path) as run:
        run.event("start", step=0, elapsed_seconds=3.5)
        run.log("step", step=9, elapsed_seconds=40.25)
        run.event("resume", step=2, elapsed_seconds=44.0)
        run.log("step", step=3, elapsed_seconds=47.0)
        run.log("sample", step=3, text="no clock in it")
        run.event("schedule", step=3, elapsed_seconds=math.nan)
    assert tracking.used_seconds(tmp_path) == 47.0
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "step", "elapsed_seconds": 99')
    assert tracking.used_seconds(tmp_path) == 47.0


def test_a_manifest_goes_on_from_what_was_there(tmp_path):
    Manifest(tmp_path).update(status="running", seed=3)
    again = Manifest(tmp_path)
    assert again.values == {"status": "running", "seed": 3}
    again.update(status="finished", loss=1.5)
    assert strict((tmp_path / "manifest.json").read_text()) == {
        "status": "finished", "seed": 3, "loss": 1.5,
    }  # fmt: skip
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_a_manifest_is_the_old_or_the_new_and_never_half(tmp_path, monkeypatch):
    """Killed by an error at each call on the way, it is the old one still, and no litter stays."""
    Manifest(tmp_path).update(status="running", text="x" * 10_000)
    path = tmp_path / "manifest.json"
    old = path.read_bytes()
    seen = []

    def fail(*arguments):
        seen.append((path.read_bytes(), len(os.listdir(tmp_path))))
        raise OSError(28, "No space left on device")

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(TrackingError, match=r"manifest\.json cannot be written \(No space"):
                Manifest(tmp_path).update(status="finished")
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["manifest.json"]
    # Each call came with the old file in place and a second one, written aside, beside it.
    assert seen == [(old, 2), (old, 2)]


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_git_state(tmp_path):
    assert tracking.git_state(tmp_path) == {"commit": None, "dirty": None}
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert len(commit) == 40 and tracking.git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a.py").write_text("2\n")
    assert tracking.git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_no_git_on_the_machine_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tracking.git_state() == {"commit": None, "dirty": None}


def test_versions_are_those_that_are_imported():
    import numpy
    import torch

    found = tracking.versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["numpy"] == numpy.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["system"].split()[0] == os.uname().sysname
    for package in ("safetensors", "tokenizers"):
        assert found[package]


def test_a_package_that_is_missing_is_null(monkeypatch):
    from x1lib.tracking import manifest

    monkeypatch.setattr(manifest, "PACKAGES", ("torch", "no-such-package"))
    assert tracking.versions()["no-such-package"] is None


def test_sha256_of(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "abc.txt").write_bytes(b"abc")
    (tmp_path / "empty").write_bytes(b"")
    found = tracking.sha256_of([tmp_path / "empty", tmp_path / "b" / "abc.txt"], tmp_path)
    # FIPS 180-2, appendix B.1, and the hash of nothing
    assert found == {
        "b/abc.txt": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "empty": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }


def test_meter_counts_tokens_over_seconds():
    meter = Meter(seconds_between_lines=60.0)
    assert meter.tokens_per_sec is None
    assert "warming up" in meter.line(1, 100, 5.0, None, 2.0)
    for _ in range(30):
        meter.add(1000, 0.5)
    for _ in range(20):  # of the last twenty steps alone is the line
        meter.add(1000, 0.25)
    assert meter.tokens_per_sec == 50_000 / 20
    line = meter.line(50, 1050, 4.56789, 0.1234, 3725.0)
    assert line == (
        "step 50/1,050 | loss 4.5679 | 4,000 tokens/s | MFU 12.3% | elapsed 1:02:05 | ETA 0:04:10"
    )


def test_at_most_one_line_a_second(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    meter, printed = Meter(), 0
    for _ in range(1000):
        printed += meter.line_is_due()
        now[0] += 0.01
    assert 10 <= printed <= 11


# Columns: the same history, cheaply


def in_columns(folder) -> tuple:
    run = tracking.columns_of(folder)
    assert len({len(c) for c in (run.step, run.tokens, run.loss, run.lr, run.phase)}) == 1
    return list(run.step), list(run.tokens), list(run.loss), run.evals, run.events


def in_lines(folder) -> tuple:
    steps, evals, events = (read_metrics(folder, kind) for kind in ("step", "eval", "event"))
    return (*([line[key] for line in steps] for key in ("step", "tokens", "loss")), evals, events)


def test_columns_hold_the_history_at_every_moment_of_a_run(tmp_path):
    """With two kills, evaluations that are made again, and looks after every line."""
    assert in_columns(tmp_path) == ([], [], [], [], [])
    with Run(tmp_path) as run:

        def step(number, loss):
            run.log("step", step=number, tokens=10 * number, loss=loss, phase="constant")
            assert in_columns(tmp_path) == in_lines(tmp_path)

        run.event("start", step=0)
        run.log("eval", step=0, name="documents", loss=9.0)
        run.event("start", step=0)  # killed before its first checkpoint
        for number in range(1, 9):
            step(number, 1 / number)
        run.log("eval", step=8, name="documents", loss=0.5)
        run.log("eval", step=8, name="source", loss=0.7)
        assert in_columns(tmp_path) == in_lines(tmp_path)
        run.event("resume", step=5)
        assert in_columns(tmp_path) == in_lines(tmp_path)
        for number in range(6, 9):
            step(number, 2 / number)
        run.log("eval", step=8, name="documents", loss=0.4)
        run.log("eval", step=8, name="documents", loss=0.3)
        run.event("resume", step=8)
        step(9, 0.1)
    assert len(in_columns(tmp_path)[3]) == 1


def test_columns_wait_for_a_line_pass_over_a_torn_one_and_notice_another_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Run(tmp_path) as run:
        run.log("step", step=1, tokens=10, loss=math.nan, lr=0.1, phase="warmup")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "step", "st')
    run = tracking.columns_of(tmp_path)
    assert list(run.step) == [1] and math.isnan(run.loss[0]) and list(run.lr) == [0.1]
    with Run(tmp_path) as file:  # closes the torn line
        file.log("step", step=2, tokens=20, loss=1.0, phase="cooldown")
    assert list(run.update().step) == [1, 2] and math.isnan(run.lr[1])
    assert list(run.phase) == [0, 2]
    path.unlink()
    assert list(run.update().step) == []
    with Run(tmp_path) as file:
        file.log("step", step=7, tokens=70, loss=1.0)
    assert list(run.update().step) == [7]
    path.rename(tmp_path / "old")
    with Run(tmp_path) as file:  # another file, and longer than the one that was read
        for step in (1, 2, 3):
            file.log("step", step=step, tokens=step, loss=1.0)
    assert list(run.update().step) == [1, 2, 3]


# The curve


def write_run(
    folder, n_steps, evals=((0, 8.3), (0.5, 4.0), (1, 3.0)), status="finished", **manifest
):
    """A run's record as its trainer writes it: steps of 1,000 tokens, a tenth of warm-up."""
    with Run(folder) as run:
        run.event("start", step=0, elapsed_seconds=1.0)
        for step in range(1, n_steps + 1):
            phase = "warmup" if step <= n_steps / 10 else "constant"
            phase = "cooldown" if step > 0.8 * n_steps else phase
            loss = 3 + 5.3 * math.exp(-30 * step / n_steps) + 0.1 * (step % 7 - 3)
            run.log("step", step=step, tokens=1000 * step, loss=loss, lr=0.1, phase=phase)
        for share, loss in evals:
            step = round(share * n_steps)
            at = {"step": step, "tokens": 1000 * step, "elapsed_seconds": 90.0}
            for name in ("documents", "source"):
                run.log("eval", **at, name=name, loss=loss, n_tokens=100, n_bytes=300)
    values = {
        "status": status, "shape": {"name": "tiny", "vocab_size": 4096}, "n_params": {"body": 8e5},
        "machine": {"device_name": "a CPU"}, "mfu": None, "wall_clock_seconds": None,
        "val_loss": None, "bits_per_byte": None, "data": {"source": "a text"}, **manifest,
    }  # fmt: skip
    Manifest(folder).update(**values)


def drawn(folder):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    tracking.plot_loss(axes, folder)
    return axes


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_curve_says_what_it_shows(tmp_path):
    write_run(tmp_path, 1000, val_loss=3.0, bits_per_byte=1.5, wall_clock_seconds=3725.0, mfu=0.4)
    axes = drawn(tmp_path)
    assert axes.get_title("left").splitlines() == [
        "tiny (0.8M body parameters) · 1 million tokens of a text · 1:02:05 h",
        "held-out 3.000 nats/token, 1.500 bits/byte · a CPU · MFU 40.0%",
    ]
    assert axes.get_xlabel() == "training tokens [millions]"
    assert axes.get_ylabel() == "loss [nats per token]"
    assert legend(axes) == [
        "training, each step", "training, moving mean", "held-out documents, 3.000 at the end",
        "held-out book, 3.000 at the end", "cut off: it starts at 8.30; ln 4,096 = 8.32",
    ]  # fmt: skip
    assert [text.get_text() for text in axes.texts] == ["warm-up", "constant rate", "cooldown"]
    assert all(text.get_position()[1] > 1 for text in axes.texts)  # above the axes
    low, high = axes.get_ylim()
    assert low < 2.7 and 4.0 < high < 6.5  # not squashed by the fall from 8.3
    (side,) = axes.child_axes
    assert side.get_ylabel() == "held-out documents [bits per byte]"
    axes.figure.draw_without_rendering()
    assert math.isclose(side.get_ylim()[0], low * 100 / 300 / math.log(2), rel_tol=1e-9)


def test_restarts_are_marked_and_counted(tmp_path):
    write_run(tmp_path, 200)
    with Run(tmp_path) as run:
        for step in (200, 150):
            run.event("resume", step=step)
            for redone in range(step + 1, 201):
                run.log("step", step=redone, tokens=1000 * redone, loss=3.0, phase="cooldown")
    axes = drawn(tmp_path)
    assert "restart (2 times)" in legend(axes)
    marks = [
        line.get_xdata()[0] for line in axes.lines if line.get_linestyle() not in ("-", "None")
    ]
    assert marks == [200.0, 150.0]  # thousands of tokens


def test_an_evaluation_of_more_text_stands_apart_and_no_axis_pretends(tmp_path):
    write_run(tmp_path, 200)
    with Run(tmp_path) as run:
        for name in ("documents", "source"):
            run.log(
                "eval", step=200, tokens=200_000, name=name, loss=2.9, n_tokens=101, n_bytes=301
            )
    axes = drawn(tmp_path)
    assert "held-out book, more of it" in legend(axes)
    assert axes.child_axes == []


@pytest.mark.parametrize("n_steps", [0, 1, 3, 20])
def test_a_short_or_unfinished_run_is_drawn(tmp_path, n_steps):
    write_run(tmp_path, n_steps, evals=() if n_steps < 3 else ((0, 8.3),), status="running")
    assert f"unfinished, at step {n_steps}" in drawn(tmp_path).get_title("left")
    assert tracking.draw_loss_curve(tmp_path).stat().st_size > 5_000
    assert sorted(os.listdir(tmp_path)) == ["loss-curve.png", "manifest.json", "metrics.jsonl"]


def test_no_spike_is_lost_where_steps_outnumber_pixels(tmp_path):
    write_run(tmp_path, 20_000, evals=())
    with Run(tmp_path) as run:
        run.log("step", step=20_001, tokens=20_001_000, loss=None, phase="cooldown")
        run.log("step", step=20_002, tokens=20_002_000, loss=7.7, phase="cooldown")
        run.log("step", step=20_003, tokens=20_003_000, loss=3.0, phase="cooldown")
    axes = drawn(tmp_path)
    thin = axes.lines[0].get_ydata()
    assert 1000 <= len(thin) <= 2000 and thin.max() > 8 and 7.7 in thin
    assert list(axes.lines[0].get_xdata()) == sorted(axes.lines[0].get_xdata())
    assert axes.get_ylim()[1] > 7.7  # late: it is what one looks for


def test_the_moving_mean_is_the_mean(tmp_path):
    from x1lib.tracking.curve import SMOOTHED, _moving_mean

    values = np.sin(np.arange(1000.0)) + np.linspace(5, 3, 1000)
    values[500] = math.nan
    half, found = int(SMOOTHED * 1000 / 2), _moving_mean(values)
    for at in (0, 3, 250, 495, 505, 990, 999):
        reach = min(half, at)
        expected = np.nanmean(values[at - reach : at + reach + 1])
        assert math.isclose(found[at], expected, rel_tol=1e-12)
    assert _moving_mean(np.array([])).shape == (0,)


def test_a_long_run_is_drawn_quickly(tmp_path):
    """A second is the aim; the bound leaves room for a machine that is busy."""
    write_run(tmp_path, 100_000)
    drawn(tmp_path)  # what is imported late
    begun = time.process_time()
    tracking.draw_loss_curve(tmp_path)
    assert time.process_time() - begun < 5
    tracking.columns_of(tmp_path)
    begun = time.process_time()
    tracking.columns_of(tmp_path)
    assert time.process_time() - begun < 0.05  # nothing is read again
