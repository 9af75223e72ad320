"""Settings of a measurement, and the trainer's settings that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

from x1lib import settings
from x1lib.ladder.rungs import NAMES
from x1lib.runtime import ATTENTION
from x1lib.settings import ConfigError, opt
from x1lib.train import Config

# Tokens a step where none are given: on a CPU one pass that keeps the caches; on a card enough to
# fill it, and few enough that a step in float32 with every score in memory ends within seconds.
BATCH_TOKENS = {"cpu": 4096, "mps": 8192, "cuda": 65536}


@dataclass(frozen=True)
class Settings:
    """Every setting of a measurement; 0, "auto" and "" mean: derived, as the help says."""

    out: str = opt("", "folder for ladder.json and profile.json")
    shape: str = opt("tiny", "of the model, as the trainer takes it")
    source: str = opt("embedded", "of the text, as the trainer takes it")
    tokenizer: str = opt("auto", "of the text, as the trainer takes it")
    seq_len: int = opt(0, "tokens a sequence; 0: as the trainer derives it", low=0)
    batch_tokens: int = opt(0, "tokens a step; 0: 4,096 on a CPU, 65,536 on a CUDA card", low=0)
    minutes: float = opt(1.0, "ceiling on the wall-clock, compiling included", low=0)
    rungs: str = opt("", "names with commas between, of " + ", ".join(NAMES) + "; none: all")
    device: str = opt("auto", "where to run", among=("auto", "cuda", "mps", "cpu"))
    attention: str = opt("auto", "kernel of the attention rung", among=("auto", *ATTENTION))
    compile: str = opt("auto", "whether a rung compiles, and those after it", among=("auto", "off"))
    deterministic: bool = opt(True, "the same bits again, as in a run")
    threads: int = opt(0, "CPU threads; 0: torch's choice", low=0)
    peak_flops_per_sec: float = opt(0.0, "that MFU divides by; 0: the card's, or measured", low=0)

    def __post_init__(self) -> None:
        settings.check(self)
        if not self.out:
            raise ConfigError("out is empty; give the folder for ladder.json")
        if not self.minutes:
            raise ConfigError("minutes is 0; give the time that measuring may take")
        for name in self.wanted:
            if name not in NAMES:
                raise ConfigError(f"rungs names {name!r}; the rungs are {', '.join(NAMES)}")
        self.trainer_config(self.batch_tokens)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the rungs to measure."""
        return tuple(name.strip() for name in self.rungs.split(",") if name.strip()) or NAMES

    def trainer_config(self, batch_tokens: int) -> Config:
        """The trainer's settings for this model and text; raises ConfigError for a wrong one."""
        return Config(
            shape=self.shape, source=self.source, tokenizer=self.tokenizer,
            seq_len=self.seq_len, device=self.device,
            attention=self.attention, deterministic=self.deterministic, threads=self.threads,
            compile=self.compile, batch_tokens=batch_tokens, steps=1,
        )  # fmt: skip

    def batch_size(self, device: str, window: int) -> int:
        """Sequences a step on a device."""
        return max(1, (self.batch_tokens or BATCH_TOKENS[device]) // window)
