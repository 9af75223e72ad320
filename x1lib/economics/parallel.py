"""A training step on many cards as arithmetic: memory, traffic and time under DP, ZeRO, TP and PP.

What it leaves out: latency, congestion, stragglers, kernels that slow down as matrices get small,
and the uneven first and last stage of a pipeline. So a time is a floor, and MFU a ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from x1lib.economics.cards import PCIE5, Gpu
from x1lib.economics.cards import gpu as card_of
from x1lib.economics.checks import EconomicsError
from x1lib.economics.flops import flops_per_token
from x1lib.economics.memory import (
    ACTIVATION_BYTES,
    LOGIT_BYTES,
    USABLE_SHARE,
    activation_elements_per_token,
)
from x1lib.shapes import Shape, count_params, resolve

# Bytes a parameter in mixed precision with Adam (Rajbhandari et al. 2020, ZeRO, section 3.1): bf16
# weights and gradients; weights, momentum and variance once more in float32.
WEIGHT_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 2, 2, 12
ZERO_PASSES = {0: 2, 1: 2, 2: 2, 3: 3}  # times the weights that cross the wire (section 7 there)
GATHERED_LAYERS = 2  # whole layers that ZeRO-3 holds: the one at work and the one being fetched
KERNEL_EFFICIENCY = 0.55  # assumed: share of the peak that a card reaches while it computes
GBIT = 1e9 / 8


@dataclass(frozen=True)
class Network:
    """Machines of `cards_per_node` cards; bytes/s a card sends, in one direction.

    link: inside a machine. nic: out of it. Collectives over whole machines use all of their NICs.
    """

    name: str
    cards_per_node: int
    link_bytes_per_sec: float
    nic_bytes_per_sec: float
    source: str = ""

    def bytes_per_sec(self, group: int, stride: int) -> float:
        """What each of `group` cards, `stride` apart in rank, can send in a ring over all of them.

        A group with g cards in each machine leaves it over g NICs at once, each for a share.
        """
        inside = max(1, min(group, self.cards_per_node // stride))
        if inside == group:
            return self.link_bytes_per_sec
        if inside == 1:
            return self.nic_bytes_per_sec
        return min(self.link_bytes_per_sec, inside * self.nic_bytes_per_sec)


def networks(gpu: str | Gpu) -> dict[str, Network]:
    """Three ways to wire a card that has NVLink; half of its data sheet's link is one direction.

    Raises EconomicsError for a card without a link faster than PCIe.
    """
    card = card_of(gpu)
    if not card.link_bytes_per_sec or card.link_bytes_per_sec <= PCIE5:
        raise EconomicsError(f"{card.name} has no NVLink; give a Network with what it has")
    link = card.link_bytes_per_sec / 2
    model, port = ("A100", 200) if card.name.startswith("A100") else ("H100", 400)
    nic = port * GBIT
    made = f"NVIDIA DGX {model} data sheet: eight compute ports of {port} Gb/s"
    return {
        one.name: one
        for one in (
            Network("NVLink + InfiniBand", 8, link, nic, made),
            Network("InfiniBand alone", 1, link, nic, "assumed: a port for each card, no NVLink"),
            Network("NVLink + Ethernet", 8, link, 100 * GBIT / 8, "assumed: 100 Gb/s a machine"),
        )
    }


@dataclass(frozen=True)
class Layout:
    """How a step is divided: tp x pp x dp cards; neighbours share a layer, then data, then stages.

    zero: stage 0 to 3 over the dp copies. micro_batch: sequences a pass. recompute: keep only each
    layer's input and compute the rest again in the backward pass.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    zero: int = 0
    micro_batch: int = 1
    recompute: bool = True

    @property
    def cards(self) -> int:
        return self.tp * self.pp * self.dp

    @property
    def name(self) -> str:
        data = f"ZeRO-{self.zero}" if self.zero else "DP"
        parts = [("TP", self.tp), ("PP", self.pp), (data, self.dp)]
        return " + ".join(word for word, n in parts if n > 1) or "one card"

    def micro_batches(self, sequences: float) -> int:
        """Passes a step; raises EconomicsError where the sequences do not come out even."""
        passes = sequences / (self.dp * self.micro_batch)
        if passes < 1 or passes != int(passes):
            raise EconomicsError(
                f"{sequences:g} sequences over {self.dp} copies and micro-batches of"
                f" {self.micro_batch} make {passes:g} passes; expected a whole number from 1"
            )
        return int(passes)


