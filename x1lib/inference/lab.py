"""What lab03 does between its parameters and its page: a model found, measured, written down."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch

from x1lib import launch, runtime, tracking
from x1lib.inference import baselines as baseline_models
from x1lib.inference.benchmark import Measured, decode_benchmark
from x1lib.inference.decoder import Decoder
from x1lib.inference.errors import InferenceError
from x1lib.inference.files import load_checkpoint, load_quantized, save_quantized
from x1lib.inference.pricing import CPU_HOUR
from x1lib.inference.quality import Quality, quality
from x1lib.inference.quantizing import memory_bytes, quantize, use_kernels
from x1lib.inference.roofline import Peak, machine_peaks
from x1lib.inference.text import HeldOut, held_out
from x1lib.launch.parameters import _injected
from x1lib.launch.places import LAB, project_root
from x1lib.settings import ConfigError, check, from_dict, opt
from x1lib.train import GPT

REFERENCE = Path("experiments") / "reference" / "tiny"
RECORDED = Path("experiments") / "reference" / "inference-cost"
RESULTS, PAGE = "results.json", "inference-cost.md"
FULL = "full"
VARIANTS = {  # name -> what `quantize` is asked for
    "int8": {"kind": "int8"},
    "int4": {"kind": "int4"},
    "int4, head int8": {"kind": "int4", "head": "int8"},
}
SERVED = ("int8", "int4")  # that are timed, beside the full one
SERVED_TOKENS = 8192  # read by what is timed: packed kernels are slow where many are read at once


@dataclass(frozen=True)
class Settings:
    """What a person chooses; empty and 0 mean: as described."""

    checkpoint: str = opt("", "folder of a finished run; none: your newest, else the course's")
    baselines: str = opt("gpt2-124m", "measured beside it, with commas; none: no other")
    batches: str = opt("1,2,4,8,16", "texts at a time, with commas")
    prompt_tokens: int = opt(32, "of each text", low=1)
    new_tokens: int = opt(16, "of each text, timed", low=1)
    repeats: int = opt(3, "turns of each model at each batch, warm-up not counted", low=1)
    heldout_tokens: int = opt(0, "of the held-out documents; 0: all", low=0)
    usd_per_hour: float = opt(0.0, "price of this machine; 0: an example's", low=0)
    utilisation: float = opt(0.5, "share of billed time in which it decodes", low=0.01, below=1.01)
    seconds: float = opt(120.0, "no further batch is begun after so long", low=0)
    out: str = opt("", "folder; none: inference-cost beside the labs' runs")

    def __post_init__(self) -> None:
        check(self)
        for name in self.baseline_names:
            if name not in baseline_models.BASELINES:
                known = ", ".join(baseline_models.BASELINES)
                raise ConfigError(f"no baseline {name!r}; there are {known}")
        if self.utilisation > 1:
            raise ConfigError(f"utilisation is {self.utilisation}; expected a share of at most 1")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError(f"batches is {self.batches!r}; expected numbers such as 1,2,4")

    @property
    def baseline_names(self) -> list[str]:
        return [name.strip() for name in self.baselines.split(",") if name.strip()]

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        try:
            return tuple(int(one) for one in self.batches.split(",") if one.strip())
        except ValueError:
            raise ConfigError(
                f"batches is {self.batches!r}; expected numbers such as 1,2,4"
            ) from None


def configure(namespace: dict, names: str) -> Settings:
    """Settings of a notebook's parameters; a name that papermill injected and nobody knows is
    refused. Raises ConfigError."""
    known, injected = [f.name for f in fields(Settings)], _injected(namespace)
    for name in injected:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"unknown parameter {name!r}; {hint}")
    return from_dict(Settings, {name: namespace[name] for name in [*names.split(), *injected]})


@dataclass(frozen=True)
class Found:
    """The checkpoint that is measured, and whose it is."""

    folder: Path  # of the run: manifest.json, checkpoint/
    is_own: bool  # the reader's own run, whose manifest may be written to
    manifest: dict

    @property
    def tokens_per_param(self) -> float:
        """Of all parameters, as Hoffmann counts them."""
        return self.manifest["tokens"] / self.manifest["n_params"]["total"]


def find(checkpoint: str = "") -> Found:
    """The run of that folder; without one the newest finished run of the labs, else the reference.

    While the published notebooks are built (X1_BUILDING=1) nobody's own run is taken unasked.
    Raises InferenceError where the folder holds no finished run with an exported model.
    """
    root, reference = project_root(), project_root() / REFERENCE
    if checkpoint:
        folder = root / Path(checkpoint).expanduser()
        if not _finished(folder):
            raise InferenceError(
                f"{launch.shown(folder)} holds no finished run with its checkpoint; give the folder"
                " of one, or nothing"
            )
    else:
        runs = [run for run in (root / LAB).glob("run-*") if _finished(run)]
        runs = [] if os.environ.get("X1_BUILDING") == "1" else runs
        ended = {run: tracking.Manifest(run).values["finished"] for run in runs}
        folder = max(runs, key=ended.__getitem__) if runs else reference
        if not _finished(folder):
            raise InferenceError(f"{launch.shown(folder)} is missing; run lab00 first")
    own = folder.resolve() != reference.resolve()
    return Found(folder, own, tracking.Manifest(folder).values)


def _finished(folder: Path) -> bool:
    whole = all((folder / "checkpoint" / name).is_file() for name in
                ("model.safetensors", "config.json"))  # fmt: skip
    values = tracking.Manifest(folder, log=lambda line: None).values
    return whole and values.get("status") == "finished"


@dataclass
class Lab:
    """Everything that the notebook measures, in the order in which it asks."""

    settings: Settings
    found: Found
    folder: Path
    model: GPT
    device: str
    dtype: torch.dtype  # of what is served
    text: HeldOut
    quality: dict[str, Quality] = field(default_factory=dict)
    quality_served: dict[str, Quality] = field(default_factory=dict)
    disk_bytes: dict[str, int] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, dict[str, int]] = field(default_factory=dict)
    kernel_error: dict[str, float] = field(default_factory=dict)
    served: dict[str, object] = field(default_factory=dict)
    peaks: dict[str, Peak] = field(default_factory=dict)
    speed: list[Measured] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The model's own name, by its shape's in the manifest."""
        return self.found.manifest["config"]["shape"]

    @property
    def usd_per_hour(self) -> float:
        return self.settings.usd_per_hour or CPU_HOUR.usd_per_hour

    @property
    def price_source(self) -> str:
        own = "your price"
        return own if self.settings.usd_per_hour else f"{CPU_HOUR.what}: {CPU_HOUR.source}"

    def in_time(self, **guesses: float | None) -> dict:
        """The guesses, but none once there are results: a guess made after them is none."""
        return dict.fromkeys(guesses) if (self.folder / RESULTS).exists() else guesses

    def prompt(self, n: int) -> list[int]:
        """The first tokens of the held-out text."""
        return [int(one) for one in self.text.tokens[:n]]

    @torch.no_grad()
    def measure_quality(self) -> dict[str, Quality]:
        """Loss, bits per byte and divergence of each variant on the held-out text, by the readable
        reference: matrices rounded, activations in float32 (but for "bf16")."""
        full = Decoder(self.model, torch.float32).to(self.device)
        models = {FULL: full, "bf16": Decoder(self.model, torch.bfloat16).to(self.device)}
        models |= {name: quantize(full, **asked) for name, asked in VARIANTS.items()}
        self.quality = self._quality(models)
        return self.quality

    @torch.no_grad()
    def measure_served(self) -> dict[str, Quality]:
        """The same of what is timed, through the same kernels and in the same dtype, on the first
        SERVED_TOKENS; "full" is the full one in float32, "readable" the reference on the very same
        tokens. After `store`."""
        full = Decoder(self.model, torch.float32).to(self.device)
        models = {FULL: full}
        models |= {f"{name}, readable": quantize(full, **VARIANTS[name]) for name in SERVED}
        models |= {_dtype(self.dtype) if n == FULL else n: m for n, m in self.served.items()}
        self.quality_served = self._quality(models, SERVED_TOKENS)
        return self.quality_served

    def _quality(self, models: dict[str, object], most: int = 0) -> dict[str, Quality]:
        limit, window = self.settings.heldout_tokens, self.model.config.window
        limit = min(limit or most, most) if most else limit
        sizes = self.text.words.token_bytes
        return quality(models, self.text.tokens, sizes, window, max_tokens=limit)

    @torch.no_grad()
    def store(self, log=print) -> dict[str, int]:
        """Save each quantised variant, load it back, hold it to the same bits; bytes on disk.

        The full model is counted and not written. What is served goes through torch's kernels where
        they work; their logits are compared.
        """
        base = Decoder(self.model, self.dtype).to(self.device)
        probe = torch.tensor([self.prompt(64)], device=self.device)
        matrices = base.state_dict().values()
        self.disk_bytes = {FULL: sum(t.numel() * t.element_size() for t in matrices)}
        self.served = {FULL: base}
        for name, asked in VARIANTS.items():
            model = quantize(base, **asked)
            place = self.folder / "models" / name.replace(", ", "-").replace(" ", "-")
            self.disk_bytes[name] = save_quantized(place, model)
            again, before = load_quantized(place).to(self.device), model(probe)
            if not torch.equal(again(probe), before):
                raise InferenceError(f"{name} came back from the disk with other logits")
            said: list[str] = []
            self.kernels[name] = use_kernels(again, self.dtype, log=said.append)
            off = (again(probe) - before).abs().max() / before.abs().max()
            self.kernel_error[name] = off.item()
            self.memory_bytes[name] = memory_bytes(again)
            log(f"{name}: {said[0]}; largest difference of a logit {self.kernel_error[name]:.2%}")
            if name in SERVED:
                self.served[name] = again
        self.kernels[FULL] = use_kernels(base, self.dtype, log=said.append)
        self.memory_bytes[FULL] = memory_bytes(base)
        log(f"{FULL}: {said[-1]}")
        return self.disk_bytes

    def measure_speed(self, log=print) -> list[Measured]:
        """Time the variants and the baselines, full and quantised, taking turns."""
        models = {f"{self.name} {_dtype(self.dtype)}": self.served[FULL]}
        models |= {f"{self.name} {name}": self.served[name] for name in SERVED}
        for name in self.settings.baseline_names:
            full = baseline_models.build(name, self.dtype, self.device)
            models[f"{name} {_dtype(self.dtype)}"] = full
            for kind in SERVED:
                models[f"{name} {kind}"] = quantize(full, kind)
                self.kernels[f"{name} {kind}"] = use_kernels(
                    models[f"{name} {kind}"], self.dtype, log=lambda line: None
                )
            use_kernels(full, self.dtype, log=lambda line: None)
        self.peaks = machine_peaks(models)
        s = self.settings
        self.speed = decode_benchmark(
            models,
            s.batch_sizes,
            s.prompt_tokens,
            s.new_tokens,
            s.repeats,
            max_seconds=s.seconds,
            peaks=self.peaks,
            log=log,
        )
        return self.speed

    def variant(self, name: str) -> str:
        """The name in `speed` of one of the model's own variants."""
        return f"{self.name} {_dtype(self.dtype) if name == FULL else name}"


