"""The exported folder, loaded by transformers, computes what our own layout computes."""

import json
import os

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from x1lib import checkpoint
from x1lib.checkpoint import CheckpointError, export_hf
from x1lib.shapes import Shape

transformers = pytest.importorskip("transformers")

SHAPE = Shape("test", 3, 48, 4, 2, 80, vocab_size=300, head_dim=16)
PADDED_VOCAB = 384
SETTINGS = {
    "rope_theta": 5000.0,
    "norm_eps": 3e-5,
    "branch_multiplier": 0.37,
    "logit_multiplier": 1.9,
    "max_seq_len": 64,
}


def random_weights(qk_norm, seed=0):
    """A state dict in the trainer's names, large enough that every part moves the logits."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows, columns):
        return torch.randn(rows, columns, generator=generator) * columns**-0.5

    def gain(width):
        return 1 + 0.3 * torch.randn(width, generator=generator)

    width, head, ff = SHAPE.d_model, SHAPE.head_dim, SHAPE.d_ff
    weights = {"embedding.weight": matrix(PADDED_VOCAB, width), "norm.weight": gain(width)}
    for i in range(SHAPE.n_layers):
        block = {
            "attention_norm": gain(width),
            "attention.q": matrix(SHAPE.n_heads * head, width),
            "attention.k": matrix(SHAPE.n_kv_heads * head, width),
            "attention.v": matrix(SHAPE.n_kv_heads * head, width),
            "attention.o": matrix(width, SHAPE.n_heads * head),
            "mlp_norm": gain(width),
            "mlp.gate": matrix(ff, width),
            "mlp.up": matrix(ff, width),
            "mlp.down": matrix(width, ff),
        }
        if qk_norm:
            block |= {"attention.q_norm": gain(head), "attention.k_norm": gain(head)}
        weights |= {f"blocks.{i}.{name}.weight": tensor for name, tensor in block.items()}
    return weights


def reference_logits(weights, tokens, qk_norm):
    """Our layout, spelled out: tokens [batch, seq] -> logits [batch, seq, vocab]."""

    def normed(x, name):
        mean_square = x.pow(2).mean(-1, keepdim=True)
        return x * torch.rsqrt(mean_square + SETTINGS["norm_eps"]) * weights[name]

    def rotated(x):  # [batch, heads, seq, head_dim]; element j turns with element j + head_dim/2
        half = SHAPE.head_dim // 2
        frequency = SETTINGS["rope_theta"] ** (-torch.arange(half) / half)
        angle = torch.arange(x.shape[2])[:, None] * frequency
        a, b = x[..., :half], x[..., half:]
        turned_a = a * angle.cos() - b * angle.sin()
        turned_b = b * angle.cos() + a * angle.sin()
        return torch.cat([turned_a, turned_b], dim=-1)

    def attention(x, prefix):
        batch, seq, _ = x.shape

        def heads(name):
            return (x @ weights[f"{prefix}.{name}.weight"].T).view(batch, seq, -1, SHAPE.head_dim)

        q, k, v = heads("q"), heads("k"), heads("v")
        if qk_norm:
            q, k = normed(q, f"{prefix}.q_norm.weight"), normed(k, f"{prefix}.k_norm.weight")
        q, k, v = rotated(q.transpose(1, 2)), rotated(k.transpose(1, 2)), v.transpose(1, 2)
        group = SHAPE.n_heads // SHAPE.n_kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = q @ k.transpose(2, 3) / SHAPE.head_dim**0.5
        later = torch.ones(seq, seq, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
        return mixed.transpose(1, 2).reshape(batch, seq, -1) @ weights[f"{prefix}.o.weight"].T

    def mlp(x, prefix):
        gate, up, down = (weights[f"{prefix}.{name}.weight"] for name in ("gate", "up", "down"))
        return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T

    branch = SETTINGS["branch_multiplier"]
    x = weights["embedding.weight"][tokens]
    for i in range(SHAPE.n_layers):
        block = f"blocks.{i}"
        normed_x = normed(x, f"{block}.attention_norm.weight")
        x = x + branch * attention(normed_x, f"{block}.attention")
        x = x + branch * mlp(normed(x, f"{block}.mlp_norm.weight"), f"{block}.mlp")
    logits = normed(x, "norm.weight") @ weights["embedding.weight"].T
    return SETTINGS["logit_multiplier"] * logits[..., : SHAPE.vocab_size]


def hf_logits(folder, tokens):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        return model, model.eval()(tokens).logits


TOKENS = torch.randint(0, SHAPE.vocab_size, (2, 40), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("qk_norm, family", [(True, "Qwen3"), (False, "Llama")])
def test_transformers_computes_the_same_logits(tmp_path, qk_norm, family):
    weights = random_weights(qk_norm)
    folder = export_hf(tmp_path / "hf", SHAPE, weights, qk_norm=qk_norm, **SETTINGS)
    model, found = hf_logits(folder, TOKENS)
    assert type(model).__name__ == f"{family}ForCausalLM"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    expected = reference_logits(weights, TOKENS, qk_norm)
    assert expected.std() > 0.5  # else the tolerance below would mean nothing
    assert found.shape == (2, 40, SHAPE.vocab_size)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("setting", sorted(SETTINGS.keys() - {"max_seq_len"}))
def test_every_setting_reaches_the_logits(tmp_path, setting):
    """The comparison above would notice any of them being dropped."""
    weights, changed = random_weights(True), SETTINGS | {setting: 1.0}
    _, found = hf_logits(export_hf(tmp_path / "hf", SHAPE, weights, **changed), TOKENS)
    assert (found - reference_logits(weights, TOKENS, True)).abs().max() > 1e-2


@pytest.mark.parametrize("qk_norm", [True, False])
def test_config_states_what_readers_might_guess(tmp_path, qk_norm):
    class Tokenizer:
        name, vocab_size, eot_id = "test", SHAPE.vocab_size, 299

        def save_hf(self, folder):
            (folder / "tokenizer.json").write_text("{}")

    weights = random_weights(qk_norm)
    folder = export_hf(tmp_path / "hf", SHAPE, weights, Tokenizer(), qk_norm=qk_norm, **SETTINGS)
    config = json.loads((folder / "config.json").read_text())
    expected = {
        "architectures": ["Qwen3ForCausalLM" if qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if qk_norm else "llama",
        "vocab_size": 300,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 3e-5,
        "rope_theta": 5000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "bos_token_id": 299,
        "eos_token_id": 299,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    assert {key: config.get(key) for key in expected} == expected
    assert (folder / "tokenizer.json").read_text() == "{}"
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        names = list(file.keys())
        assert "lm_head.weight" not in names and len(names) == 2 + 3 * (11 if qk_norm else 9)
        assert file.get_tensor("model.embed_tokens.weight").shape == (300, 48)


def test_a_second_export_replaces_the_first(tmp_path):
    """A second export takes the first one's place; leftovers of a killed one go."""
    first, second = random_weights(True), random_weights(True, seed=7)
    target = tmp_path / "hf"
    export_hf(target, SHAPE, first, **SETTINGS)
    (tmp_path / "tmp-hf-01234567").mkdir()
    export_hf(target, SHAPE, second, **SETTINGS)
    assert os.listdir(tmp_path) == ["hf"]
    _, found = hf_logits(target, TOKENS)
    torch.testing.assert_close(found, reference_logits(second, TOKENS, True), atol=1e-4, rtol=0)


