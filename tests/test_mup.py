"""One learning rate for all widths: its arithmetic, activations that stay, and a resume."""

import math
from types import SimpleNamespace

import pytest
import torch

from x1lib import checkpoint, tracking
from x1lib.data import Shards
from x1lib.planning import derive
from x1lib.session import Session
from x1lib.settings import ConfigError
from x1lib.shapes import count_params
from x1lib.train import GPT, Config, gradients, make_optimizer, pair, train, update

BASE, WIDTHS = 32, (32, 64, 128, 256)
STEPS, BATCH, SEQ_LEN, LR = 10, 16, 64, 0.01


def configure(width: int, base_width: int, **settings) -> Config:
    shape = f"2x{width}:{width // 16}/{width // 32}:{3 * width}"  # head_dim 16, KV group 2
    wanted = {"steps": 1000, "batch_tokens": BATCH * SEQ_LEN, "seq_len": SEQ_LEN, "lr": LR}
    return Config(**({"shape": shape, "base_width": base_width, "warmup": 0.0} | wanted | settings))


def ready(config: Config, vocab_size: int):
    """A model, its optimiser, and the little that `update` needs of a run."""
    model = GPT(config, vocab_size)
    plan = derive(
        config,
        n_body=count_params(model.shape).body,
        guess_tokens=0,
        micro_limit=BATCH,
        steps_in_time=None,
    )
    run = SimpleNamespace(plan=plan, step=0, sample=0, config=config)
    return model, make_optimizer(model, config, fused=False), run


def rms_after_training(shards: Shards, width: int, base_width: int) -> dict[str, float]:
    """RMS of queries, of the residual stream and of logits on one batch, after a few steps."""
    model, optimizer, run = ready(configure(width, base_width), shards.vocab_size)
    params, found = list(model.parameters()), {}
    for _ in range(STEPS):
        rows = torch.from_numpy(shards.batch(run.sample, BATCH, SEQ_LEN, 0)[0])
        gradients(model, params, rows, BATCH, 1.0)
        update(run, optimizer)
    model.blocks[1].attention.q.register_forward_hook(lambda _, __, out: found.update(queries=out))
    model.blocks[1].register_forward_hook(lambda _, __, out: found.update(stream=out))
    inputs, _ = pair(torch.from_numpy(shards.batch(10_000, BATCH, SEQ_LEN, 0)[0]), "cpu")
    with torch.no_grad():
        found["logits"] = model(inputs)
    return {name: x.double().square().mean().sqrt().item() for name, x in found.items()}


def test_activations_stay_as_they_are_at_any_width_and_grow_without_the_rule(embedded_shards):
    """The coordinate check (Yang et al. 2022, appendix D.1) on real text, after ten steps."""
    shards = Shards(embedded_shards)
    ruled = [rms_after_training(shards, width, BASE) for width in WIDTHS]
    plain = [rms_after_training(shards, width, 0) for width in WIDTHS]
    assert ruled[0] == plain[0]  # at the base width the rule changes nothing
    for name in ruled[0]:
        values = [found[name] for found in ruled]
        assert max(values) < 1.3 * min(values), (name, values)
        values = [found[name] for found in plain]
        assert values == sorted(values) and values[-1] > 1.9 * values[0], (name, values)
    assert plain[-1]["stream"] > 50 * plain[0]["stream"]


@pytest.mark.parametrize("width", WIDTHS)
def test_what_each_group_gets(width):
    """Hidden: lr / m and eps / m; what a step takes off the weights is equal at every width."""
    model, optimizer, run = ready(configure(width, BASE), 200)
    m = width / BASE
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run.step = 5  # warm-up is over: it is 0 here
    update(run, optimizer)
    hidden, others = optimizer.param_groups
    assert (hidden["lr"], others["lr"]) == (LR / m, LR)
    assert (hidden["eps"], others["eps"]) == (1e-8 / m, 1e-8)
    assert math.isclose(hidden["lr"] * hidden["weight_decay"], 0.1 * LR, rel_tol=1e-12)
    assert others["weight_decay"] == 0
    for name, p in model.named_parameters():
        kept = 1 - 0.1 * LR if p.ndim == 2 and name.startswith("blocks") else 1.0
        torch.testing.assert_close(p.detach(), before[name] * kept, rtol=2e-7, atol=0)


