"""The machine that is chosen and why, signals, the folder lock, steps that repeat themselves."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from x1lib import runtime
from x1lib.runtime import (
    FolderInUse,
    FolderLock,
    Interrupted,
    Interrupts,
    RuntimeRefused,
    choose_machine,
    choose_machine_again,
    machine,
)
from x1lib.shapes import SHAPES
from x1lib.train import GPT, Config, gradients, make_optimizer

ASKED = {
    "device": "cpu",
    "dtype": "auto",
    "attention": "auto",
    "compile": "auto",
    "deterministic": True,
    "threads": 0,
    "hours": 0.0,
    "total_flops": 0.0,
}
LONG = {"hours": 24.0}


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A machine with g++, as far as looking for it goes."""
    for name in ("g++", "clang++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


@pytest.fixture
def threads():
    """Puts torch's number of threads back."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", [{}, LONG, {"total_flops": 1e18}])
def test_without_a_compiler_it_is_eager_and_says_so_in_one_line(no_compiler, size):
    chosen = choose_machine(**(ASKED | size))
    assert chosen.compile is False
    notes = [note for note in chosen.notes if "compiler" in note]
    assert notes == ["eager: torch.compile needs a C++ compiler and this machine has none"]
    assert "compile off" in chosen.line() and chosen.line().count(notes[0]) == 1
    with pytest.raises(RuntimeRefused, match="no C\\+\\+ compiler; install g\\+\\+"):
        choose_machine(**(ASKED | {"compile": "on"}))


def test_only_what_torch_would_call_is_a_compiler(no_compiler, monkeypatch, tmp_path):
    """A CXX that names nothing, or another system's compiler, would fail in the first step."""
    monkeypatch.setenv("CXX", str(tmp_path / "nowhere"))
    assert not choose_machine(**(ASKED | LONG)).compile
    monkeypatch.delenv("CXX")
    foreign = "g++" if sys.platform == "darwin" else "clang++"
    (tmp_path / foreign).write_text("#!/bin/sh\n")
    (tmp_path / foreign).chmod(0o755)
    assert not choose_machine(**(ASKED | LONG)).compile
    monkeypatch.setenv("CXX", str(tmp_path / foreign))  # asked for by name, it is called
    assert choose_machine(**(ASKED | LONG)).compile


def test_compiling_has_to_earn_itself_back(compiler):
    short, long = choose_machine(**ASKED), choose_machine(**(ASKED | LONG))
    assert (short.compile, long.compile) == (False, True)
    assert any("too short a run" in note for note in short.notes)
    assert not any("eager" in note for note in long.notes)
    assert choose_machine(**(ASKED | {"total_flops": 1e15})).compile
    assert choose_machine(**(ASKED | {"compile": "on"})).compile
    off = choose_machine(**(ASKED | LONG | {"compile": "off"}))
    assert not off.compile and not any("eager" in note for note in off.notes)  # it was asked for


@pytest.mark.parametrize(
    "has_bf16, asked, dtype, attention",
    [
        (True, {}, "bfloat16", "blocked"),
        (False, {}, "float32", "sdpa"),
        (False, {"dtype": "bfloat16"}, "bfloat16", "blocked"),
        (True, {"dtype": "float32"}, "float32", "sdpa"),
        (True, {"attention": "sdpa"}, "bfloat16", "sdpa"),
    ],
)
def test_products_in_bf16_only_where_the_cpu_has_them(
    monkeypatch, has_bf16, asked, dtype, attention
):
    monkeypatch.setattr(machine, "_cpu_has_bf16_products", lambda: has_bf16)
    chosen = choose_machine(**(ASKED | asked))
    assert (chosen.dtype, chosen.attention) == (dtype, attention)
    assert chosen.torch_dtype is getattr(torch, dtype)
    said = any("no bf16 matrix instructions" in note for note in chosen.notes)
    assert said == (not has_bf16 and not asked)  # a choice that was asked for needs no reason


def test_the_line_says_what_is_active():
    chosen = choose_machine(**(ASKED | {"dtype": "float32"}))
    for words in (chosen.device_name, torch.__version__, "float32", "sdpa", "deterministic on"):
        assert words in chosen.line()
    assert chosen.device_name and chosen.torch == torch.__version__
    assert json.loads(json.dumps(asdict(chosen)))["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"device": "tpu"}, "device 'tpu' is not available here; this machine has .*cpu"),
        ({"dtype": "float16"}, "dtype 'float16' is not offered"),
        ({"attention": "ring"}, "attention 'ring' is unknown; give auto, sdpa, blocked, flash2"),
        ({"compile": "maybe"}, "give auto, on or off"),
        ({"attention": "flash2"}, "flash2 .*; give sdpa"),
    ],
)
def test_what_is_asked_for_by_name_and_is_not_here_is_refused(asked, words):
    with pytest.raises(RuntimeRefused, match=words) as found:
        choose_machine(**(ASKED | asked))
    assert found.value.exit_code == runtime.EXIT_REFUSED and "\n" not in str(found.value)