@dataclass(frozen=True)
class Step:
    """One step of one layout; seconds, bytes of the fullest card, bytes that a card sends."""

    layout: Layout
    seconds: float
    seconds_by_part: dict[str, float]
    memory_by_part: dict[str, float]
    traffic_by_part: dict[str, float]
    mfu: float  # of the model's own FLOPs (palm), recomputation not counted
    fits: bool

    @property
    def memory_bytes(self) -> float:
        return sum(self.memory_by_part.values())

    @property
    def traffic_bytes(self) -> float:
        return sum(self.traffic_by_part.values())


def state_bytes(n_params: float, layout: Layout) -> dict[str, float]:
    """Bytes a card of weights, gradients and optimiser state (ZeRO's 2 + 2 + 12) by part."""
    held = n_params / (layout.tp * layout.pp)
    each = {"weights": WEIGHT_BYTES, "gradients": GRADIENT_BYTES, "optimizer": OPTIMIZER_BYTES}
    first = {"weights": 3, "gradients": 2, "optimizer": 1}  # the stage that divides it
    return {
        part: held * n_bytes / (layout.dp if layout.zero >= first[part] else 1)
        for part, n_bytes in each.items()
    }


def memory(shape: object, layout: Layout, seq_len: int, passes: int = 1) -> dict[str, float]:
    """Bytes by part on the fullest card, the first stage of a pipeline with 1F1B.

    Activations are divided by tp throughout, which takes sequence parallelism (Korthikanti et al.
    2022); an early stage holds those of min(pp, passes) micro-batches.
    """
    s = resolve(shape)
    tokens, layers = layout.micro_batch * seq_len, math.ceil(s.n_layers / layout.pp)
    in_flight = min(layout.pp, passes)
    whole = ACTIVATION_BYTES * activation_elements_per_token(s)
    if layout.recompute:
        kept = in_flight * layers * ACTIVATION_BYTES * s.d_model + whole
    else:
        kept = in_flight * layers * whole
    gathered = GATHERED_LAYERS * WEIGHT_BYTES * _layer_params(s) if layout.zero == 3 else 0
    return state_bytes(count_params(s).total, layout) | {
        "gathered layers": gathered / layout.tp,
        "activations": kept * tokens / layout.tp,
        "logits": LOGIT_BYTES * s.padded_vocab_size * tokens / layout.tp,
    }


def traffic(shape: object, layout: Layout, seq_len: int, passes: int = 1) -> dict[str, float]:
    """Bytes that a card sends in a step, by cause; ring collectives, bf16.

    data: ZeRO's volumes; 2 and 3 reduce the gradients, and 3 gathers the weights, at every pass.
    tensor: four all-reduces of a layer's activations a pass (Shoeybi et al. 2019), six with
    recomputation. pipeline: activations on and gradients back, once each a pass.
    """
    s = resolve(shape)
    held = WEIGHT_BYTES * count_params(s).total / (layout.tp * layout.pp)
    times = {0: 2, 1: 2, 2: passes + 1, 3: 3 * passes}[layout.zero]
    activations = ACTIVATION_BYTES * s.d_model * layout.micro_batch * seq_len
    all_reduces = (6 if layout.recompute else 4) * s.n_layers / layout.pp * passes
    return {
        "data": times * held * _ring(layout.dp),
        "tensor": all_reduces * 2 * activations * _ring(layout.tp),
        "pipeline": 2 * passes * activations / layout.tp if layout.pp > 1 else 0.0,
    }


