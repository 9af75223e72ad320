"""Export to a folder that Hugging Face's AutoModelForCausalLM loads with equal logits."""

import json
import os
import re
from pathlib import Path

import torch

from x1lib.checkpoint.files import (
    CheckpointError,
    aside,
    discard,
    fsync_path,
    leftovers,
    make_folder,
    write_bytes,
    write_error,
    write_tensors,
)


def export_hf(
    folder,
    shape,
    weights,
    tokenizer=None,
    *,
    qk_norm=None,
    rope_theta,
    norm_eps,
    branch_multiplier=1.0,
    logit_multiplier=1.0,
    max_seq_len,
    log=print,
):
    """Write the model as Qwen3 (with QK-norm) or Llama (without), in fp32, replacing `folder`.

    weights: the state dict of train.GPT; qk_norm None means the shape's. Rows that pad the
    vocabulary are cut off; `branch_multiplier` goes into the matrices that end each branch,
    `logit_multiplier` into the final norm. An export that is there stays until the new one is
    whole. Returns the folder. Raises CheckpointError, with the old export whole.
    """
    folder = Path(folder).absolute()
    qk_norm = shape.qk_norm if qk_norm is None else qk_norm
    if tokenizer is not None and tokenizer.vocab_size != shape.vocab_size:
        raise CheckpointError(
            f"tokenizer {tokenizer.name} has {tokenizer.vocab_size} ids and the model "
            f"{shape.vocab_size}; export with the tokenizer that the model was trained with."
        )
    tensors = hf_weights(shape, weights, qk_norm, branch_multiplier, logit_multiplier)
    eot_id = None if tokenizer is None else int(tokenizer.eot_id)
    config = hf_config(shape, qk_norm, rope_theta, norm_eps, max_seq_len, eot_id)
    make_folder(folder.parent)
    _recover(folder, log)
    if folder.exists() and not (folder / "config.json").exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} holds something that is no export; give another folder.")
    temporary, old = aside(folder, "tmp"), aside(folder, "old")
    try:
        temporary.mkdir()
        if tokenizer is not None:
            tokenizer.save_hf(temporary)
            for path in temporary.iterdir():
                fsync_path(path)
        # transformers refuses a file that does not say which framework's layout it holds.
        write_tensors(temporary / "model.safetensors", tensors, {"format": "pt"})
        write_bytes(temporary / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        fsync_path(temporary)
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(temporary, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise
        fsync_path(folder.parent)
    except BaseException as error:
        if temporary.exists():
            discard(temporary, log)
        if isinstance(error, OSError):
            needed_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
            raise write_error(error, "the export", folder.parent, needed_bytes) from error
        raise
    if old.exists():
        discard(old, log)
    return folder


def hf_weights(shape, weights, qk_norm, branch_multiplier, logit_multiplier):
    """Hugging Face name -> fp32 CPU tensor of the state dict of train.GPT, multipliers folded in.

    Raises CheckpointError for a missing, unknown or misshapen weight.
    """
    expected = _expected(shape, qk_norm)
    if missing := sorted(expected.keys() - weights.keys()):
        raise CheckpointError(f"the model lacks {', '.join(missing)}; export the whole state dict.")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise CheckpointError(
            f"the model holds {', '.join(unknown)}, which the "
            f"{'Qwen3' if qk_norm else 'Llama'} layout has no place for; check qk_norm and shape."
        )
    tensors = {}
    for name, (hf_name, dims) in expected.items():
        tensor = weights[name].detach().to("cpu", torch.float32)
        if name == "embedding.weight":
            tensor = tensor[: shape.vocab_size]
        if tuple(tensor.shape) != dims:
            raise CheckpointError(
                f"{name} is {tuple(tensor.shape)}, expected {dims} for shape {shape.name}; "
                "export with the shape that the model was built with."
            )
        if name.endswith(("attention.o.weight", "mlp.down.weight")):
            tensor = tensor * branch_multiplier
        if name == "norm.weight":
            tensor = tensor * logit_multiplier
        tensors[hf_name] = tensor
    return tensors


def _expected(shape, qk_norm):
    """Our weight name -> (Hugging Face name, dims)."""
    width, ff = shape.d_model, shape.d_ff
    q_width, kv_width = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    block = {
        "attention_norm": ("input_layernorm", (width,)),
        "attention.q": ("self_attn.q_proj", (q_width, width)),
        "attention.k": ("self_attn.k_proj", (kv_width, width)),
        "attention.v": ("self_attn.v_proj", (kv_width, width)),
        "attention.o": ("self_attn.o_proj", (width, q_width)),
        "mlp_norm": ("post_attention_layernorm", (width,)),
        "mlp.gate": ("mlp.gate_proj", (ff, width)),
        "mlp.up": ("mlp.up_proj", (ff, width)),
        "mlp.down": ("mlp.down_proj", (width, ff)),
    }
    if qk_norm:
        block["attention.q_norm"] = ("self_attn.q_norm", (shape.head_dim,))
        block["attention.k_norm"] = ("self_attn.k_norm", (shape.head_dim,))
    expected = {
        "embedding.weight": ("model.embed_tokens.weight", (shape.vocab_size, width)),
        "norm.weight": ("model.norm.weight", (width,)),
    }
    for i in range(shape.n_layers):
        for ours, (theirs, dims) in block.items():
            expected[f"blocks.{i}.{ours}.weight"] = (f"model.layers.{i}.{theirs}.weight", dims)
    return expected


def hf_config(shape, qk_norm, rope_theta, norm_eps, max_seq_len, eot_id=None):
    """The content of config.json; both spellings of RoPE and dtype, for old and new readers."""
    config = {
        "architectures": ["Qwen3ForCausalLM" if qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if qk_norm else "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": norm_eps,
        "max_position_embeddings": max_seq_len,
        "rope_theta": rope_theta,  # transformers < 5 and most other readers
        "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta},  # transformers >= 5
        "tie_word_embeddings": True,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": eot_id,
        "eos_token_id": eot_id,
        "dtype": "float32",  # transformers >= 4.56
        "torch_dtype": "float32",
        "use_cache": True,
    }
    # Left out, each class would fill in its own defaults, which have changed between releases.
    return config | ({"use_sliding_window": False} if qk_norm else {"mlp_bias": False})


def _recover(folder, log):
    """Undo what a kill in an earlier export left: bring the old one back if none is in place."""
    name = re.escape(folder.name)
    for path in leftovers(folder.parent, name, kind="old"):
        if not folder.exists():
            os.rename(path, folder)
    for path in leftovers(folder.parent, name):
        discard(path, log)
