"""Published runs with what their authors say they took, to hold the arithmetic against."""

from __future__ import annotations

from dataclasses import dataclass

from x1lib.economics.cards import GPUS, Gpu

# Cards of published runs that nobody rents for this course.
V100 = Gpu(
    name="V100-SXM2",
    bf16_flops_per_sec=125e12,  # of fp16: Volta has no bf16, and these runs used fp16
    source="NVIDIA V100 data sheet, 2020: fp16",
    watts=300,
)
H800 = Gpu(
    name="H800",
    bf16_flops_per_sec=1979e12 / 2,
    source="NVIDIA H100 data sheet, 2023: the H800 differs from it in its links",
    fp8_flops_per_sec=3958e12 / 2,
    memory_bytes=80e9,
)


@dataclass(frozen=True)
class PublishedRun:
    """One run as published; None is what its authors do not say.

    n_params: those that a token passes through (active ones of a mixture of experts). kwh and
    kg_co2e count what the source counts: pue says over what.
    """

    name: str
    n_params: float
    n_tokens: float
    gpu: Gpu
    gpu_hours: float | None
    source: str
    flops: float | None = None
    pue: float | None = None
    kwh: float | None = None
    kg_co2e_per_kwh: float | None = None
    kg_co2e: float | None = None
    usd_per_gpu_hour: float | None = None
    usd: float | None = None

    def implied_mfu(self) -> float | None:
        """6ND over what the cards could have done at peak in the hours stated."""
        if self.gpu_hours is None:
            return None
        peak = self.gpu.training_flops_per_sec()
        return 6 * self.n_params * self.n_tokens / (self.gpu_hours * 3600 * peak)


def _llama(name: str, n_params: float, n_tokens: float, gpu_hours: float, mwh: int, tonnes: int):
    return PublishedRun(
        name=name,
        n_params=n_params,
        n_tokens=n_tokens,
        gpu=GPUS["A100-80GB-SXM"],
        gpu_hours=gpu_hours,
        source="Touvron et al. 2023, LLaMA, arXiv 2302.13971, tables 2 and 15",
        pue=1.1,
        kwh=mwh * 1e3,  # the table rounds to whole MWh and tonnes
        kg_co2e_per_kwh=0.385,
        kg_co2e=tonnes * 1e3,
    )


def _llama2(name: str, n_params: float, gpu_hours: float, tonnes: float) -> PublishedRun:
    return PublishedRun(
        name=name,
        n_params=n_params,
        n_tokens=2e12,
        gpu=GPUS["A100-80GB-SXM"],
        gpu_hours=gpu_hours,
        source="Touvron et al. 2023, Llama 2, arXiv 2307.09288, tables 1 and 2",
        pue=1.1,  # not restated there; with LLaMA's PUE and intensity its tonnes follow exactly
        kg_co2e_per_kwh=0.385,
        kg_co2e=tonnes * 1e3,
    )


def _llama3(name: str, n_params: float, gpu_hours: float, card: str, tonnes: float | None = None):
    return PublishedRun(
        name=name,
        n_params=n_params,
        n_tokens=15e12,  # "over 15 trillion", "about 15 trillion"
        gpu=GPUS["H100-80GB-SXM"],
        gpu_hours=gpu_hours,  # "total GPU time required for training each model"
        source=f"Meta 2024, model card, github.com/meta-llama/{card}, read 2026-11-22",
        pue=tonnes and 1.1,  # not stated; with LLaMA's PUE and intensity its tonnes follow
        kg_co2e_per_kwh=tonnes and 0.385,
        kg_co2e=tonnes and tonnes * 1e3,
    )


PUBLISHED_RUNS = (
    _llama("LLaMA-7B", 6.7e9, 1.0e12, 82_432, 36, 14),
    _llama("LLaMA-13B", 13.0e9, 1.0e12, 135_168, 59, 23),
    _llama("LLaMA-33B", 32.5e9, 1.4e12, 530_432, 233, 90),
    _llama("LLaMA-65B", 65.2e9, 1.4e12, 1_022_362, 449, 173),
    _llama2("Llama-2-7B", 7e9, 184_320, 31.22),
    _llama2("Llama-2-13B", 13e9, 368_640, 62.44),
    _llama2("Llama-2-70B", 70e9, 1_720_320, 291.42),
    _llama3("Llama-3-8B", 8e9, 1.3e6, "llama3", 390),
    _llama3("Llama-3-70B", 70e9, 6.4e6, "llama3", 1900),
    # 8,930 t by the location's own intensity, which the card does not state.
    _llama3("Llama-3.1-405B", 405e9, 30.84e6, "llama-models"),
    PublishedRun(
        name="BLOOM-176B",
        n_params=176e9,
        n_tokens=366e9,
        gpu=GPUS["A100-80GB-SXM"],
        gpu_hours=1_082_990,
        source="Luccioni et al. 2023, JMLR 24 (253), arXiv 2211.02001, section 4, dynamic power;"
        " tokens: Scao et al. 2022, arXiv 2211.05100",
        pue=1.0,  # dynamic power of the cards alone
        kwh=433_196,
        kg_co2e_per_kwh=0.057,
        kg_co2e=24.69e3,
    ),
    PublishedRun(
        name="MPT-7B",
        n_params=6.7e9,
        n_tokens=1e12,
        gpu=GPUS["A100-40GB-SXM"],
        gpu_hours=440 * 9.5 * 24,
        source="MosaicML, 5 May 2023, databricks.com/blog/mpt-7b, and the model's card",
        usd=200e3,
    ),
    PublishedRun(
        name="GPT-NeoX-20B",
        n_params=20_556_201_984,
        n_tokens=150_000 * 1538 * 2048,
        gpu=GPUS["A100-40GB-SXM"],
        gpu_hours=96 * 1830,
        source="Black et al. 2022, arXiv 2204.06745, as quoted at nl2code.github.io/posts/GPT-NeoX"
        " and in the model's card, read 2026-11-22",
    ),
    PublishedRun(
        name="Falcon-180B",
        n_params=180e9,
        n_tokens=3.5e12,
        gpu=GPUS["A100-40GB-SXM"],  # A100: arXiv 2311.16867; of 40 GB, as its sister's card says
        gpu_hours=7e6,  # "about 7,000,000"
        source="Hugging Face, 6 September 2023, huggingface.co/blog/falcon-180b, read 2026-11-22",
    ),
    PublishedRun(
        name="GPT-3-175B",
        n_params=175e9,
        n_tokens=300e9,
        gpu=V100,
        gpu_hours=None,
        source="Brown et al. 2020, arXiv 2005.14165, table D.1",
        flops=3.14e23,
    ),
    PublishedRun(
        name="DeepSeek-V3",
        n_params=37e9,  # active; 671e9 in all
        n_tokens=14.8e12,
        gpu=H800,
        gpu_hours=2.788e6,  # of which 2.664e6 went into these tokens, the rest into later stages
        source="DeepSeek-AI 2024, arXiv 2412.19437, table 1",
        usd_per_gpu_hour=2.0,
        usd=5.576e6,
    ),
    PublishedRun(
        name="GPT-2-124M",
        n_params=124e6,
        n_tokens=10e9,
        gpu=GPUS["A100-80GB-SXM"],
        gpu_hours=8 * 1.5,
        source="Karpathy, 28 May 2024, github.com/karpathy/llm.c, discussion 481",
        usd=20.0,
    ),
)
