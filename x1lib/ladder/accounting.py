"""From a profiler's trace to where a step's time went: regions, categories, a timeline.

At every instant the innermost operator that is open (on a card: the kernel that runs) owns the
time, so the categories add up to the step by construction, with "other" and "idle" among them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from x1lib import X1Error

MARK = "x1:"  # before the names of our own annotations
CATEGORIES = (
    "matrix products", "attention", "softmax and cross-entropy", "norms and element-wise",
    "optimiser", "copies and look-ups", "other", "idle",
)  # fmt: skip
MATRIX, ATTENTION, LOSS, ELEMENTWISE, OPTIMISER, COPIES, OTHER, IDLE = CATEGORIES
REGIONS = ("forward", "forward and loss", "loss", "backward", "clip", "optimizer", "other")
MAX_SEGMENTS = 3000  # of the timeline that is kept for drawing
KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")
TOP = 12

# An operator's name without "aten::" -> its category. What only moves or makes bytes is a copy,
# the embedding's look-up and its gradient included.
_OPERATORS = {
    MATRIX: "mm addmm bmm baddbmm matmul linear mkldnn_linear _mkl_linear dot",
    LOSS: "cross_entropy_loss log_softmax _log_softmax _log_softmax_backward_data nll_loss"
    " nll_loss_nd nll_loss_forward nll_loss_backward softmax _softmax _softmax_backward_data",
    ELEMENTWISE: "add add_ sub sub_ mul mul_ div div_ neg pow square sqrt rsqrt reciprocal exp"
    " sigmoid silu silu_backward mean sum linalg_vector_norm rms_norm _fused_rms_norm"
    " _fused_rms_norm_backward masked_fill masked_fill_ where maximum minimum clamp clamp_"
    " _foreach_mul_ threshold_backward triu triu_ stack",
    COPIES: "copy_ to _to_copy clone contiguous fill_ zero_ zeros zeros_like ones ones_like cat"
    " narrow_copy slice_backward embedding embedding_dense_backward embedding_backward"
    " index_select index_put_ select_backward repeat_interleave new_zeros",
}
CATEGORY_OF_OPERATOR = {
    name: category for category, names in _OPERATORS.items() for name in names.split()
}
# Kernels of a card by name, first match first. The names are those that CUDA, CUTLASS, cuBLAS,
# FlashAttention, ATen and inductor's Triton give their kernels.
CATEGORY_OF_KERNEL = [
    (re.compile(pattern, re.IGNORECASE), category)
    for pattern, category in (
        (r"flash|fmha|sdpa|efficient_attention", ATTENTION),
        (r"multi_tensor_apply|fused_?adam", OPTIMISER),
        (r"^triton_tem|gemm|gemv|cutlass|xmma|nvjet|cublas|splitk", MATRIX),
        (r"log_?softmax|nll_?loss|cross_entropy", LOSS),
        (r"memcpy|memset|copy_kernel|CatArray|FillFunctor|embedding|indexing_backward", COPIES),
        (r"^triton_|elementwise|reduce_kernel|softmax|norm", ELEMENTWISE),
    )
]


class AccountError(X1Error, ValueError):
    """A trace that does not hold a marked step, or whose parts do not add up to it."""


@dataclass(frozen=True)
class Event:
    """A span of the trace; microseconds since the step's start."""

    name: str
    kind: str
    start: float
    end: float
    thread: object
    sequence: int | None  # autograd's number, shared by a forward operator and its gradient
    backward: bool

    @classmethod
    def of(cls, raw: dict, origin: float) -> Event:
        start, args = raw["ts"] - origin, raw.get("args", {})
        return cls(
            raw["name"], raw.get("cat", ""), start, start + raw["dur"],
            (raw.get("pid"), raw.get("tid")), args.get("Sequence number"),
            bool(args.get("Fwd thread id")),
        )  # fmt: skip


class Segment(NamedTuple):
    """A stretch of the step with one owner; microseconds since the step's start."""

    start: float
    end: float
    region: str
    category: str
    operator: str | None


