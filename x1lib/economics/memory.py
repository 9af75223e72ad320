"""Device memory that a training step needs: weights, gradients, moments, activations, logits."""

from __future__ import annotations

from x1lib.shapes import Shape

# Bytes a parameter, as x1lib.train keeps them: the weight in float32 and its copy in bf16 that the
# backward pass holds, the gradient and AdamW's two moments in float32. Rajbhandari et al. 2020
# (ZeRO, section 3.1) count 16 for a trainer with bf16 gradients.
WEIGHT_BYTES, GRADIENT_BYTES, MOMENT_BYTES = 4 + 2, 4, 8
ACTIVATION_BYTES = 2  # bf16
# Bytes an entry of the padded vocabulary and token: the log-softmax and its gradient in float32,
# one copy of the logits in bf16.
LOGIT_BYTES = 4 + 4 + 2
# What an allocator can hand out: the rest is the CUDA context, kernels' workspace and fragments.
USABLE_SHARE = 0.9
# ZeRO's stages (the same paper): what each divides among the cards, beside the stage before.
ZERO = {0: "nothing", 1: "moments", 2: "gradients", 3: "weights"}


def activation_elements_per_token(s: Shape) -> int:
    """Numbers a token that the backward pass needs of one layer, nothing recomputed.

    Counted over x1lib.train's layer, with attention that stores no scores and norms that store
    only their input: two inputs of norms and two of the matrices behind them; queries and keys
    before QK-norm and after rotation, values, attention's output; gate, its SiLU, up and their
    product.
    """
    queries, keys = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    normed_again = queries + keys if s.qk_norm else 0
    return 4 * s.d_model + 2 * queries + 2 * keys + normed_again + 4 * s.d_ff


def activation_bytes_per_token(s: Shape) -> int:
    """Bytes a token of activations of all layers, the final norm's input and output included."""
    elements = s.n_layers * activation_elements_per_token(s) + 2 * s.d_model
    return ACTIVATION_BYTES * elements


def logits_bytes_per_token(s: Shape) -> int:
    """Bytes a token of the logits over the padded vocabulary and of the loss behind them."""
    return LOGIT_BYTES * s.padded_vocab_size


def state_bytes(n_params, n_gpus=1, zero=0) -> dict:
    """Bytes a card of weights, gradients and moments, divided by ZeRO's stage (0 to 3).

    Takes numbers or arrays; stage 0 is plain data parallelism, a whole copy a card.
    """
    return {
        "weights": WEIGHT_BYTES * n_params / _shards(n_gpus, zero >= 3),
        "gradients": GRADIENT_BYTES * n_params / _shards(n_gpus, zero >= 2),
        "moments": MOMENT_BYTES * n_params / _shards(n_gpus, zero >= 1),
    }


def _shards(n_gpus, divided):
    return 1 + (n_gpus - 1) * divided
