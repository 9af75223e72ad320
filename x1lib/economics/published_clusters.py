"""Published runs over many cards, to hold the arithmetic of `parallel` against."""

from __future__ import annotations

from dataclasses import dataclass

from x1lib.economics.parallel import Layout
from x1lib.shapes import Shape

LLAMA_2_70B = Shape(  # Touvron et al. 2023, arXiv 2307.09288; batch of 4M tokens (section 2.2)
    "Llama-2-70B", 80, 8192, 64, 8, 28672, vocab_size=32000, head_dim=128, qk_norm=False, tied=False
)
LLAMA_2_BATCH_TOKENS = 4 * 2**20
LLAMA_2_SEQ_LEN = 4096
# 7.5B parameters over 64 cards: GB a card at stage 0 to 3 (Rajbhandari et al. 2020, figure 1).
ZERO_FIGURE_1 = (120.0, 31.4, 16.6, 1.9)


@dataclass(frozen=True)
class MegatronRow:
    """Narayanan et al. 2021, arXiv 2104.04473, table 1: GPT on A100-80GB, sequences of 2,048.

    tflops_per_sec counts recomputation, as that table does. Micro-batches of 1.
    """

    n_params: float
    n_heads: int
    d_model: int
    n_layers: int
    tp: int
    pp: int
    cards: int
    sequences: int
    tflops_per_sec: float

    @property
    def shape(self) -> Shape:
        """The same widths; two thirds of 4 x d_model, since SwiGLU has three matrices for two."""
        head = self.d_model // self.n_heads
        return Shape(
            f"GPT-{self.n_params / 1e9:g}B", self.n_layers, self.d_model, self.n_heads,
            self.n_heads, round(8 * self.d_model / 3), 51200, head, qk_norm=False,
        )  # fmt: skip

    @property
    def layout(self) -> Layout:
        return Layout(self.tp, self.pp, self.cards // (self.tp * self.pp))


# Written down without the page at hand. What was checked: each parameter count and each number of
# cards follows from its row by the paper's own formulas, and the last row's 163 TFLOP/s over 3,072
# cards are the 502 petaFLOP/s, 52% of the peak, of the abstract. Other throughputs: unverified.
CHECKED_CARDS = (3072,)  # the rows whose throughput was held against the paper
MEGATRON_TABLE_1 = tuple(
    MegatronRow(*row)
    for row in (
        (1.7e9, 24, 2304, 24, 1, 1, 32, 512, 137),
        (3.6e9, 32, 3072, 30, 2, 1, 64, 512, 138),
        (7.5e9, 32, 4096, 36, 4, 1, 128, 512, 142),
        (18.4e9, 48, 6144, 40, 8, 1, 256, 1024, 135),
        (39.1e9, 64, 8192, 48, 8, 2, 512, 1536, 138),
        (76.1e9, 80, 10240, 60, 8, 4, 1024, 1792, 140),
        (145.6e9, 96, 12288, 80, 8, 8, 1536, 2304, 148),
        (310.1e9, 128, 16384, 96, 8, 16, 1920, 2160, 155),
        (529.6e9, 128, 20480, 105, 8, 35, 2520, 2520, 163),
        (1008.0e9, 160, 25600, 128, 8, 64, 3072, 3072, 163),
    )
)
