"""Device, dtype, kernels and determinism: chosen once, with the reason for everything slower."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from x1lib import X1Error
from x1lib.economics import gpu_by_driver_name
from x1lib.runtime.attention import ATTENTION

# Eager starts at once; compiling takes 10 to 20 s on a CPU, which this many FLOPs earn back.
CPU_COMPILE_FROM_FLOPS = 2e13
CPU_COMPILE_FROM_HOURS = 0.05


class RuntimeRefused(X1Error, RuntimeError):
    """A device, dtype or kernel that was asked for by name and is not there."""


@dataclass(frozen=True)
class Machine:
    """What the run really uses; decided once, kept in the state, used again by resume."""

    device: str
    device_name: str
    dtype: str  # of activations and products; weights, optimiser, softmax and loss are float32
    attention: str
    compile: bool
    fused_adamw: bool
    deterministic: bool
    threads: int
    torch: str
    notes: tuple[str, ...] = ()  # why something is not what the fastest machine would have

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def line(self) -> str:
        """One line for the log: what is active, and why not more."""
        on = {True: "on", False: "off"}
        text = (
            f"{self.device_name} ({self.device}, {self.threads} threads) | torch {self.torch} |"
            f" products in {self.dtype} | attention: {self.attention} | compile {on[self.compile]}"
            f" | fused AdamW {on[self.fused_adamw]} | deterministic {on[self.deterministic]}"
        )
        return text + "".join(f"\n  note: {note}" for note in self.notes)


def choose_machine(
    device: str, dtype: str, attention: str, compile: str, deterministic: bool, threads: int,
    hours: float, total_flops: float,
) -> Machine:  # fmt: skip
    """Choose the device, dtype and kernels from what is asked ("auto" or a name) and what is here.

    hours, total_flops: the size of the run, 0 where unknown; compiling has to earn itself back.
    Raises RuntimeRefused when something asked for by name is missing.
    """
    if threads:
        torch.set_num_threads(threads)
    notes: list[str] = []
    device = _choose_device(device)
    dtype = _choose_dtype(dtype, device, notes)
    machine = Machine(
        device=device,
        device_name=device_name(device),
        dtype=dtype,
        attention=_choose_attention(attention, device, dtype, notes),
        compile=_choose_compile(compile, device, hours, total_flops, notes),
        fused_adamw=device in ("cuda", "cpu", "mps"),
        deterministic=deterministic,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    return replace(machine, notes=tuple(notes))


def choose_machine_again(stored: dict, **asked) -> tuple[Machine, list[str]]:
    """Choose as the run's first segment did, and list what differs from it.

    stored: that segment's Machine as a dict. What was decided then stands in for every "auto" (or
    0 threads) where this machine can do it; each difference that is left means that the resumed
    run equals the uninterrupted one within rounding, not to the bit.
    """
    again = dict(asked)
    for field in ("device", "dtype", "attention", "threads"):
        if asked[field] in ("auto", 0):
            again[field] = stored[field]
    if asked["compile"] == "auto":
        again["compile"] = "on" if stored["compile"] else "off"
    for field in ("compile", "attention", "dtype", "device", None):
        try:
            machine = choose_machine(**again)
            break
        except RuntimeRefused:
            if field is None:
                raise
            again[field] = asked[field]  # what is missing here, and only that, is decided anew
    differences = [
        f"{field}: {stored.get(field)!r} at the start, {value!r} now"
        for field, value in asdict(machine).items()
        if field != "notes" and stored.get(field) != value
    ]
    return machine, differences


def _choose_device(name: str) -> str:
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, available in here.items() if available)
    if not here.get(name, False):
        there = ", ".join(device for device, available in here.items() if available)
        raise RuntimeRefused(f"device {name!r} is not available here; this machine has {there}")
    return name


def device_name(device: str) -> str:
    """The name that the driver (or, for a CPU, the kernel) gives the device."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_has_bf16_products() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AVX512-BF16 or AMX); without it bf16 is slow."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _choose_dtype(name: str, device: str, notes: list[str]) -> str:
    if name != "auto":
        if name not in ("float32", "bfloat16"):
            raise RuntimeRefused(f"dtype {name!r} is not offered; give auto, float32 or bfloat16")
        return name
    if device == "cuda":
        if torch.cuda.get_device_capability() >= (8, 0):
            return "bfloat16"
        notes.append("float32: this card has no bf16 tensor cores (compute capability below 8.0)")
        return "float32"
    if device == "cpu" and _cpu_has_bf16_products():
        return "bfloat16"
    notes.append(f"float32: no bf16 matrix instructions found on this {device}")
    return "float32"