def test_initialisation_and_logits_follow_the_width():
    stds = {}
    for width in WIDTHS:
        model = GPT(configure(width, BASE), 4096)
        stds[width] = {name: p.std().item() for name, p in model.named_parameters() if p.ndim == 2}
        m = width / BASE
        for name, std in stds[width].items():
            depth = 0.5 if name.endswith(("attention.o.weight", "mlp.down.weight")) else 1.0
            expected = 0.02 * (depth * m**-0.5 if name.startswith("blocks") else 1.0)
            assert math.isclose(std, expected, rel_tol=0.08), (width, name)
        off = GPT(configure(width, 0), 4096)
        off.load_state_dict(model.state_dict())
        tokens = torch.arange(20)[None]
        torch.testing.assert_close(model(tokens), off(tokens) / m, rtol=1e-6, atol=0)


def test_the_decays_reference_knows_nothing_of_the_size():
    """Step Law's learning rate falls with N: counted in it, decay would fall with the width."""

    def plan(width: int, base_width: int):
        return ready(configure(width, base_width, tokens=500_000), 4096)[2].plan

    assert {plan(width, BASE).reference_lr for width in WIDTHS} == {LR}
    sizes = [plan(width, 0).reference_lr for width in (256, 512, 1024)]
    assert len(set(sizes)) == 3


def test_the_rule_takes_a_learning_rate():
    with pytest.raises(ConfigError, match="base_width is given and no lr"):
        configure(64, BASE, lr=0.0)


# Through the trainer


def small(out, **settings) -> Config:
    wanted = {"steps": 12, "checkpoint_every": 5, "sample_tokens": 0, "tokenizer": "bpe4096"}
    wanted |= {
        "compile": "off",
        "warmup": 0.1,
        "eval_tokens": 512,
        "final_eval_tokens": 1024,
        "out": str(out),
    }
    return configure(64, BASE, **(wanted | settings))


def losses(folder) -> list[float]:
    lines = tracking.read_metrics(folder)
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.fixture(scope="module")
def whole(embedded_shards, tmp_path_factory):
    """A run from beginning to end."""
    out = tmp_path_factory.mktemp("mup") / "whole"
    sealed = "a" * 64
    train(small(out, sealed=sealed, milestones="3,4", seed=3), log=lambda _: None)
    return out


def test_a_killed_run_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    stepped = Session.stepped

    def killed(run, *args, **values):
        stepped(run, *args, **values)
        if run.step == 8:
            raise KeyError("as if killed: nothing is saved")

    monkeypatch.setattr(Session, "stepped", killed)
    with pytest.raises(KeyError):
        train(small(tmp_path / "run", seed=3), log=lambda _: None)
    monkeypatch.undo()
    train(small(tmp_path / "run", seed=3), log=lambda _: None)
    assert losses(tmp_path / "run") == losses(whole) and len(losses(whole)) == 12
    one, other = (
        checkpoint.load_latest(folder / "state").tensors for folder in (whole, tmp_path / "run")
    )
    for kind in ("model", "optimizer"):
        assert one[kind].keys() == other[kind].keys()
        assert all(torch.equal(one[kind][name], other[kind][name]) for name in one[kind])


def test_the_export_holds_the_multiplier(whole):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(whole / "checkpoint")
    ours = GPT(small(whole, seed=3), 4096)
    ours.load_state_dict(checkpoint.load_latest(whole / "state").tensors["model"])
    tokens = torch.arange(SEQ_LEN)[None]
    with torch.no_grad():
        expected = ours(tokens)
        torch.testing.assert_close(theirs(tokens).logits, expected, rtol=1e-5, atol=1e-5)
        assert expected.abs().max() > 0.1  # twice as much would be seen


def test_named_states_are_kept_and_a_branch_starts_from_one(whole, tmp_path):
    kept = sorted(int(p.name.split("-")[-1]) for p in (whole / "state").iterdir() if p.is_dir())
    assert {3, 4} < set(kept) and 5 not in kept
    out = tmp_path / "branch"
    values = train(small(out, branch_from=f"{whole}@4", steps=6, seed=3), log=lambda _: None)
    assert (values["lineage"]["step"], values["steps"], len(losses(out))) == (4, 6, 2)


def test_the_last_evaluation_is_as_long_as_was_asked(whole):
    values = tracking.Manifest(whole).values
    read = {name: text["n_tokens"] for name, text in values["heldout"].items()}
    assert set(read.values()) == {1024}
    assert values["plan"]["final_eval_tokens"] == 1024


def test_the_first_sealed_prediction_stays(whole, embedded_shards):
    values = tracking.Manifest(whole).values
    assert values["config"]["sealed"] == "a" * 64
    tracking.Manifest(whole).update(status="running")  # as after a kill before the last entry
    again = train(small(whole, sealed="b" * 64, milestones="3,4", seed=3), log=lambda _: None)
    assert again["config"]["sealed"] == "a" * 64 and again["status"] == "finished"
