"""The machine under the trainer: device, dtype, kernels, determinism, signals, the folder lock.

Nothing falls back in silence: what is chosen is returned with its reason, and the trainer prints
and records it.
"""

from x1lib.runtime.attention import ATTENTION
from x1lib.runtime.machine import (
    Machine,
    RuntimeRefused,
    choose_machine,
    choose_machine_again,
    is_out_of_memory,
    keep_freed_memory,
    make_deterministic,
    micro_batch_limit,
    peak_flops,
    peak_memory_bytes,
)
from x1lib.runtime.process import (
    EXIT_BUDGET,
    EXIT_FINISHED,
    EXIT_INTERRUPTED,
    EXIT_NO_MEMORY,
    EXIT_NO_SPACE,
    EXIT_NOT_FINITE,
    EXIT_REFUSED,
    HOURS_OVER,
    FolderInUse,
    FolderLock,
    Interrupted,
    Interrupts,
    NoMemoryError,
    NotFiniteError,
    process_started_at,
)

__all__ = [
    "ATTENTION",
    "EXIT_BUDGET",
    "EXIT_FINISHED",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_FINITE",
    "EXIT_NO_MEMORY",
    "EXIT_NO_SPACE",
    "EXIT_REFUSED",
    "HOURS_OVER",
    "FolderInUse",
    "FolderLock",
    "Interrupted",
    "Interrupts",
    "Machine",
    "NoMemoryError",
    "NotFiniteError",
    "RuntimeRefused",
    "choose_machine",
    "choose_machine_again",
    "is_out_of_memory",
    "keep_freed_memory",
    "make_deterministic",
    "micro_batch_limit",
    "peak_flops",
    "peak_memory_bytes",
    "process_started_at",
]