def test_a_kill_between_the_renames_loses_nothing(tmp_path, monkeypatch):
    """Old moved aside, new not yet in: the next export first brings the old one back."""
    target = tmp_path / "hf"
    export_hf(target, SHAPE, random_weights(True), **SETTINGS)
    os.rename(target, tmp_path / "old-hf-89abcdef")
    whole = (tmp_path / "old-hf-89abcdef" / "model.safetensors").read_bytes()

    def fail(*arguments):
        raise OSError(5, "planted")

    monkeypatch.setattr(checkpoint.export, "write_tensors", fail)
    with pytest.raises(CheckpointError, match="planted"):
        export_hf(target, SHAPE, random_weights(True, seed=7), **SETTINGS)
    assert os.listdir(tmp_path) == ["hf"]
    assert (target / "model.safetensors").read_bytes() == whole


def test_a_rename_that_fails_puts_the_old_export_back(tmp_path, monkeypatch):
    target, real_rename = tmp_path / "hf", os.rename
    export_hf(target, SHAPE, random_weights(True), **SETTINGS)
    whole = (target / "model.safetensors").read_bytes()

    def rename(source, destination):
        if source.name.startswith("tmp-"):
            raise OSError(5, "planted")
        real_rename(source, destination)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(CheckpointError, match="planted"):
        export_hf(target, SHAPE, random_weights(True, seed=7), **SETTINGS)
    assert os.listdir(tmp_path) == ["hf"]
    assert (target / "model.safetensors").read_bytes() == whole


def test_refusals_name_what_is_wrong(tmp_path):
    weights, target = random_weights(True), tmp_path / "hf"

    class Tokenizer:
        name, vocab_size, eot_id = "other", 4096, 0

    without = {name: tensor for name, tensor in weights.items() if "1.mlp.up" not in name}
    misshapen = weights | {"blocks.0.mlp.up.weight": torch.zeros(3, 3)}
    for bad, tokenizer, qk_norm, words in (
        (without, None, True, "lacks blocks.1.mlp.up.weight"),
        (misshapen, None, True, r"blocks.0.mlp.up.weight is \(3, 3\), expected \(80, 48\)"),
        (weights, None, False, "blocks.0.attention.k_norm.weight.*Llama layout"),
        (weights, Tokenizer(), True, "tokenizer other has 4096 ids"),
    ):
        with pytest.raises(CheckpointError, match=words):
            export_hf(target, SHAPE, bad, tokenizer, qk_norm=qk_norm, **SETTINGS)
        assert not target.exists()
    target.mkdir()
    (target / "thesis.tex").write_text("mine")
    with pytest.raises(CheckpointError, match="holds something that is no export"):
        export_hf(target, SHAPE, weights, **SETTINGS)
    assert (target / "thesis.tex").read_text() == "mine"