def account(raw_events: Iterable[dict]) -> dict:
    """Where the time of the shortest step went, of a chrome trace with the marks of profile_step.

    Returns seconds and shares of the step: regions with their spans, categories, categories by
    region, the operators that took most, and a timeline thinned for drawing. Raises AccountError.
    """
    spans = [raw for raw in raw_events if raw.get("ph") == "X"]
    steps = [raw for raw in spans if _is_mark(raw, "step")]
    if not steps:
        raise AccountError("the trace holds no marked step; record it with profile_step")
    # The shortest: a busy moment makes a step slower, and nothing makes it faster.
    step = min(steps, key=lambda raw: raw["dur"])
    origin, length, main = step["ts"], step["dur"], (step.get("pid"), step.get("tid"))
    events = [Event.of(raw, origin) for raw in spans]
    events = [e for e in events if e.end > 0 and e.start < length]
    regions = _regions(events, main, length)
    kernels = [e for e in events if e.kind in KERNELS]
    if kernels:
        segments = [*_kernel_segments(kernels, regions, length)]
    else:
        segments = [*_operator_segments(events, main, regions, length)]
    return _sums(segments, regions, length) | {"owners": "kernels" if kernels else "operators"}


def _is_mark(raw: dict, name: str) -> bool:
    return raw.get("cat") == "user_annotation" and raw["name"] == MARK + name


def _regions(events: list[Event], main: object, length: float) -> list[tuple[float, float, str]]:
    """(start, end, name) in order, without gaps; what no mark covers is "other".

    Between the last backward pass and the end of `gradients` lie the gradient norm and clipping.
    """
    marks = [e for e in events if e.kind == "user_annotation" and e.thread == main]
    found = [(e.start, e.end, e.name.removeprefix(MARK)) for e in marks if e.name.startswith(MARK)]
    known = [one for one in found if one[2] in REGIONS]
    done = max((end for _, end, name in known if name == "backward"), default=None)
    for _, end, name in found:
        if name == "gradients" and done is not None:
            known.append((done, end, "clip"))
    filled, at = [], 0.0
    for start, end, name in sorted(known):
        if start > at:
            filled.append((at, start, "other"))
        filled.append((max(start, at), end, name))
        at = max(at, end)
    return filled + ([(at, length, "other")] if at < length else [])


def innermost(events: Iterable[Event], length: float) -> Iterator[tuple[float, float, list[Event]]]:
    """Cut [0, length] at the edges of nested events: (from, to, those open then, outer first)."""
    stack: list[Event] = []
    at = 0.0

    def close(until: float) -> Iterator[tuple[float, float, list[Event]]]:
        nonlocal at
        while stack and stack[-1].end <= until:
            end = min(stack[-1].end, length)
            if end > at:
                yield at, end, [*stack]
                at = end
            stack.pop()

    for event in sorted(events, key=lambda e: (e.start, -e.end)):
        yield from close(event.start)
        start = min(event.start, length)
        if start > at:
            yield at, start, [*stack]
            at = start
        stack.append(event)
    yield from close(float("inf"))
    if at < length:
        yield at, length, []


def _split(start: float, end: float, regions: list) -> Iterator[tuple[float, float, str]]:
    """A stretch of time, cut at the edges of regions."""
    i = max(0, bisect_right(regions, start, key=lambda one: one[0]) - 1)
    while start < end:
        until = end if i + 1 == len(regions) else min(end, regions[i][1])
        if until > start:
            yield start, until, regions[i][2]
        start, i = max(start, until), i + 1


def _operator_segments(events, main, regions, length) -> Iterator[Segment]:
    """Each instant belongs to the innermost operator of the thread that runs the step."""
    mine = [e for e in events if e.thread == main and e.kind in ("cpu_op", "user_annotation")]
    of_attention = _attention_sequences(mine)
    for start, end, stack in innermost(mine, length):
        category = _operator_category(stack, of_attention)
        operators = [e.name for e in stack if e.kind == "cpu_op"]
        for a, b, region in _split(start, end, regions):
            owner = OPTIMISER if region == "optimizer" else category
            yield Segment(a, b, region, owner, _shown(operators, owner))


