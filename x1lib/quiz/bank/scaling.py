"""Scaling laws: their optimum, what a design can tell, and where the rule of twenty bends."""

from __future__ import annotations

import numpy as np

from x1lib.quiz.question import Bank, Draw, Item, figures
from x1lib.scaling import MUENNIGHOFF_2023, PUBLISHED, identifiability
from x1lib.shapes import count_params

bank = Bank("scaling", "01_scaling_laws")
LAW = PUBLISHED["besiroglu2024"].law


@bank("2. The law, and its optimum")
def ten_times_compute(draw: Draw) -> Item:
    factor = draw.pick([10, 100, 1000])
    n, d = factor**LAW.a, factor ** (1 - LAW.a)
    return Item(
        f"By Besiroglu et al.'s law (alpha {LAW.alpha}, beta {LAW.beta}) compute grows {factor}"
        " times. How many times does the optimal N grow?",
        f"{n:.2f}",
        (f"{d:.2f}", f"{factor**0.73:.2f}", f"{factor}"),
        "N goes as C to the power beta / (alpha + beta), tokens take the rest. 0.73 is Kaplan's"
        " exponent, of another count of N and another way to train.",
    )


@bank("6. Twenty to one, and where it bends")
def which_n(draw: Draw) -> Item:
    name = draw.pick(["25m", "50m", "100m"])
    count = count_params(name)
    right = LAW.optimal_tokens(count.total)
    return Item(
        f"Shape `{name}` has {count.body / 1e6:.1f}M parameters in its body and"
        f" {count.total / 1e6:.1f}M in all. How many tokens does Besiroglu's law want for it?",
        figures(right, 3),
        (
            figures(LAW.optimal_tokens(count.body), 3),
            figures(20 * count.body, 3),
            figures(6 * count.total, 3),
        ),
        "That law counts all parameters, the embedding too. At small sizes the embedding is a large"
        " part, so that the wrong N moves the answer by a factor.",
    )


@bank("9. What a sweep can tell, before it is paid for")
def three_sizes(draw: Draw) -> Item:
    sizes = count_params("5m").total, count_params("25m").total, count_params("100m").total
    rank = identifiability(np.array(sizes, float), np.full(3, draw.pick([3e8, 5e8, 1e9]))).rank
    return Item(
        "Three sizes are trained, all at one token count, and E + A / N^alpha + B / D^beta is to be"
        " fitted. How many of its five unknowns do the runs determine?",
        str(rank),
        ("5", "4", "1"),
        "At one D, B / D^beta is a constant beside E, and beta shows in nothing: of E and B only"
        " the sum is known. A, alpha and that sum are three.",
    )


@bank("9. What a sweep can tell, before it is paid for")
def saturated(draw: Draw) -> Item:
    tokens = np.array([1e8, 2e8, 4e8])
    n, d = np.meshgrid([18e6, 52e6, 142e6], tokens)
    known = identifiability(n.ravel(), d.ravel())
    assert known.rank == 5 and known.saturated_in_n
    return Item(
        "Three sizes are branched at three token counts each: the rank is 5. What can the residuals"
        " of the fit still not tell?",
        "which parameters N should count",
        (
            "whether beta is above 0",
            "whether more tokens help as much at every size",
            "whether one run is out of line with the other eight",
        ),
        "E, A and alpha pass through three sizes whatever N counts, so no residual speaks against"
        " a wrong count; and yet D_opt(1B) differs by a factor. Five sizes can tell. What is left"
        " over is of the grid: a form that does not add up, or a run that went astray.",
    )


@bank("11. When the text runs out")
def repeated(draw: Draw) -> Item:
    epochs = draw.pick([4, 8, 16])
    unique = 1e9
    worth = float(MUENNIGHOFF_2023.effective_tokens(epochs * unique, unique))
    all_of_it = unique * (1 + MUENNIGHOFF_2023.r_tokens)
    return Item(
        f"A billion tokens are read {epochs} times. By Muennighoff et al. (2023), to how many fresh"
        " tokens is that worth as much?",
        figures(worth, 3),
        (figures(epochs * unique, 3), figures(unique, 3), figures(all_of_it, 3)),
        "Each repetition is worth less than the one before, by a factor of e after some fifteen. A"
        " few epochs are nearly as good as fresh text; without end they are worth 16.4 billion.",
    )


@bank("7. Too large, too small, and why one may want it")
def over_trained(draw: Draw) -> Item:
    return Item(
        "Llama 3 8B was trained on some 1,900 tokens a parameter, a hundred times the rule. When is"
        " that the cheaper choice?",
        "when many tokens will be served with it",
        (
            "never: at that compute a larger model has the lower loss",
            "when training data is scarce and must be repeated",
            "when the learning rate was not tuned for its size",
        ),
        "The optimum of training minimises the loss for training FLOPs alone. A token served costs"
        " 2N, for as long as the model lives; over-training moves cost from there to here.",
    )


@bank("8. Why Kaplan and Chinchilla disagree")
def kaplan(draw: Draw) -> Item:
    k = PUBLISHED["kaplan2020"].law
    return Item(
        f"Kaplan et al. (2020) found N ~ C^{k.a}, Hoffmann et al. (2022) about C^0.5. What explains"
        " most of the difference, by those who took it apart?",
        "Kaplan left embedding and head out of the count of N",
        (
            "Kaplan's models had more layers for the same width",
            "Hoffmann's text was cleaner, so that each token taught more",
            "Kaplan's losses were in bits and Hoffmann's in nats",
        ),
        "Small models have much of both, so leaving them out bends the curve there; Porian et al."
        " (2024) add the head's FLOPs, a warm-up too long for small models, and untuned batches.",
    )
