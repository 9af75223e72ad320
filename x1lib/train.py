"""Pretrain a decoder-only transformer on one device: settings, model, optimiser, loop.

    python -m x1lib.train --shape tiny --source embedded --hours 0.05 --out DIR

At least one of --hours, --tokens and --steps is needed; 0 and "auto" mean: derived, as the help
says. Run the same command again, and a run that was stopped or killed goes on where it was.
Exit codes: 0 finished, 2 refused, 65 a loss, gradient or weight not finite, 71 out of memory, 74
disk full, 75 stopped by SIGTERM or Ctrl-C with its state saved, 77 by the budget likewise, 1 a
fault of ours.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from x1lib import X1Error, runtime, settings, tracking
from x1lib.data import DataError, windows
from x1lib.session import Session, fit_memory, make_plan, recall_pace, rehearse_end, review_pace
from x1lib.settings import ConfigError, opt
from x1lib.shapes import Shape, count_params, resolve
from x1lib.stability import POLICIES, Injection

# ------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Config:
    """Every setting of a run; 0 and "auto" mean: derived, as the help says."""

    # the run: at least one of hours, tokens, steps; the first to be reached ends it
    out: str = opt("experiments/X1-pretraining/run-local", "folder of the run", free=True)
    hours: float = opt(0.0, "ceiling on wall-clock [hours], all included; 0: none", low=0)
    tokens: int = opt(0, "training tokens, counted from the first run's start; 0: no limit", low=0)
    steps: int = opt(0, "optimiser steps, counted likewise; 0: no limit", low=0)
    seed: int = opt(0, "of initialisation and data order", low=0, below=2**63)
    branch_from: str = opt("", "RUN_FOLDER[@STEP]: start from that state with these settings")
    sealed: str = opt("", "sha256 of a prediction made before the run; the first stays", free=True)
    # money: metered into ledger.jsonl, which all labs share
    usd_per_hour: float = opt(0.0, "price of this machine [US dollars]", free=True, low=0)
    cap_usd: float = opt(0.0, "of all labs; 0: what the ledger says, or 50", free=True, low=0)
    restart_hours: float = opt(0.0, "set aside to restart; 0: 5% of hours", free=True, low=0)
    after_hours: float = opt(0.0, "set aside to measure after the run", free=True, low=0)
    billed_since: float = opt(0.0, "seconds since 1970; 0: process 1's start", free=True, low=0)
    # text
    source: str = opt("embedded", "embedded, fineweb-edu, OWNER/NAME on the Hub, text, or shards")
    tokenizer: str = opt("auto", "gpt2, bpe4096 or bytes; auto: the one of the shape's vocabulary")
    seq_len: int = opt(0, "tokens a sequence; 0: 256 under 2M body parameters, else 1,024", low=0)
    # model
    shape: str = opt("tiny", "name (tiny, 5m .. 240m) or LAYERSxWIDTH[:HEADS/KV_HEADS:FF]")
    qk_norm: bool = opt(True, "RMSNorm on queries and keys (Qwen3); off: Llama's layout")
    rope_theta: float = opt(1e4, "base of the rotary wavelengths (Su et al. 2021)", low=1)
    norm_eps: float = opt(1e-6, "added to the mean square in RMSNorm (Qwen3)", low=0)
    init_std: float = opt(0.02, "of weights; that end a branch: / sqrt(2 layers) (GPT-2)", low=0)
    branch_multiplier: float = opt(1.0, "on each residual branch (depth scaling)", low=0)
    logit_multiplier: float = opt(1.0, "on the logits", low=0)
    base_width: int = opt(0, "where lr, eps, init_std hold; scaled from there (muP); 0: off", low=0)
    # optimiser. Doubt: Step Law was fitted on 60M..1B parameters and on batches above 250k tokens,
    # so at this course's sizes it extrapolates.
    batch_tokens: int = opt(0, "tokens a step; 0: Step Law, 0.58 D^0.571", low=0)
    lr: float = opt(0.0, "peak; 0: Step Law, 1.79 N^-0.713 D^0.307 (Li et al. 2025)", low=0)
    warmup: float = opt(0.02, "share of steps; or 100, if under a tenth", low=0, below=1)
    cooldown: float = opt(0.2, "share of steps, 1 - sqrt to zero (Haegele et al. 2024)", low=0)
    beta1: float = opt(0.9, "decay of the mean gradient (Kingma & Ba 2014)", low=0, below=1)
    beta2: float = opt(0.95, "of the mean square: forgets in 20 steps (GPT-3)", low=0, below=1)
    eps: float = opt(1e-8, "added to the root of the mean square (Kingma & Ba 2014)", low=0)
    weight_decay: float = opt(0.1, "of hidden matrices, x Step Law's lr (base_width: lr)", low=0)
    clip: float = opt(1.0, "largest gradient norm (GPT-3); 0: never clipped", low=0)
    z_loss: float = opt(0.0, "weight of log^2 Z in the loss (PaLM: 1e-4)", low=0)
    # spikes: made on purpose (x1lib.stability.FAULTS), watched for, acted on
    inject: str = opt("", "a spike on purpose: NAME@STEP[:STRENGTH] of x1lib.stability.FAULTS")
    on_spike: str = opt("off", "watch, and at a spike do this", among=POLICIES)
    probe_every: int = opt(0, "steps between held-out probes; 0: 1% of time", free=True, low=0)
    # machine: decided at the start and kept; a resume that must differ says so and records it
    device: str = opt("auto", "where to run", free=True, among=("auto", "cuda", "mps", "cpu"))
    dtype: str = opt("auto", "of activations", free=True, among=("auto", "float32", "bfloat16"))
    attention: str = opt("auto", "kernel", free=True, among=("auto", *runtime.ATTENTION))
    compile: str = opt("auto", "torch.compile", free=True, among=("auto", "on", "off"))
    deterministic: bool = opt(True, "the same bits again; without it no spike can be replayed")
    threads: int = opt(0, "CPU threads; 0: torch's choice", free=True, low=0)
    micro_batch: int = opt(0, "sequences a pass; 0: by memory, halved where short", low=0)
    # records
    eval_every: int = opt(0, "steps between evaluations; 0: a tenth of the run", free=True, low=0)
    eval_tokens: int = opt(32_768, "of one on the way; the last reads all", free=True, low=1)
    final_eval_tokens: int = opt(0, "of the last one, of each text; 0: see eval_tokens", low=0)
    checkpoint_every: int = opt(0, "steps between checkpoints; 0: 20 in a run", free=True, low=0)
    keep_last: int = opt(2, "checkpoints kept besides pinned ones", free=True, low=1)
    milestone_every: int = opt(0, "steps between those kept for good; 0: none", free=True, low=0)
    milestones: str = opt("", "steps whose state is kept for good, as in 200,400", free=True)
    log_every: int = opt(1, "steps between lines in metrics.jsonl", free=True, low=1)
    sample_tokens: int = opt(48, "tokens sampled before and after; 0: none", free=True, low=0)

    def __post_init__(self) -> None:
        settings.check(self)
        if not (self.hours or self.tokens or self.steps):
            raise ConfigError("no end: give hours, tokens or steps")
        if self.usd_per_hour and not self.hours:
            raise ConfigError("usd_per_hour is given and no ceiling; give hours, which it pays for")
        if self.batch_tokens % self.window:
            raise ConfigError(f"batch_tokens is {self.batch_tokens}; expected k x {self.window}")
        if self.warmup + self.cooldown > 1:
            raise ConfigError("warmup and cooldown are over 1 together; give shares of the run")
        if self.base_width and not self.lr:
            raise ConfigError("base_width is given and no lr; give lr, which it scales by width")
        if self.inject:
            Injection.parse(self.inject)

    @property
    def window(self) -> int:
        """Tokens a sequence, with the default filled in."""
        return self.seq_len or (256 if count_params(self).body < 2e6 else 1024)

    def width_ratio(self, d_model: int) -> float:
        """m of the rule across widths; 1 where it is off."""
        return d_model / (self.base_width or d_model)


# ---------------------------------------------------------------------------------------- model


class Linear(nn.Linear):
    """A matrix kept in float32 and multiplied in the dtype of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.RMSNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Causal self-attention: grouped key/value heads, QK-norm before the rotation."""

    def __init__(self, s: Shape, eps: float, kernel: str):
        super().__init__()
        self.head_dim, self.kernel = s.head_dim, runtime.ATTENTION[kernel]
        self.q = Linear(s.d_model, s.n_heads * s.head_dim, bias=False)
        self.k = Linear(s.d_model, s.n_kv_heads * s.head_dim, bias=False)
        self.v = Linear(s.d_model, s.n_kv_heads * s.head_dim, bias=False)
        self.o = Linear(s.n_heads * s.head_dim, s.d_model, bias=False)
        self.q_norm = RMSNorm(s.head_dim, eps) if s.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(s.head_dim, eps) if s.qk_norm else nn.Identity()

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        q, k, v = (m(x).unflatten(-1, (-1, self.head_dim)) for m in (self.q, self.k, self.v))
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        y = self.kernel(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.o(y.transpose(1, 2).flatten(-2))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding, half-split: x[batch, seq, head, head_dim]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class MLP(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.gate = Linear(s.d_model, s.d_ff, bias=False)
        self.up = Linear(s.d_model, s.d_ff, bias=False)
        self.down = Linear(s.d_ff, s.d_model, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, s: Shape, eps: float, kernel: str, multiplier: float):
        super().__init__()
        self.multiplier = multiplier
        self.attention_norm, self.attention = RMSNorm(s.d_model, eps), Attention(s, eps, kernel)
        self.mlp_norm, self.mlp = RMSNorm(s.d_model, eps), MLP(s)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.multiplier * self.attention(self.attention_norm(x), cos, sin)
        return x + self.multiplier * self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """The decoder: weights, softmax and loss in float32, activations and products in `dtype`."""

    def __init__(self, config: Config, vocab_size=None, kernel="sdpa", dtype=torch.float32):
        super().__init__()
        self.shape = s = resolve(config, vocab_size)
        self.config, self.dtype, self.m = config, dtype, config.width_ratio(s.d_model)
        self.logit_multiplier = config.logit_multiplier / self.m
        self.embedding = nn.Embedding(s.padded_vocab_size, s.d_model)  # the head too: tied
        self.blocks = nn.ModuleList(
            Block(s, config.norm_eps, kernel, config.branch_multiplier) for _ in range(s.n_layers)
        )
        self.norm = RMSNorm(s.d_model, config.norm_eps)
        frequency = config.rope_theta ** (-torch.arange(0, s.head_dim, 2).float() / s.head_dim)
        angle = torch.outer(torch.arange(config.window).float(), frequency)[:, None, :]
        self.register_buffer("cos", angle.cos().to(dtype), persistent=False)  # [seq, 1, dim / 2]
        self.register_buffer("sin", angle.sin().to(dtype), persistent=False)
        self.initialise(torch.Generator().manual_seed(config.seed))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        for name, p in self.named_parameters():
            if p.ndim == 2:
                into_residual = name.endswith(("attention.o.weight", "mlp.down.weight"))
                scale = (2 * self.shape.n_layers) ** -0.5 if into_residual else 1.0
                scale *= self.m**-0.5 if name.startswith("blocks") else 1.0
                p.normal_(0.0, self.config.init_std * scale, generator=generator)

    def forward(self, tokens: torch.Tensor, targets=None, reduction: str = "mean"):
        """Logits [batch, seq, vocab] in float32, or with targets their cross-entropy [nats]."""
        x, n = self.embedding(tokens).to(self.dtype), tokens.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:n], self.sin[:n])
        logits = F.linear(self.norm(x), self.embedding.weight.to(self.dtype))
        logits = logits[..., : self.shape.vocab_size].float() * self.logit_multiplier
        if targets is None:
            return logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
        if self.training and self.config.z_loss:
            loss = loss + self.config.z_loss * logits.logsumexp(-1).square().mean()
        return loss


def make_optimizer(model: GPT, config: Config, fused: bool) -> torch.optim.AdamW:
    """AdamW in two groups: hidden matrices decay; the embedding (OLMo 2) and norms do not.

    With base_width, m times as wide: lr and eps of hidden matrices / m (Yang et al. 2022, table 8;
    Everett et al. 2024), decay x m, so that what a step takes off is the same at every width.
    """
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "blocks" in name]
    others = [p for name, p in model.named_parameters() if p.ndim < 2 or "blocks" not in name]
    scaled = {"lr_scale": 1 / model.m, "decay_scale": model.m, "eps": config.eps / model.m}
    plain = {"lr_scale": 1.0, "decay_scale": 0.0, "eps": config.eps}
    groups = [{"params": hidden, **scaled}, {"params": others, **plain}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), fused=fused)


# ----------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def evaluate(
    model: GPT, tokens, token_bytes, max_tokens=None, max_seconds=math.inf, batch_size=16
) -> dict:
    """Loss [nats / token] and bits per byte over windows of held-out tokens[n], each token once.

    Both are ratios of sums: a token counts the UTF-8 bytes it stands for, a special one none.
    max_seconds ends it early, after a whole batch; n_tokens says how far it came.
    """
    tokens = tokens[: max_tokens + 1] if max_tokens else tokens
    nats, n_tokens, n_bytes, begun = 0.0, 0, 0, time.monotonic()
    was_training = model.training
    model.eval()
    for n_batches, rows in enumerate(windows(tokens, model.config.window, batch_size), start=1):
        inputs, targets = pair(torch.from_numpy(rows), model.cos.device)
        nats += model(inputs, targets, reduction="sum").double().item()
        n_tokens += targets.numel()
        n_bytes += int(token_bytes[rows[:, 1:]].sum())
        if (time.monotonic() - begun) * (n_batches + 1) / n_batches > max_seconds:
            break  # one more would pass it
    model.train(was_training)
    if not n_bytes:
        raise DataError("the held-out text holds no byte to predict; give more text")
    bits_per_byte = nats / (math.log(2) * n_bytes)
    loss = nats / n_tokens
    return {"loss": loss, "bits_per_byte": bits_per_byte, "n_tokens": n_tokens, "n_bytes": n_bytes}


def pair(rows: torch.Tensor, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets [batch, seq] of rows [batch, seq + 1], on the device."""
    rows = rows.long().to(device)  # widened first: not every device knows uint16
    return rows[:, :-1], rows[:, 1:]


