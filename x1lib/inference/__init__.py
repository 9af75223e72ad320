"""After the run: quantise it, serve it, and price a token.

`quantize` makes codes of a model's matrices, `use_kernels` lets torch's packed kernels multiply
them, `quality` says what was lost, `decode_benchmark` how fast it reads aloud, and
`usd_per_million_tokens` what that costs.
"""

from x1lib.inference.baselines import BASELINES, Baseline, build
from x1lib.inference.benchmark import Measured, best_batch, decode_benchmark
from x1lib.inference.codes import KINDS, Codes, encode
from x1lib.inference.decoder import Cache, Decoder, greedy, greedy_without_cache
from x1lib.inference.errors import InferenceError
from x1lib.inference.files import load_checkpoint, load_quantized, save_quantized, tokenizer_of
from x1lib.inference.pricing import (
    CPU_HOUR,
    Investment,
    break_even_tokens,
    over_training,
    roofline_usd_per_million,
    serving_equals_training_tokens,
    usd_per_million_tokens,
)
from x1lib.inference.quality import Quality, quality
from x1lib.inference.quantizing import QuantLinear, memory_bytes, quantize, use_kernels
from x1lib.inference.roofline import (
    Peak,
    Work,
    card_peak,
    machine_peak,
    machine_peaks,
    read_rate,
    work_of,
    work_of_shape,
)

__all__ = [
    "BASELINES",
    "CPU_HOUR",
    "KINDS",
    "Baseline",
    "Cache",
    "Codes",
    "Decoder",
    "InferenceError",
    "Investment",
    "Measured",
    "Peak",
    "Quality",
    "QuantLinear",
    "Work",
    "best_batch",
    "break_even_tokens",
    "build",
    "card_peak",
    "decode_benchmark",
    "encode",
    "greedy",
    "greedy_without_cache",
    "load_checkpoint",
    "load_quantized",
    "machine_peak",
    "machine_peaks",
    "memory_bytes",
    "over_training",
    "quality",
    "quantize",
    "read_rate",
    "roofline_usd_per_million",
    "save_quantized",
    "serving_equals_training_tokens",
    "tokenizer_of",
    "usd_per_million_tokens",
    "use_kernels",
    "work_of",
    "work_of_shape",
]