def test_threads_are_set_and_kept(threads):
    chosen = choose_machine(**(ASKED | {"threads": threads + 1}))
    assert chosen.threads == torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    again, changed = choose_machine_again(asdict(chosen), **ASKED)
    assert again.threads == torch.get_num_threads() == threads + 1 and changed == []


def test_a_resume_keeps_what_was_decided(compiler, monkeypatch):
    """Though the machine would choose otherwise now: other instructions, other hours."""
    monkeypatch.setattr(machine, "_cpu_has_bf16_products", lambda: True)
    first = choose_machine(**(ASKED | LONG))
    assert (first.dtype, first.attention, first.compile) == ("bfloat16", "blocked", True)
    monkeypatch.setattr(machine, "_cpu_has_bf16_products", lambda: False)
    fresh = choose_machine(**ASKED)
    assert (fresh.dtype, fresh.attention, fresh.compile) == ("float32", "sdpa", False)
    stored = json.loads(json.dumps(asdict(first)))  # as a checkpoint gives it back
    again, changed = choose_machine_again(stored, **ASKED)
    assert changed == []
    assert replace(again, notes=()) == replace(first, notes=())


def test_a_resume_that_must_differ_says_how(compiler):
    stored = asdict(choose_machine(**(ASKED | LONG | {"dtype": "float32"})))
    asked = ASKED | {"dtype": "bfloat16", "compile": "off"}
    again, changed = choose_machine_again(stored | {"torch": "1.0"}, **asked)
    assert (again.dtype, again.compile) == ("bfloat16", False)
    assert changed == [
        "dtype: 'float32' at the start, 'bfloat16' now",
        "compile: True at the start, False now",
        f"torch: '1.0' at the start, {torch.__version__!r} now",
    ]


def test_a_resume_without_the_compiler_keeps_the_rest(no_compiler, monkeypatch):
    monkeypatch.setattr(machine, "_cpu_has_bf16_products", lambda: False)
    first = choose_machine(**(ASKED | {"dtype": "bfloat16"}))
    stored = asdict(first) | {"compile": True}
    again, changed = choose_machine_again(stored, **ASKED)
    assert changed == ["compile: True at the start, False now"]
    assert (again.dtype, again.attention) == ("bfloat16", "blocked")


def test_measured_peak_is_a_speed_that_products_reach():
    """At least what one plain product of the same size does right now, within a factor."""
    chosen = choose_machine(**(ASKED | {"dtype": "float32"}))
    peak, source = runtime.peak_flops(chosen, trials=3)
    assert source == (
        f"measured here: 1024 x 1024 products in float32, {torch.get_num_threads()} threads"
    )
    a = torch.randn(1024, 1024)
    a @ a
    start = time.perf_counter()
    for _ in range(5):
        a @ a
    speed = 5 * 2 * 1024**3 / (time.perf_counter() - start)
    assert 0.2 < peak / speed < 5  # other processes share this machine


