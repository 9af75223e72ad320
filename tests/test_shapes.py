"""Every count of parameters agrees with the model that is really built."""

from dataclasses import replace

import pytest
import torch

from x1lib import X1Error
from x1lib.economics import flops_per_token
from x1lib.shapes import HEAD_DIM, SHAPES, Shape, ShapeError, count_params, resolve
from x1lib.train import GPT, Config

# The course's table as it is printed: layers, width, heads, key/value heads, SwiGLU width, body
# and total in millions, MFLOP a token at 1,024.
TABLE = {
    "tiny": (4, 128, 2, 1, 384, 0.8, 1.3, 14),
    "5m": (7, 256, 4, 2, 704, 5.2, 18.0, 130),
    "12m": (8, 384, 6, 3, 1024, 13.0, 32.3, 231),
    "25m": (9, 512, 8, 4, 1408, 26.6, 52.3, 370),
    "50m": (12, 640, 10, 5, 1728, 54.6, 86.7, 615),
    "100m": (16, 768, 12, 6, 2048, 103.8, 142.4, 1005),
    "240m": (32, 768, 12, 4, 2048, 201.4, 240.0, 1742),
}


def build(shape: str, **settings) -> GPT:
    """The model without its weights' memory: the largest takes 1 GB."""
    with torch.device("meta"):
        return GPT(Config(shape=shape, steps=1, **settings))


def test_the_table_is_complete():
    assert list(SHAPES) == list(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_table(name):
    n_layers, d_model, n_heads, n_kv_heads, d_ff, body, total, mflops = TABLE[name]
    shape, count = SHAPES[name], count_params(name)
    assert (shape.n_layers, shape.d_model, shape.d_ff) == (n_layers, d_model, d_ff)
    assert (shape.n_heads, shape.n_kv_heads, shape.head_dim) == (n_heads, n_kv_heads, HEAD_DIM)
    assert shape.vocab_size == (4096 if name == "tiny" else 50257)
    assert (round(count.body / 1e6, 1), round(count.total / 1e6, 1)) == (body, total)
    assert round(flops_per_token(name, 1024) / 1e6) == mflops


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("name", [*TABLE, "2x64", "6x384:6/6:1024", "3x96:4/1:160"])
def test_counts_are_those_of_the_model(name, qk_norm):
    """Norms included; the rows that pad the vocabulary are the only weights left out."""
    model = build(name, qk_norm=qk_norm)
    sizes = {key: p.numel() for key, p in model.named_parameters()}
    shape, count = model.shape, count_params(model.config)
    padding = (shape.padded_vocab_size - shape.vocab_size) * shape.d_model
    assert shape.qk_norm is qk_norm
    assert sum(sizes.values()) == count.total + padding
    assert sizes.pop("embedding.weight") == count.embedding + padding
    assert sum(sizes.values()) == count.body
    matrices = sum(p.numel() for key, p in model.named_parameters() if p.ndim == 2)
    assert matrices == count.matmul + padding
    assert count.head == 0 and count.total == count.body + count.embedding


def test_qk_norm_counts_two_gains_a_layer():
    on, off = (count_params(resolve("12m", qk_norm=q)).body for q in (True, False))
    assert on - off == 8 * 2 * HEAD_DIM


def test_untied_counts_the_head_twice_but_multiplies_by_it_once():
    tied = Shape("published", 2, 64, 1, 1, 192, vocab_size=1000)
    untied = replace(tied, tied=False)
    assert count_params(untied).total - count_params(tied).total == 64_000
    assert count_params(untied).matmul == count_params(tied).matmul


@pytest.mark.parametrize("vocab, padded", [(1, 128), (128, 128), (129, 256), (50257, 50304)])
def test_vocabulary_is_padded_to_a_multiple_of_128(vocab, padded):
    shape = resolve("5m", vocab_size=vocab)
    assert (shape.vocab_size, shape.padded_vocab_size) == (vocab, padded)
    assert count_params(shape).embedding == vocab * shape.d_model  # counted unpadded


def test_family_follows_from_layers_and_width():
    assert resolve("2x64") == Shape("2x64", 2, 64, 1, 1, 192)
    assert replace(resolve("12x640"), name="50m") == SHAPES["50m"]
    # 8/3 of the width is rounded up, never down: 8 x 256 / 3 = 682.7
    assert resolve("1x256").d_ff == 704


def test_spec_gives_everything():
    shape = resolve("6x384:6/6:1024", vocab_size=256)
    assert shape == Shape("6x384:6/6:1024", 6, 384, 6, 6, 1024, vocab_size=256)
    assert resolve("2x96:4/2:100").head_dim == 24


def test_resolve_takes_a_config_and_lets_arguments_win():
    config = Config(shape="12m", qk_norm=False, steps=1)
    assert resolve(config) == replace(SHAPES["12m"], qk_norm=False)
    assert resolve(config, qk_norm=True) == SHAPES["12m"]
    assert resolve(config, vocab_size=300).vocab_size == 300
    assert resolve(SHAPES["5m"]) == SHAPES["5m"]


@pytest.mark.parametrize(
    "spec, words",
    [
        ("51m", "unknown shape '51m'; give one of tiny"),
        ("12x", "unknown shape"),
        ("2x64 ", "unknown shape"),
        ("2x100", "width 100 is no multiple of head_dim 64"),
        ("2x96:5/5:64", "width 96 does not divide into 5 heads"),
        ("2x96:4/3:64", "4 heads cannot share 3 key/value heads"),
        ("0x64", "n_layers is 0; give 1 or more"),
        ("2x64:1/1:0", "d_ff is 0"),
        ("2x64:0/1:64", "does not divide into 0 heads"),
        ("2x64:2/0:64", "n_kv_heads is 0"),
        ("2x6:2/1:64", "head_dim 3 is odd; RoPE rotates pairs"),
        (3.5, "3.5 is no shape"),
    ],
)
def test_refusals_name_what_is_wrong(spec, words):
    with pytest.raises(ShapeError, match=words) as found:
        resolve(spec)
    assert isinstance(found.value, X1Error) and "\n" not in str(found.value)
