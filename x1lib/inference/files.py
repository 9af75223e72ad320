"""Checkpoints read back, and quantised models on disk: safetensors and JSON only."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from x1lib import X1Error
from x1lib.checkpoint.export import _expected
from x1lib.checkpoint.files import file_sha256, write_bytes, write_tensors
from x1lib.data import Tokenizer, TokenizerError, load_tokenizer
from x1lib.inference.codes import Codes
from x1lib.inference.decoder import Decoder
from x1lib.inference.errors import InferenceError
from x1lib.inference.kernels import PackedLinear
from x1lib.inference.quantizing import QuantLinear, _replace
from x1lib.shapes import Shape
from x1lib.train import GPT, Config

WEIGHTS, CONFIG = "model.safetensors", "config.json"
QUANTIZED, FORMAT = "quantized.json", 2
FLOATS = {str(t).removeprefix("torch."): t for t in (torch.float32, torch.bfloat16, torch.float16)}
VOCABULARIES = {4096: "bpe4096", 50257: "gpt2", 257: "bytes"}


def load_checkpoint(folder: Path, dtype: torch.dtype = torch.float32) -> GPT:
    """The GPT of an exported folder (a run's `checkpoint/`), as x1lib.checkpoint.export wrote it.

    Weights of any float dtype become float32, as training keeps them; `dtype` is that of the
    activations. Raises InferenceError naming the file that is missing, or not one of ours.
    """
    folder = Path(folder)
    hf, tensors = _read(folder / CONFIG), _read(folder / WEIGHTS)
    try:
        shape = Shape(
            f"{hf['num_hidden_layers']}x{hf['hidden_size']}"
            f":{hf['num_attention_heads']}/{hf['num_key_value_heads']}:{hf['intermediate_size']}",
            hf["num_hidden_layers"],
            hf["hidden_size"],
            hf["num_attention_heads"],
            hf["num_key_value_heads"],
            hf["intermediate_size"],
            vocab_size=hf["vocab_size"],
            head_dim=hf["head_dim"],
            qk_norm=hf["model_type"] == "qwen3",
        )
        config = Config(
            steps=1,
            shape=shape.name,
            qk_norm=shape.qk_norm,
            seq_len=hf["max_position_embeddings"],
            rope_theta=hf["rope_theta"],
            norm_eps=hf["rms_norm_eps"],
        )
    except KeyError as error:
        raise InferenceError(f"{folder / CONFIG} has no {error}; export the run again") from error
    model = GPT(config, shape.vocab_size, dtype=dtype)
    state = model.state_dict()
    wanted = {ours: theirs for ours, (theirs, _) in _expected(shape, shape.qk_norm).items()}
    if model.shape.head_dim != shape.head_dim or wanted.keys() != state.keys():
        raise InferenceError(f"{folder} holds another layout than this course trains: export again")
    for ours, theirs in wanted.items():
        if theirs not in tensors or tensors[theirs].shape[1:] != state[ours].shape[1:]:
            raise InferenceError(
                f"{folder / WEIGHTS} has no fitting {theirs}; export the run again"
            )
        state[ours][: len(tensors[theirs])] = tensors[theirs].float()
        state[ours][len(tensors[theirs]) :] = 0  # rows that only pad the vocabulary
    model.load_state_dict(state)
    return model.eval()


def tokenizer_of(folder: Path, vocab_size: int) -> Tokenizer:
    """The tokeniser of a run's folder, by its manifest, else by the size of the vocabulary."""
    manifest = Path(folder) / "manifest.json"
    if manifest.exists():
        name = (json.loads(manifest.read_text()).get("data") or {}).get("tokenizer")
    else:
        name = VOCABULARIES.get(vocab_size)
    if name is None:
        raise TokenizerError(f"{folder}: no tokeniser is known for {vocab_size:,} tokens")
    return load_tokenizer(name)


def save_quantized(folder: Path, model: Decoder) -> int:
    """Write a quantised Decoder, before `use_kernels`: codes and scales, the rest in its own dtype.

    Returns the bytes of both files. A folder that is there is written over. Raises InferenceError
    for a model that is not quantised, or whose matrices lie in a kernel's layout.
    """
    if not isinstance(model, Decoder) or not hasattr(model, "quantization"):
        raise InferenceError("only a quantised Decoder is saved so; call `quantize` on one first")
    if any(isinstance(module, PackedLinear) for module in model.modules()):
        raise InferenceError(
            "its full matrices lie in a kernel's layout; save before `use_kernels`"
        )
    tensors, matrices = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            codes = module.quantized
            matrices[name] = codes.kind
            parts = {"codes": codes.codes, "scales": codes.scales, "zeros": codes.zeros}
            tensors |= {f"{name}.{part}": t for part, t in parts.items() if t is not None}
    for name, parameter in model.named_parameters():
        tensors[name] = parameter.detach()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, QUANTIZED):
        (folder / name).unlink(missing_ok=True)
    weights = write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    record = {
        "format": FORMAT,
        "sha256": weights["sha256"],
        "quantization": model.quantization,
        "matrices": matrices,
        "dtype": str(model.dtype).removeprefix("torch."),
        "shape": asdict(model.shape),
        "window": model.max_tokens,
        "rope_theta": model.config.rope_theta,
        "norm_eps": model.config.norm_eps,
        "branch_multiplier": model.config.branch_multiplier,
        "logit_multiplier": model.logit_multiplier,
    }
    said = write_bytes(folder / QUANTIZED, (json.dumps(record, indent=1) + "\n").encode())
    return weights["bytes"] + said["bytes"]