def test_a_card_in_the_table_has_its_data_sheet_peak():
    card = replace(
        choose_machine(**(ASKED | {"dtype": "bfloat16"})),
        device="cuda", device_name="NVIDIA A100-SXM4-80GB",
    )  # fmt: skip
    peak, source = runtime.peak_flops(card)
    assert peak == 312e12 and "data sheet" in source


def test_micro_batch_on_a_cpu_stays_in_the_caches():
    chosen = choose_machine(**ASKED)
    limits = [runtime.micro_batch_limit(chosen, SHAPES["5m"], n) for n in (128, 1024, 10**6)]
    assert limits == sorted(limits, reverse=True) and limits[-1] == 1
    assert limits[0] * 128 == limits[1] * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel keeps no VmHWM")
def test_peak_memory_is_the_kernels_high_water_mark():
    chosen = choose_machine(**ASKED)
    held = torch.ones(20_000_000)  # 80 MB, touched
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    assert math.isclose(runtime.peak_memory_bytes(chosen), kib * 1024, rel_tol=0.02)
    assert kib * 1024 > 4 * len(held)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel keeps no VmHWM")
def test_peak_memory_is_not_that_of_the_kernel_which_started_the_run():
    child = (
        "from x1lib import runtime as r; m = r.choose_machine(**%r); print(r.peak_memory_bytes(m))"
    )
    parent = f"""import subprocess, sys
held = b"x" * 1_500_000_000
subprocess.run([sys.executable, "-c", {child % ASKED!r}], check=True)"""
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) < 1_200_000_000