def _shown(operators: list[str], category: str) -> str | None:
    """The operator of a stack to name: the innermost of the category's own, else the innermost."""
    for name in reversed(operators):
        if CATEGORY_OF_OPERATOR.get(name.removeprefix("aten::")) == category:
            return name
    return operators[-1] if operators else None


def _attention_sequences(events: list[Event]) -> set[int]:
    """Autograd's numbers of the operators that attention recorded.

    Of the operators with one number the last that started made the node; the others only saw it.
    """
    maker: dict[int, bool] = {}
    inside = 0.0  # the end of the attention that was entered last
    for e in sorted(events, key=lambda e: (e.start, -e.end)):
        if e.name == MARK + "attention":
            inside = e.end
        elif e.sequence is not None and not e.backward:
            maker[e.sequence] = e.start < inside
    return {number for number, attention in maker.items() if attention}


def _operator_category(stack: list[Event], of_attention: set[int]) -> str:
    if not any(e.kind == "cpu_op" for e in stack):
        return IDLE
    if any(e.name == MARK + "attention" for e in stack):
        return ATTENTION
    if any(e.backward and e.sequence in of_attention for e in stack):
        return ATTENTION
    for e in reversed(stack):
        if found := CATEGORY_OF_OPERATOR.get(e.name.removeprefix("aten::")):
            return found
    return OTHER


def _kernel_segments(kernels, regions, length) -> Iterator[Segment]:
    """Each instant belongs to the kernel that started last; where none runs the card is idle."""
    for start, end, stack in innermost(kernels, length):
        name = stack[-1].name if stack else None
        category = _kernel_category(name) if name else IDLE
        for a, b, region in _split(start, end, regions):
            mine = OPTIMISER if region == "optimizer" and name else category
            yield Segment(a, b, region, mine, name)


def _kernel_category(name: str) -> str:
    return next((found for words, found in CATEGORY_OF_KERNEL if words.search(name)), OTHER)


def _sums(segments: list[Segment], regions: list, length: float) -> dict:
    by_region = {name: Counter() for name in REGIONS if any(r[2] == name for r in regions)}
    operators: Counter = Counter()
    for one in segments:
        by_region[one.region][one.category] += one.end - one.start
        if one.operator:
            operators[one.operator, one.category] += one.end - one.start
    total = sum((Counter(c) for c in by_region.values()), Counter())
    if not abs(total.total() - length) <= 0.02 * length:
        raise AccountError(
            f"the parts are {total.total():.0f} us together and the step took {length:.0f}; 2% is"
            " allowed: the trace has lost events"
        )
    return {
        "seconds": length / 1e6,
        "accounted": total.total() / length,
        "categories": [
            {"name": name, "seconds": total[name] / 1e6, "share": total[name] / length}
            for name in CATEGORIES
        ],
        "regions": [
            {"name": name, "seconds": found.total() / 1e6, "share": found.total() / length,
             "categories": {k: v / 1e6 for k, v in sorted(found.items())}}
            for name, found in by_region.items()
        ],
        "spans": [
            {"region": name, "start_us": round(start), "end_us": round(end)}
            for start, end, name in regions
        ],
        "operators": [
            {"name": name[:120], "category": category, "seconds": us / 1e6}
            for (name, category), us in operators.most_common(TOP)
        ],
        "timeline": _timeline(segments),
    }  # fmt: skip


def _timeline(segments: list[Segment]) -> dict[str, list]:
    """Segments for drawing as [start, end, category] columns, at most MAX_SEGMENTS of them.

    Neighbours of one category are one; then what is shorter than a limit goes to its neighbour,
    and the limit grows until few enough are left. The sums do not come from here.
    """
    limit = 0.0
    while True:
        kept: list[list] = []
        for start, end, _, category, _ in segments:
            if kept and (kept[-1][2] == category or end - start < limit):
                kept[-1][1] = end
            else:
                kept.append([start, end, category])
        if len(kept) <= MAX_SEGMENTS:
            columns = ("start_us", "end_us", "category")
            rows = [(round(a, 1), round(b, 1), CATEGORIES.index(name)) for a, b, name in kept]
            return dict(zip(columns, map(list, zip(*rows))))
        limit = max(1.0, 2 * limit)
