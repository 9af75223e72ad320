"""What fifty dollars buy, and the slips of the course's own brief."""

from __future__ import annotations

from x1lib.budget_guard import Plan
from x1lib.economics import estimate
from x1lib.quiz.question import Bank, Draw, Item, figures
from x1lib.shapes import count_params

bank = Bank("motivation", "00_motivation")
RULE = 20  # tokens a parameter: Hoffmann et al. 2022, table 3


@bank('3. "Chinchilla-optimal"')
def optimum(draw: Draw) -> Item:
    n = draw.pick([1e9, 2e9, 7e9, 13e9])
    return Item(
        f"The brief of this course says N_opt ≈ 20·D. By the rule that it means, which run of"
        f" {figures(n)} parameters is compute-optimal?",
        f"one on about {figures(RULE * n)} tokens: D_opt ≈ 20·N",
        (
            f"one on about {figures(n / RULE)} tokens: N_opt ≈ 20·D",
            f"one on about {figures(n)} tokens: a token for each parameter",
            f"one on about {figures(6 * n)} tokens: 6 for each parameter, as in 6ND",
        ),
        "The brief has it upside down. Hoffmann et al. (2022) found about twenty tokens a parameter"
        " over the sizes they trained, so D_opt ≈ 20·N; read as printed, a model would want twenty"
        " parameters for each token it sees.",
    )


@bank("5. The shape")
def parameters(draw: Draw) -> Item:
    count = count_params("240m")
    untied = count.total + count.embedding
    wanted, value = draw.pick([("in all", count.total), ("in its body", count.body)])
    other = count.body if wanted == "in all" else count.total
    return Item(
        "The brief prints a shape, 32 layers × 768 × 12 heads with 4 key/value heads, and calls it"
        f" 50M. With GPT-2's vocabulary and a tied head, how many parameters has it {wanted}?",
        f"{value / 1e6:.0f}M",
        (f"{other / 1e6:.0f}M", "50M", f"{untied / 1e6:.0f}M"),
        f"Counted weight by weight it has {count.body / 1e6:.1f}M in the body and"
        f" {count.embedding / 1e6:.1f}M in the embedding, {count.total / 1e6:.1f}M together; a tied"
        " head is stored once. 50M is another shape.",
    )


@bank('4. "MFU 0.45"')
def hours_by_6nd(draw: Draw) -> Item:
    mfu = draw.pick([0.3, 0.4, 0.45, 0.5])
    made = estimate(n_params=50e6, n_tokens=5e9, mfu=mfu, usd_per_gpu_hour=1.10)
    return Item(
        f"By 6ND, how long does one A100 at MFU {mfu:g} take for a model of 50M parameters and 5"
        " billion tokens? (The brief says: 24 hours.)",
        f"{made.hours:.1f} hours",
        (
            f"{made.hours / 3:.1f} hours",
            f"{made.hours * mfu:.1f} hours",
            f"{24 + made.hours:.1f} hours",
        ),
        f"6 · 50e6 · 5e9 = 1.5e18 FLOPs over {mfu:g} of 312 TFLOP/s is {made.hours:.1f} h. A third"
        " of that is the forward pass alone; without MFU it is the data sheet's time. To fill a day"
        f" takes more tokens, a larger model, or an MFU of {mfu * made.hours / 24:.3f}.",
    )


@bank('4. "MFU 0.45"')
def mfu_of_a_day(draw: Draw) -> Item:
    n_tokens = draw.pick([4e9, 5e9, 6e9])
    exact = estimate(n_params=50e6, n_tokens=n_tokens, mfu=1.0, usd_per_gpu_hour=1.10).hours / 24
    return Item(
        f"A run of 50M parameters on {figures(n_tokens)} tokens fills 24 hours of one A100. Which"
        " MFU is that, by 6ND?",
        f"{exact:.3f}",
        (f"{exact / 3:.3f}", f"{exact / 2:.3f}", "0.450"),
        "The FLOPs of the run over what the card could do in a day, 312 TFLOP/s of dense bf16. A"
        " third of it is the forward pass alone, half of it is of the sparse peak. Hitting 24"
        " hours is no merit: it rewards a low MFU. Hours are the ceiling, tokens and loss the"
        " result.",
    )


@bank("7. Text and money")
def break_even(draw: Draw) -> Item:
    hours, restart = draw.pick([(24.0, 1.0), (30.0, 1.5), (36.0, 2.0)])
    plan = Plan("a run", hours, restart_hours=restart)
    return Item(
        f"A run is planned for {hours:g} h, {restart:g} h are set aside to restart it, and the"
        " guard adds 10% to every plan. At which price an hour does it just fit into $50?",
        f"${plan.break_even_usd_per_hour(50.0):.2f}",
        (
            f"${50 / hours:.2f}",
            f"${50 / (hours + restart):.2f}",
            f"${50 * 1.1 / (hours + restart):.2f}",
        ),
        "All hours that could be billed count, the restart too, and then the tenth on top: 50 over"
        f" 1.1 · ({hours:g} + {restart:g}). The guard prints this price before anything starts.",
    )


@bank("7. Text and money")
def a_hard_cap(draw: Draw) -> Item:
    return Item(
        "The brief holds its cap of $50 by a check at launch. What can no such check stop, however"
        " careful it is?",
        "a machine that hangs for a day, an hour after launch",
        (
            "a plan whose hours times price are over the cap",
            "two plans that are each under the cap and together over it",
            "a plan that fits only if no restart is counted",
        ),
        "At launch one can refuse plans, with their restarts and with what others have set aside."
        " What is billed afterwards, idle or hanging, is stopped by a meter in the run, by a"
        " watchdog outside it, and at the last by ending the machine.",
    )


@bank('5. "A 7B model costs a million dollars"', "02_cluster_economics")
def a_million_dollars(draw: Draw) -> Item:
    n_tokens = draw.pick([140e9, 280e9, 1e12])
    made = estimate(n_params=7e9, n_tokens=n_tokens, mfu=0.45, usd_per_gpu_hour=1.10)
    say = lambda usd: f"about ${figures(usd)}"  # noqa: E731
    return Item(
        f'"A 7B model costs a million dollars." What do 7B parameters on {figures(n_tokens)}'
        " tokens cost by 6ND on A100s at MFU 0.45 and $1.10 a card hour, if no run fails?",
        say(made.usd),
        (say(made.usd * 0.45), say(made.usd / 3), say(5e6)),
        "FLOPs over the rate of a card, times the price of its hour. The sentence leaves out D, the"
        " price and the failed runs; without them a cost is no number.",
    )