@pytest.mark.parametrize(
    "error, expected",
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("shape '[3]' is invalid for input of size 4"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert runtime.is_out_of_memory(error) is expected


def test_a_real_allocation_that_cannot_be_met_is_out_of_memory():
    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert runtime.is_out_of_memory(found.value)


def send(number: int) -> None:
    """A real signal to this process, handled before the next line."""
    os.kill(os.getpid(), number)
    time.sleep(0)


@pytest.mark.parametrize("number, name", [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")])
def test_a_signal_is_raised_at_once(number, name):
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted, match=name):
            send(number)
            pytest.fail("the signal passed by")
        assert interrupts.received == name
    assert Interrupted("x").exit_code == runtime.EXIT_INTERRUPTED == 75
    assert not issubclass(Interrupted, Exception)  # no library's `except Exception` swallows it


def test_a_deadline_interrupts_like_a_signal_and_waits_where_one_would():
    with Interrupts() as interrupts, pytest.raises(Interrupted, match="the hours are over"):
        interrupts.end_in(0.2)
        with interrupts.held():
            begun = time.monotonic()
            while time.monotonic() - begun < 0.5:
                pass  # not in here
        raise AssertionError("it was not interrupted")


def test_a_held_signal_waits_for_the_end_of_the_block():
    done = []
    with Interrupts() as interrupts, pytest.raises(Interrupted):
        with interrupts.held():
            send(signal.SIGTERM)
            done.append("step")
            with interrupts.held():  # a save inside a step
                done.append("save")
            done.append("counters")
        done.append("too far")
    assert done == ["step", "save", "counters"]


def test_a_signal_waits_while_an_error_leaves_the_block():
    """The error is what went wrong; the signal comes at the next chance."""
    with Interrupts() as interrupts:
        with pytest.raises(OSError, match="disk"), interrupts.held():
            send(signal.SIGTERM)
            raise OSError("disk")
        with pytest.raises(Interrupted):
            interrupts.check()


def test_later_signals_change_nothing():
    """The save that the first one asked for is under way."""
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted, match="SIGTERM"):
            send(signal.SIGTERM)
        interrupts.leave()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            send(number)
        with interrupts.held():
            send(signal.SIGTERM)
        interrupts.check()
        assert interrupts.received == "SIGTERM"


def test_two_signals_in_one_held_block_are_raised_once():
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted, match="SIGINT"), interrupts.held():
            send(signal.SIGINT)
            send(signal.SIGTERM)
        interrupts.leave()
        with interrupts.held():
            pass


class Finalised:
    """Sends the signal where Python swallows whatever is raised."""

    def __del__(self):
        send(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_swallowed_signal_comes_again():
    with Interrupts() as interrupts:
        Finalised()
        assert interrupts.received == "SIGTERM"  # and nothing was raised
        with pytest.raises(Interrupted), interrupts.held():
            pass
        with pytest.raises(Interrupted):  # where no block ends: the timer
            time.sleep(4 * Interrupts.AGAIN_SECONDS)
        interrupts.leave()
        time.sleep(2 * Interrupts.AGAIN_SECONDS)


def test_handlers_are_put_back():
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with Interrupts():
        assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] != before
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def test_the_lock_names_who_holds_the_folder(tmp_path):
    folder = tmp_path / "run"
    with FolderLock(folder):
        with pytest.raises(FolderInUse, match=f'"pid": {os.getpid()}.*give another --out'):
            FolderLock(folder).__enter__()
        assert json.loads((folder / "lock").read_text())["pid"] == os.getpid()
    with FolderLock(folder):  # free again
        pass


def test_a_dead_process_leaves_no_lock(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from x1lib.runtime import FolderLock;"
        " FolderLock(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], timeout=60)
    assert done.returncode == -signal.SIGKILL and (folder / "lock").exists()
    with FolderLock(folder):
        assert json.loads((folder / "lock").read_text())["pid"] == os.getpid()


def test_a_folder_without_its_parent_is_refused(tmp_path):
    with pytest.raises(RuntimeRefused, match="its parent folder is missing; make"):
        FolderLock(tmp_path / "a" / "b").__enter__()


def test_the_process_began_before_now_and_not_long_ago():
    began, now = runtime.process_started_at(), time.monotonic()
    assert began < now and abs(runtime.process_started_at() - began) < 0.1
    code = (
        "import time; time.sleep(0.5); from x1lib.runtime import process_started_at;"
        " print(time.monotonic() - process_started_at())"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    took = time.monotonic() - begun
    assert 0.5 < float(done.stdout) < took + 0.1  # imports and the sleep count, and no more


def trained(model: GPT, forward, start: dict, seed: int = 0) -> list[torch.Tensor]:
    """Losses, weights and moments after two training steps from the weights in `start`."""
    model.load_state_dict(start)
    optimizer = make_optimizer(model, model.config, fused=True)
    rows = torch.randint(0, 300, (4, 81), generator=torch.Generator().manual_seed(seed))
    params, results = list(model.parameters()), []
    for _ in range(2):
        results += gradients(forward, params, rows, 2, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    moments = [optimizer.state[p]["exp_avg_sq"] for p in params]
    return [torch.tensor(results), *(p.detach().clone() for p in params), *moments]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    runtime.make_deterministic(True)
    assert torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_repeats_itself_to_the_bit(deterministic, threads, compiled):
    """On two threads, where a compiled step that is not asked to be deterministic differs."""
    if compiled and not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    torch.set_num_threads(2)
    config = Config(shape="1x64:2/1:96", steps=2, seq_len=80)
    model = GPT(config, 300, "sdpa", torch.bfloat16)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    forward = torch.compile(model, dynamic=False) if compiled else model
    first = trained(model, forward, start)
    assert equal(first, trained(model, forward, start))
    assert not equal(first, trained(model, forward, start, seed=1))
    if compiled:  # other rounding in bf16, the same mathematics: the loss of the first step
        eager = trained(model, model, start)
        assert abs(first[0][0] - eager[0][0]) < 1e-2