# ----------------------------------------------------------------------------------------- loop


def gradients(forward, params: list, rows: torch.Tensor, micro_batch: int, clip, scale=1.0):
    """Fill .grad of scale x loss of rows [batch, seq + 1]; return [mean loss, unclipped norm]."""
    loss = torch.zeros((), device=params[0].device)
    for part in rows.split(micro_batch):
        share = forward(*pair(part, loss.device)) * (len(part) / len(rows))
        (share * scale).backward()
        loss += share.detach()
    # Not clip_grad_norm_: on a CPU its sum of squares is 0.2% low for GPT-2's embedding.
    norm = torch.stack([p.grad.square().sum() for p in params]).sum().sqrt()
    nn.utils.clip_grads_with_norm_(params, clip or math.inf, norm)
    return torch.stack((loss, norm)).tolist()  # waits for the device, so that timings are true


def differentiate(run: Session, forward, params: list) -> tuple[float, float]:
    """Gradient of the next batch; returns (loss, gradient norm), both finite, or raises."""
    c = run.config
    tokens, ids = run.shards.batch(run.sample, run.plan.batch_size, c.window, c.seed, run.skip)
    rows, scale = run.injector.batch(run, tokens, ids)
    loss, norm = fit_memory(
        run, params, lambda m: gradients(forward, params, rows, m, c.clip, scale)
    )
    run.check_finite(loss, norm, ids)
    return loss, norm


