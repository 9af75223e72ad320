"""The model's parts against their definitions, and evaluation against a count by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from x1lib import runtime
from x1lib.data import DataError, Shards, load_tokenizer
from x1lib.planning import derive, step_law_lr
from x1lib.shapes import count_params
from x1lib.train import GPT, Config, evaluate, gradients, make_optimizer, rotate, update

VOCAB = 200  # padded to 256 inside
SHAPE = "2x64:4/2:96"


def build(vocab_size=VOCAB, kernel="sdpa", dtype=torch.float32, **settings) -> GPT:
    config = Config(**({"shape": SHAPE, "steps": 1, "seq_len": 48, "seed": 5} | settings))
    return GPT(config, vocab_size, kernel, dtype)


def random_tokens(*size: int, seed=0, vocab_size=VOCAB) -> torch.Tensor:
    return torch.randint(0, vocab_size, size, generator=torch.Generator().manual_seed(seed))


def enlarge(model: GPT) -> GPT:
    """Weights large enough that every part moves the logits."""
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(5.0 if p.ndim == 2 else 1.3)
    return model


def heads(seq_len, n_heads, n_kv_heads, head_dim=32, dtype=torch.float32, seed=0):
    """q, k, v with requires_grad and a direction to differentiate along."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(2, n, seq_len, head_dim) for n in (n_heads, n_kv_heads, n_kv_heads, n_heads)]
    q, k, v, direction = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
    return [x.requires_grad_() for x in (q, k, v)], direction