def prepare(settings: Settings) -> Lab:
    """Find the checkpoint and open its text; nothing is measured yet.

    Raises InferenceError for texts that are longer than a model's window.
    """
    found = find(settings.checkpoint)
    folder = project_root() / Path(settings.out or LAB / "inference-cost").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    machine = runtime.choose_machine("auto", "auto", "auto", "off", False, 0, 0.0, 0.0)
    text = held_out(found.folder, found.manifest, project_root())
    model = load_checkpoint(found.folder / "checkpoint")
    total = settings.prompt_tokens + settings.new_tokens
    windows = {found.manifest["config"]["shape"]: model.config.window}
    windows |= {name: baseline_models.window(name) for name in settings.baseline_names}
    for name, window in windows.items():
        if total > window:
            raise InferenceError(
                f"prompt_tokens and new_tokens are {total} together, and {name} has a window of"
                f" {window}; give smaller ones"
            )
    return Lab(settings, found, folder, model, machine.device, machine.torch_dtype, text)


def recorded(name: str) -> dict | None:
    """What the authors measured once and kept, or None where they did not: a file's stem."""
    path = project_root() / RECORDED / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _dtype(dtype: torch.dtype) -> str:
    return {"bfloat16": "bf16", "float32": "fp32"}[str(dtype).removeprefix("torch.")]


def as_dicts(found: dict[str, Quality]) -> dict[str, dict]:
    """Quality by variant, with the rise of the loss over the full one's."""
    return {name: asdict(q) | {"rise": q.rise(found[FULL])} for name, q in found.items()}
