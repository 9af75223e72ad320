"""Open-weights models near the course's sizes, built from their published configurations.

The weights are random: what a token costs depends on the shape and not on what was learned. Their
quality needs the weights; `python experiments/benchmarks/baseline_quality.py` measures it where
they are at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from x1lib.inference.errors import InferenceError


@dataclass(frozen=True)
class Baseline:
    """A published model: its configuration as transformers names the fields, and its size.

    n_params: each stored parameter once, by its authors or by counting, which a test does again.
    """

    name: str
    family: str  # model_type in transformers
    config: dict
    n_params: int
    source: str
    hub: str  # where its weights are, for whoever is connected


def _pythia(name: str, layers: int, width: int, heads: int, n_params: int) -> Baseline:
    config = {
        "vocab_size": 50304,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 2048,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    }
    source = "Biderman et al. 2023, arXiv:2304.01373, table 1; EleutherAI/pythia on GitHub"
    return Baseline(name, "gpt_neox", config, n_params, source, f"EleutherAI/{name}")


BASELINES = {
    one.name: one
    for one in (
        Baseline(
            "gpt2-124m",
            "gpt2",
            {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12},
            124_439_808,
            "Radford et al. 2019; hparams.json of the 124M model, openai/gpt-2",
            "openai-community/gpt2",
        ),
        _pythia("pythia-70m", 6, 512, 8, 70_426_624),
        _pythia("pythia-160m", 12, 768, 12, 162_322_944),
        Baseline(
            "smollm2-135m",
            "llama",
            {
                "vocab_size": 49152,
                "hidden_size": 576,
                "num_hidden_layers": 30,
                "num_attention_heads": 9,
                "num_key_value_heads": 3,
                "intermediate_size": 1536,
                "max_position_embeddings": 8192,
                "rms_norm_eps": 1e-5,
                "rope_theta": 100000.0,
                "tie_word_embeddings": True,
            },
            134_515_008,
            "config.json of HuggingFaceTB/SmolLM2-135M, as copied in public code, read 2026-11-22",
            "HuggingFaceTB/SmolLM2-135M",
        ),
        Baseline(
            "qwen3-0.6b",
            "qwen3",
            {
                "vocab_size": 151936,
                "hidden_size": 1024,
                "num_hidden_layers": 28,
                "num_attention_heads": 16,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "intermediate_size": 3072,
                "max_position_embeddings": 40960,
                "rms_norm_eps": 1e-6,
                "rope_theta": 1000000.0,
                "tie_word_embeddings": True,
            },
            596_049_920,
            "config.json of Qwen/Qwen3-0.6B, as copied in public code, read 2026-11-22",
            "Qwen/Qwen3-0.6B",
        ),
    )
}


def build(name: str, dtype: torch.dtype = torch.bfloat16, device: str = "cpu", seed: int = 0):
    """The model of transformers for a baseline, with random weights; device "meta": none at all.

    Raises InferenceError for an unknown name, or where transformers (extra `lab`) is missing.
    """
    if name not in BASELINES:
        raise InferenceError(f"no baseline {name!r}; there are {', '.join(BASELINES)}")
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        raise InferenceError(
            "baselines need transformers; pip install 'x1lib[lab]', or leave them out"
        ) from error
    one = BASELINES[name]
    fields = dict(one.config)
    theta = fields.pop("rope_theta", None)
    if theta:  # both spellings, for transformers before and after 5
        fields |= {"rope_theta": theta}
        fields |= {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    config = AutoConfig.for_model(one.family, **fields)
    with torch.device(device), torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)


def window(name: str) -> int:
    """Positions that a baseline was made for."""
    config = BASELINES[name].config
    return config.get("n_positions") or config["max_position_embeddings"]


def count(model) -> int:
    """Parameters of a model, each stored one once."""
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