def step(
    shape: object,
    layout: Layout,
    gpu: str | Gpu,
    network: Network,
    batch_tokens: int,
    seq_len: int,
    kernel_efficiency: float = KERNEL_EFFICIENCY,
) -> Step:
    """Time, traffic and memory of one step; raises EconomicsError for a layout that cannot be.

    Tensor traffic waits for the products and they for it. Data traffic hides behind them: behind
    the last pass's backward for DP and ZeRO-1, every pass's for ZeRO-2, all of the step for ZeRO-3.
    A pipeline stands still for (pp - 1) / passes of the rest (Narayanan et al. 2021, section 2.2).
    """
    s, card = resolve(shape), card_of(gpu)
    if s.n_heads % layout.tp or layout.pp > s.n_layers:
        raise EconomicsError(
            f"tp {layout.tp} has to divide {s.n_heads} heads, and pp {layout.pp} to be at most"
            f" {s.n_layers} layers"
        )
    passes = layout.micro_batches(batch_tokens / seq_len)
    peak = card.training_flops_per_sec() * layout.cards
    useful = flops_per_token(s, seq_len) * batch_tokens
    again = 4 / 3 if layout.recompute else 1.0  # one more forward pass
    compute = useful * again / (peak * kernel_efficiency)
    sent = traffic(s, layout, seq_len, passes)
    tensor = sent["tensor"] / network.bytes_per_sec(layout.tp, 1)
    data = sent["data"] / network.bytes_per_sec(layout.dp, layout.tp)
    backward = compute * (1 - 1 / (3 * again))
    cover = {0: backward / passes, 1: backward / passes, 2: backward, 3: compute}[layout.zero]
    inside = layout.cards <= network.cards_per_node
    onward = network.link_bytes_per_sec if inside else network.nic_bytes_per_sec
    parts = {
        "products": compute,
        "tensor traffic": tensor,
        "data traffic": max(0.0, data - cover),
        "pipeline traffic": sent["pipeline"] / onward,
        "pipeline idle": (layout.pp - 1) / passes * (compute + tensor),
    }
    seconds, needed = sum(parts.values()), memory(s, layout, seq_len, passes)
    return Step(
        layout=layout,
        seconds=seconds,
        seconds_by_part=parts,
        memory_by_part=needed,
        traffic_by_part=sent,
        mfu=useful / (seconds * peak),
        fits=sum(needed.values()) <= USABLE_SHARE * card.memory_bytes,
    )


def steps(
    shape: object,
    gpu: str | Gpu,
    network: Network,
    cards: int,
    batch_tokens: int,
    seq_len: int,
    kernel_efficiency: float = KERNEL_EFFICIENCY,
) -> Iterator[Step]:
    """Every layout of so many cards that this arithmetic knows, those that do not fit included."""
    s = resolve(shape)
    for layout in _layouts(s, cards, batch_tokens / seq_len):
        yield step(s, layout, gpu, network, batch_tokens, seq_len, kernel_efficiency)


def fastest(found: Iterator[Step]) -> dict[str, Step]:
    """The fastest step that fits of each family (ZeRO-3, TP + PP + ZeRO-1, ...), best first."""
    best: dict[str, Step] = {}
    for one in found:
        name = one.layout.name
        if one.fits and (name not in best or one.seconds < best[name].seconds):
            best[name] = one
    return dict(sorted(best.items(), key=lambda item: item[1].seconds))


def survey(
    shape: object,
    gpu: str | Gpu,
    wires: dict[str, Network],
    numbers: list[int],
    batch_tokens: int,
    seq_len: int,
) -> dict[str, dict[int, dict[str, Step]]]:
    """What `fastest` finds, by network and number of cards."""
    return {
        name: {
            cards: fastest(steps(shape, gpu, wired, cards, batch_tokens, seq_len))
            for cards in numbers
        }
        for name, wired in wires.items()
    }


def _layouts(s: Shape, cards: int, sequences: float) -> Iterator[Layout]:
    splits = [
        (tp, pp, cards // (tp * pp))
        for tp in _powers(s.n_heads)
        for pp in _powers(s.n_layers)
        if cards % (tp * pp) == 0 and s.n_heads % tp == 0 and s.n_layers % pp == 0
    ]
    for tp, pp, dp in splits:
        # With a pipeline, ZeRO-2 and 3 would move weights or gradients at each of many passes.
        stages = (0,) if dp == 1 else (0, 1, 2, 3) if pp == 1 else (0, 1)
        for micro_batch in (1, 2, 4, 8):
            passes = sequences / (dp * micro_batch)
            if passes >= 1 and passes == int(passes):
                for zero in stages:
                    yield Layout(tp, pp, dp, zero, micro_batch, recompute=True)
                    yield Layout(tp, pp, dp, zero, micro_batch, recompute=False)


def _powers(limit: int) -> list[int]:
    return [2**k for k in range(int(math.log2(limit)) + 1)]


def _ring(n: int) -> float:
    """Share of the data that a card of n sends in a reduce-scatter or an all-gather."""
    return (n - 1) / n


def _layer_params(s: Shape) -> float:
    n = count_params(s)
    return n.body / s.n_layers