def attention_by_definition(q, k, v):
    """In float64, one query at a time."""
    q, k, v = (x.double() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    rows = []
    for t in range(q.shape[2]):
        scores = (q[:, :, t, None] * k[:, :, : t + 1]).sum(-1) / math.sqrt(q.shape[3])
        rows.append((scores.softmax(-1)[..., None] * v[:, :, : t + 1]).sum(2))
    return torch.stack(rows, dim=2)


def outputs(kernel, inputs, direction):
    """The result and the gradients of the three inputs."""
    y = kernel(*inputs)
    grads = torch.autograd.grad((y.double() * direction.double()).sum(), inputs)
    return [y.detach().double(), *(g.double() for g in grads)]


ON_CPU = sorted(runtime.ATTENTION.keys() - {"flash2"})  # flash-attn has no CPU kernel


def test_every_kernel_is_tested_here():
    assert ON_CPU == ["blocked", "plain", "sdpa"]


@pytest.mark.parametrize("kernel", ON_CPU)
@pytest.mark.parametrize("seq_len", [1, 2, 63, 64, 65, 100, 128, 131])
@pytest.mark.parametrize("n_heads, n_kv_heads", [(4, 4), (4, 2), (3, 1)])
def test_kernels_are_causal_attention(kernel, seq_len, n_heads, n_kv_heads):
    """Forward and backward, in float32, at lengths on both sides of a block of 64."""
    inputs, direction = heads(seq_len, n_heads, n_kv_heads)
    found = outputs(runtime.ATTENTION[kernel], inputs, direction)
    expected = outputs(attention_by_definition, inputs, direction)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-5  # one token: gradients of q and k are 0


@pytest.mark.parametrize("kernel", ON_CPU)
def test_kernels_in_bf16_stay_within_their_rounding(kernel):
    """bf16 keeps 8 bits: 2^-9 = 2e-3 a rounding; measured 2e-3 to 5e-3 of the norm, 1e-2 allowed.

    The inputs of both sides are the same bf16 numbers, so that only the kernel's rounding counts.
    """
    inputs, direction = heads(131, 4, 2, dtype=torch.bfloat16)
    found = outputs(runtime.ATTENTION[kernel], inputs, direction)
    expected = outputs(attention_by_definition, inputs, direction)
    differences = [((a - b).norm() / b.norm()).item() for a, b in zip(found, expected)]
    assert 1e-4 < max(differences) < 1e-2, differences


@pytest.mark.parametrize("kernel", ON_CPU)
def test_the_whole_model_is_the_same_through_every_kernel(kernel):
    tokens = random_tokens(2, 49)
    rows = tokens[:, :-1], tokens[:, 1:]
    model, reference = enlarge(build(kernel=kernel)), enlarge(build(kernel="sdpa"))
    for m in (model, reference):
        m(*rows).backward()
    for (name, p), q in zip(model.named_parameters(), reference.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-5 * q.grad.norm(), name


def test_rotation_is_half_split_and_sees_only_distances():
    """q rotated by m and k by n meet in a product that depends on m - n alone."""
    model = build(seq_len=48)
    cos, sin = model.cos, model.sin
    dim = 2 * cos.shape[-1]
    q, k = torch.randn(2, 1, 1, 1, dim, generator=torch.Generator().manual_seed(1))
    at = [rotate(q.expand(1, 48, 1, dim), cos, sin)[0, :, 0]]
    at.append(rotate(k.expand(1, 48, 1, dim), cos, sin)[0, :, 0])
    products = at[0] @ at[1].T
    for distance in (0, 1, 7, 40):
        line = products.diagonal(-distance)
        torch.testing.assert_close(line, line[0].expand_as(line), atol=1e-4, rtol=0)
    assert (products.diagonal(-7)[0] - products.diagonal(0)[0]).abs() > 0.1
    # Element j turns with element j + dim / 2, by position x theta^(-2 j / dim).
    one = torch.zeros(1, 48, 1, dim)
    one[..., 3] = 1.0
    turned = rotate(one, cos, sin)[0, 5, 0]
    angle = 5 * 1e4 ** (-2 * 3 / dim)
    expected = {3: math.cos(angle), 3 + dim // 2: math.sin(angle)}
    assert turned.nonzero().flatten().tolist() == sorted(expected)
    for j, value in expected.items():
        assert math.isclose(turned[j].item(), value, abs_tol=1e-6)


@pytest.mark.parametrize("kernel", ON_CPU)
@pytest.mark.parametrize("changed", [0, 1, 20, 47])
def test_a_token_changes_no_logit_before_it(kernel, changed):
    model, tokens = enlarge(build(kernel=kernel)), random_tokens(1, 48)
    other = tokens.clone()
    other[0, changed] = (tokens[0, changed] + 1) % VOCAB
    with torch.no_grad():
        a, b = model(tokens), model(other)
    assert torch.equal(a[:, :changed], b[:, :changed])
    moved = (a - b).abs().amax(-1)[0, changed:]
    assert (moved > 1e-4).all(), moved  # and every later one does see it


def test_a_prefix_has_the_logits_that_it_has_in_the_whole():
    model, tokens = enlarge(build()), random_tokens(3, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens[:, :17]), model(tokens)[:, :17], atol=1e-4, rtol=0)


def test_rows_that_pad_the_vocabulary_change_nothing():
    """Filled with garbage: the same logits, loss and gradient, and none of their own."""
    tokens = random_tokens(4, 49)
    clean, dirty = build(), build()
    with torch.no_grad():
        dirty.embedding.weight[VOCAB:] = 1e4
    results = []
    for model in (clean, dirty):
        params = list(model.parameters())
        results.append(gradients(model, params, tokens, 2, 0.0))
        assert not model.embedding.weight.grad[VOCAB:].any()
        assert model(tokens[:, :-1]).shape == (4, 48, VOCAB)
    assert results[0] == results[1]
    for p, q in zip(clean.parameters(), dirty.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    with torch.no_grad():  # the same garbage in a real row is noticed
        dirty.embedding.weight[VOCAB - 1] = 1e4
    assert gradients(dirty, list(dirty.parameters()), tokens, 2, 0.0) != results[0]


def test_initialisation():
    """Normal, 0.02; what ends a branch narrower by sqrt(2 layers); gains at 1."""
    model = build(shape="8x128", vocab_size=4096)
    for name, p in model.named_parameters():
        if p.ndim == 1:
            assert (p == 1).all(), name
            continue
        ends_branch = ".o." in name or ".down." in name
        std = 0.02 / math.sqrt(16) if ends_branch else 0.02
        error = 5 / math.sqrt(p.numel())  # five standard errors
        assert abs(p.mean().item()) < error * std, name
        assert abs(p.std().item() / std - 1) < error, name
        assert 3.5 * std < p.abs().max().item() < 6.5 * std, name  # tails: normal, not cut
    assert abs(model(random_tokens(2, 48, vocab_size=4096)[:, :-1]).std().item()) < 0.5
    loss = model(*(random_tokens(4, 48, seed=s, vocab_size=4096) for s in (1, 2)))
    assert abs(loss.item() - math.log(4096)) < 0.1


def test_the_seed_decides_the_weights():
    same, again, other = build(), build(), build(seed=6)
    assert all(torch.equal(p, q) for p, q in zip(same.parameters(), again.parameters()))
    assert not torch.equal(same.embedding.weight, other.embedding.weight)
    torch.manual_seed(99)
    torch.randn(10)  # whatever else draws numbers
    assert torch.equal(build().embedding.weight, same.embedding.weight)


def test_only_hidden_matrices_decay():
    """At any learning rate a step takes weight_decay x Step Law's rate x schedule off them."""
    model = build(lr=0.005, steps=1000, batch_tokens=480)
    n_body = count_params(model.shape).body
    plan = derive(
        model.config, n_body=n_body, guess_tokens=0, micro_limit=5, steps_in_time=None
    )  # fmt: skip
    halfway = plan.schedule.warmup_steps // 2 - 1
    run = SimpleNamespace(plan=plan, step=halfway, sample=0, config=model.config)
    optimizer = make_optimizer(model, model.config, fused=False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    assert update(run, optimizer) == 0.005 / 2
    assert (run.step, run.sample) == (halfway + 1, plan.batch_size)
    taken = 0.1 * step_law_lr(n_body, 480_000) / 2
    assert 0 < taken < 0.005 and plan.reference_lr != plan.lr
    decayed = set()
    for name, p in model.named_parameters():
        assert p.grad is None
        if torch.equal(p, before[name]):
            continue
        decayed.add(name.split(".", 2)[2])
        torch.testing.assert_close(p.detach(), before[name] * (1 - taken), rtol=1e-6, atol=0)
    assert sorted(decayed) == [
        "attention.k.weight", "attention.o.weight", "attention.q.weight", "attention.v.weight",
        "mlp.down.weight", "mlp.gate.weight", "mlp.up.weight",
    ]  # fmt: skip


def test_products_in_bf16_keep_weights_and_logits_in_float32():
    model, reference = build(dtype=torch.bfloat16), build()
    tokens = random_tokens(2, 49)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    logits = model(inputs)
    assert logits.dtype == torch.float32
    difference = (logits - reference(inputs)).norm() / reference(inputs).norm()
    assert 1e-4 < difference < 2e-2  # measured 5e-3; zero would mean that bf16 was never used
    loss = model(inputs, targets)
    loss.backward()
    assert loss.dtype == torch.float32 and abs(loss - reference(inputs, targets)) < 1e-2
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


MULTIPLE = 3 * 48  # a text of whole windows


def by_hand(model: GPT, ids, token_bytes, max_tokens=None) -> dict:
    """Token by token, from the logits of its own window's prefix, in float64."""
    window, nats, n_bytes, n_tokens = model.config.window, 0.0, 0, 0
    last = len(ids) - 1 if max_tokens is None else min(len(ids) - 1, max_tokens)
    for target in range(1, last + 1):
        start = (target - 1) // window * window
        with torch.no_grad():
            logits = model(torch.tensor(ids[start:target])[None])[0, -1].double()
        nats += (logits.logsumexp(0) - logits[ids[target]]).item()
        n_bytes += int(token_bytes[ids[target]])
        n_tokens += 1
    return {
        "loss": nats / n_tokens,
        "bits_per_byte": nats / math.log(2) / n_bytes,
        "n_tokens": n_tokens,
        "n_bytes": n_bytes,
    }


@pytest.mark.parametrize(
    "n, max_tokens",
    [(2, None), (30, None), (49, None), (50, None), (MULTIPLE, None), (MULTIPLE + 1, None),
     (700, 100), (100, 100), (101, 100), (100, 5000)],
)  # fmt: skip
def test_evaluation_is_what_a_count_by_hand_gives(n, max_tokens):
    """Each token but the first exactly once, the last and shorter window included."""
    model = enlarge(build())
    rng = np.random.default_rng(n)
    ids = rng.integers(0, VOCAB, n).astype(np.uint16)
    token_bytes = rng.integers(1, 9, VOCAB)
    token_bytes[:20] = 0  # special tokens count no bytes, but their nats count
    found = evaluate(model, ids, token_bytes, max_tokens)
    expected = by_hand(model, ids.tolist(), token_bytes, max_tokens)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert math.isclose(found[name], value, rel_tol=1e-5), name
    assert found["n_tokens"] == min(n - 1, max_tokens or n)


def test_bits_per_byte_is_a_ratio_of_sums_over_real_text(embedded_shards):
    """Real tokens and their bytes: the decoded text's length, and no mean of ratios."""
    words = load_tokenizer("bpe4096")
    ids = Shards(embedded_shards).heldout("documents")[:400]
    model = enlarge(build(vocab_size=words.vocab_size, z_loss=1.0))
    found = evaluate(model, ids, words.token_bytes)
    spoken = [i for i in ids[1:].tolist() if i != words.eot_id]
    assert found["n_bytes"] == sum(words.token_bytes[i] for i in spoken)
    assert found["n_bytes"] == len(words.decode(spoken).encode())
    assert model.training
    assert math.isclose(
        found["bits_per_byte"] * math.log(2) * found["n_bytes"], found["loss"] * 399
    )
    expected = by_hand(model.eval(), ids.tolist(), words.token_bytes)
    assert math.isclose(found["loss"], expected["loss"], rel_tol=1e-5)  # z-loss is no part of it


def test_evaluation_does_not_depend_on_how_windows_are_batched():
    """More than one batch of 16 windows: the same as window by window."""
    model = enlarge(build(seq_len=8))
    ids = random_tokens(8 * 37 + 5).numpy().astype(np.uint16)
    token_bytes = np.ones(VOCAB, dtype=np.int64)
    whole = evaluate(model, ids, token_bytes)
    nats = 0.0
    for start in range(0, len(ids) - 1, 8):
        part = evaluate(model, ids[start : start + 9], token_bytes)
        nats += part["loss"] * part["n_tokens"]
    assert math.isclose(whole["loss"], nats / (len(ids) - 1), rel_tol=1e-6)
    assert whole["bits_per_byte"] == pytest.approx(whole["loss"] / math.log(2))
    for batch_size in (1, 3, 64):
        assert evaluate(model, ids, token_bytes, batch_size=batch_size) == pytest.approx(whole)


def test_evaluation_that_runs_out_of_time_says_how_far_it_came():
    """The same as being given only the text that was read."""
    model = enlarge(build(seq_len=8))
    ids = random_tokens(400).numpy().astype(np.uint16)
    token_bytes = np.arange(1, VOCAB + 1)
    short = evaluate(model, ids, token_bytes, max_seconds=0.0, batch_size=4)
    assert short["n_tokens"] == 4 * 8
    assert short == pytest.approx(evaluate(model, ids, token_bytes, max_tokens=4 * 8))


@pytest.mark.parametrize("ids", [[], [3], [3, 0, 0]])
def test_evaluation_refuses_text_that_predicts_nothing(ids):
    """No token to predict, or none that stands for a byte."""
    token_bytes = np.ones(VOCAB, dtype=np.int64)
    token_bytes[0] = 0
    with pytest.raises(DataError, match=r"held-out text .*; give more text"):
        evaluate(build(), np.array(ids, dtype=np.uint16), token_bytes)


def test_logit_multiplier_scales_and_branch_multiplier_reaches_both_branches():
    tokens = random_tokens(1, 48)
    plain, scaled = enlarge(build()), enlarge(build(logit_multiplier=0.25))
    with torch.no_grad():
        torch.testing.assert_close(scaled(tokens), 0.25 * plain(tokens))
        off = enlarge(build(branch_multiplier=0.0))
        x = off.embedding(tokens)  # no branch left: embedding, norm, head
        head = F.linear(off.norm(x), off.embedding.weight)[..., :VOCAB]
        torch.testing.assert_close(off(tokens), head)
        half, full = enlarge(build(branch_multiplier=0.5)), enlarge(build())
        for name, p in full.named_parameters():
            if name.endswith(("attention.o.weight", "mlp.down.weight")):
                p.mul_(0.5)
        torch.testing.assert_close(half(tokens), full(tokens))