def _choose_compile(
    wanted: str, device: str, hours: float, total_flops: float, notes: list[str]
) -> bool:
    if wanted not in ("auto", "on", "off"):
        raise RuntimeRefused(f"compile is {wanted!r}; give auto, on or off")
    if wanted == "off":
        return False
    if device == "mps":
        if wanted == "on":
            raise RuntimeRefused("compile is on, but is not tried on mps; give auto or off")
        notes.append("eager: torch.compile is not tried on mps")
        return False
    # what torch's inductor itself would call
    default = "clang++" if platform.system() == "Darwin" else "g++"
    compiler = shutil.which(os.environ.get("CXX") or default)
    if device == "cpu" and compiler is None:
        if wanted == "on":
            raise RuntimeRefused("compile is on, but there is no C++ compiler; install g++")
        notes.append("eager: torch.compile needs a C++ compiler and this machine has none")
        return False
    if device == "cuda" and not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc"))):
        if wanted == "on":
            raise RuntimeRefused("compile is on, but Triton finds no C compiler; install gcc")
        notes.append("eager: torch.compile needs a C compiler for Triton and there is none")
        return False
    if wanted == "on" or device == "cuda":
        return True
    if hours >= CPU_COMPILE_FROM_HOURS or total_flops >= CPU_COMPILE_FROM_FLOPS:
        return True
    notes.append("eager: too short a run for torch.compile to earn its 10 to 20 s back")
    return False


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed, as torch's CUDA allocator does; returns whether it will.

    glibc gives large blocks back to the kernel at once and faults them in again at the next step,
    which cost a CPU step of `tiny` nearly half its time.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False  # no glibc: macOS, musl
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    return bool(mallopt(m_mmap_threshold, 1 << 30) and mallopt(m_trim_threshold, (1 << 31) - 1))


def make_deterministic(on: bool) -> None:
    """Make every kernel repeat itself to the bit, or refuse to run; call before the first one."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(on, warn_only=False)
    torch.utils.deterministic.fill_uninitialized_memory = False  # guards nothing that we read
    if torch.cuda.is_available():
        torch.backends.cuda.enable_cudnn_sdp(not on)  # its backward does not repeat itself
    inductor = getattr(torch, "_inductor", None)
    config = getattr(inductor, "config", None) if inductor else None
    if config is not None and hasattr(config, "deterministic"):  # torch >= 2.10
        config.deterministic = on


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device or the host ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "out of memory")
    )


def _choose_attention(name: str, device: str, dtype: str, notes: list[str]) -> str:
    if name == "auto":
        return "blocked" if (device, dtype) == ("cpu", "bfloat16") else "sdpa"
    if name not in ATTENTION:
        raise RuntimeRefused(f"attention {name!r} is unknown; give auto, {', '.join(ATTENTION)}")
    if name == "flash2":
        try:
            import flash_attn
        except ImportError as error:
            raise RuntimeRefused(
                f"attention flash2 needs the package flash-attn ({error}); give sdpa"
            ) from error
        if device != "cuda" or dtype != "bfloat16":
            raise RuntimeRefused("attention flash2 runs on CUDA in bfloat16 only; give sdpa")
        notes.append(f"flash-attn {flash_attn.__version__}")
    return name


def peak_flops(machine: Machine, trials: int = 20) -> tuple[float, str]:
    """Return the peak FLOP/s that MFU divides by, and where it comes from.

    A card in the table: its dense bf16 data-sheet peak. Anything else: the fastest of `trials`
    square matrix products in the run's dtype on this machine, and it says so.
    """
    card = gpu_by_driver_name(machine.device_name) if machine.device == "cuda" else None
    if card and card.bf16_flops_per_sec and machine.dtype == "bfloat16":
        return card.bf16_flops_per_sec, f"{card.name}: {card.source}"
    n = 8192 if machine.device == "cuda" else 1024
    a = torch.randn(n, n, dtype=machine.torch_dtype, device=machine.device)
    seconds = []
    for _ in range(trials):
        start = time.perf_counter()
        a @ a
        if machine.device != "cpu":
            getattr(torch, machine.device).synchronize()
        seconds.append(time.perf_counter() - start)
    # The fastest, since a busy moment makes a product slower and nothing makes it faster.
    peak = 2 * n**3 / min(seconds)
    return peak, f"measured here: {n} x {n} products in {machine.dtype}, {machine.threads} threads"


def micro_batch_limit(machine: Machine, shape, seq_len: int) -> int:
    """How many sequences one pass may hold: a guess by memory, halved later if it was too high."""
    if machine.device == "cpu":
        return max(1, 8192 // seq_len)  # larger ones leave the caches
    free = torch.cuda.mem_get_info()[0] if machine.device == "cuda" else 8e9
    # Bytes a token: about 34 activations of the width a layer in 2 bytes, and the logits in bf16,
    # in float32 and as their gradient. State: weights, gradient and two moments in float32.
    a_token = 34 * 2 * shape.n_layers * shape.d_model + 10 * shape.padded_vocab_size
    state = 16 * (shape.padded_vocab_size + 12 * shape.n_layers * shape.d_model) * shape.d_model
    return max(1, int((0.6 * free - state) / (a_token * seq_len)))


def peak_memory_bytes(machine: Machine) -> int:
    """The most memory held so far: allocated on a CUDA card, resident in this process elsewhere."""
    if machine.device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss begins at the peak of the program that started this one
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found:
            return 1024 * int(found[1])
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib if platform.system() == "Darwin" else kib * 1024  # macOS counts in bytes