def update(run: Session, optimizer) -> float:
    """Step the optimiser and the counters; returns the learning rate."""
    lr = run.plan.lr * run.plan.schedule.multiplier(run.step)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = run.plan.weight_decay * group["decay_scale"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    run.step += 1
    run.sample += run.plan.batch_size
    return lr


def loop(run: Session, model: GPT, forward, optimizer) -> None:
    """Steps to the end of the schedule; between them looks, saves, and a word with the clock."""
    params = list(model.parameters())
    while run.step < run.plan.schedule.total_steps:
        start = time.perf_counter()
        loss, norm = differentiate(run, forward, params)
        with run.interrupts.held():  # a signal waits until weights, counters and records agree
            lr = update(run, run.spikes.judged(optimizer, loss, norm))
            run.stepped(time.perf_counter() - start, loss=loss, grad_norm=norm, lr=lr)
        if run.due(run.plan.eval_every):
            look(run, model, run.plan.eval_tokens)
        run.money.check()
        review_pace(run)  # before the save, so that the state holds what was decided
        if run.due(run.plan.checkpoint_every) or run.is_milestone:
            run.save()


def look(run: Session, model: GPT, max_tokens: int | None, max_seconds=math.inf) -> dict:
    """Evaluate on each held-out text, as far as tokens and seconds go, and record it."""
    found, params = {}, list(model.parameters())
    for name in run.shards.heldout_names:
        limits = (run.shards.heldout(name), run.token_bytes, max_tokens, max_seconds)
        found[name] = fit_memory(run, params, lambda m, a=limits: evaluate(model, *a, min(m, 16)))
        run.evaluated(name, found[name])
    return found


def train(config: Config, log=print) -> dict:
    """Start the run in config.out, or go on with the one that is there; return its manifest.

    Raises an X1Error that says what to change, or Interrupted (SIGTERM, Ctrl-C) after saving.
    """
    with Session(config, log) as run:
        kernel, dtype = run.machine.attention, run.machine.torch_dtype
        model = GPT(config, run.shape.vocab_size, kernel, dtype).to(run.machine.device)
        forward = torch.compile(model, dynamic=False) if run.machine.compile else model
        optimizer = make_optimizer(model, config, run.machine.fused_adamw)
        with run.interrupts.held():  # or a signal would find weights half restored
            run.begin(model, optimizer)
            recall_pace(run)
        if run.finished:
            return run.manifest.values
        if run.plan is None:
            params = list(model.parameters())
            make_plan(
                run,
                one_step=lambda: (differentiate(run, forward, params), update(run, optimizer)),
                evaluate=lambda n: look(run, model, n),
            )
        if run.step == run.first_step:
            rehearse_end(
                run,
                look=lambda: look(run, model, run.plan.eval_tokens),
                others=lambda: (run.sample_text(model), run.save()),
            )
        loop(run, model, forward, optimizer)
        run.save(last=True)
        run.log("the last step is saved; now the held-out text, the export and the curve")
        run.sample_text(model)
        seconds = run.pace.seconds_for_last_look / len(run.shards.heldout_names)
        return run.finish(model, look(run, model, run.plan.final_eval_tokens, seconds))


def main(argv: list[str] | None = None) -> int:
    """The command line; exit codes are listed in x1lib.runtime."""
    sys.stdout.reconfigure(line_buffering=True)  # a log file that follows the run, not its end
    if argv is None:
        tracking.scrub_output()  # an error may quote a secret
    try:
        train(settings.from_command_line(Config, sys.argv[1:] if argv is None else argv, __doc__))
    except (X1Error, runtime.Interrupted) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return runtime.EXIT_FINISHED


if __name__ == "__main__":
    sys.exit(main())