def load_quantized(folder: Path) -> Decoder:
    """A Decoder as `save_quantized` wrote it: the same bits. Raises InferenceError if it is not."""
    folder = Path(folder)
    record, tensors = _read(folder / QUANTIZED), _read(folder / WEIGHTS)
    written = record.get("format") if isinstance(record, dict) else None
    if written != FORMAT:
        raise InferenceError(
            f"{folder / QUANTIZED} has format {written!r}, not {FORMAT}; quantise the model again"
        )
    if file_sha256(folder / WEIGHTS) != record.get("sha256"):
        raise InferenceError(
            f"{folder} is damaged ({WEIGHTS} is not the file that {QUANTIZED} was written for);"
            " quantise the model again"
        )
    try:
        shape = Shape(**record["shape"])
        spec = f"{shape.n_layers}x{shape.d_model}:{shape.n_heads}/{shape.n_kv_heads}:{shape.d_ff}"
        config = Config(
            steps=1,
            shape=spec,
            qk_norm=shape.qk_norm,
            seq_len=record["window"],
            rope_theta=record["rope_theta"],
            norm_eps=record["norm_eps"],
            branch_multiplier=record["branch_multiplier"],
            logit_multiplier=record["logit_multiplier"],
        )
        model = Decoder(GPT(config, shape.vocab_size), FLOATS[record["dtype"]])
        for name, kind in record["matrices"].items():
            codes, scales = tensors.pop(f"{name}.codes"), tensors.pop(f"{name}.scales")
            found = Codes(kind, codes, scales, tensors.pop(f"{name}.zeros", None))
            fault = found.fault()
            if not fault and found.shape != tuple(model.get_submodule(name).weight.shape):
                fault = f"{found.shape[0]} x {found.shape[1]} is another shape than the model's"
            if fault:
                raise InferenceError(f"{folder} is damaged ({name}: {fault}); quantise it again")
            _replace(model, name, QuantLinear(found))
        for name, parameter in model.named_parameters():
            kept = tensors.pop(name)
            if kept.shape != parameter.shape:
                raise InferenceError(f"{folder} is damaged ({name} has another shape)")
            parameter.copy_(kept)
        if tensors:
            raise InferenceError(f"{folder} is damaged ({next(iter(tensors))} belongs to nothing)")
        model.quantization = record["quantization"]
    except InferenceError:
        raise
    except (KeyError, TypeError, RuntimeError, AttributeError, ValueError, X1Error) as error:
        raise InferenceError(f"{folder} is damaged ({error}); quantise the model again") from error
    return model


def _read(path: Path):
    try:
        if path.suffix == ".json":
            return json.loads(path.read_text())
        return safetensors.torch.load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise InferenceError(
            f"{path} cannot be read ({error}); give a folder with a whole model"
        ) from error
