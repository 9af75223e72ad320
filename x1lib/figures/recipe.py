"""Every hyper-parameter of a run beside where it comes from and why one may doubt it."""

from __future__ import annotations

from x1lib import planning
from x1lib.figures.shown import Table
from x1lib.pacing import Schedule

# What is set, how its value reads in a manifest, the source, and the doubt.
_ROWS = (
    ("peak learning rate", "{plan[lr]:.2e}",
     "Step Law: 1.79 N^−0.713 D^0.307 (Li et al. 2025, arXiv 2503.04715)",
     "fitted on 60M to 1B parameters; below, it extrapolates, and we cap it at {max_lr:g}"),
    ("tokens a step", "{batch_tokens:,}",
     "Step Law: 0.58 D^0.571 (the same paper)",
     "fitted on batches above 250k tokens; small machines end far below"),
    ("schedule", "{warmup:.0%} warm-up, {cooldown:.0%} cooldown",
     "warm-up, constant, 1 − √ cooldown (Hägele et al. 2024, arXiv 2405.18392)",
     "a cosine of the same length does about as well; WSD is chosen because it can end any time"),
    ("β₁, β₂", "{config[beta1]:g}, {config[beta2]:g}",
     "GPT-3 (Brown et al. 2020, appendix B)",
     "0.95 forgets in 20 steps: calmer after a jump, noisier in between; batches here are small"),
    ("ε", "{config[eps]:g}", "Kingma & Ba 2014",
     "Llama 2 used 1e-5; we have not varied it"),
    ("weight decay", "{config[weight_decay]:g} × reference rate",
     "GPT-3's 0.1, independent of the rate (Wortsman et al. 2023, arXiv 2309.14322)",
     "one run of minutes cannot show what it is for"),
    ("no decay on", "embedding, norms",
     "embedding: OLMo 2 (2025, arXiv 2501.00656); norms: by custom, as nanoGPT does",
     "tied here: the head is not decayed either"),
    ("gradient clip", "{config[clip]:g}", "GPT-3 (Brown et al. 2020)",
     "it hides spikes as well as stopping them; look at the norm before clipping"),
    ("initial weights", "{config[init_std]:g}, ends of branches / √(2 layers)",
     "GPT-2 (Radford et al. 2019)",
     "0.02 suits widths near 1,000; narrow models could start larger"),
    ("QK-norm", "{config[qk_norm]}",
     "Henry et al. 2020; Dehghani et al. 2023; Qwen3 (2025)",
     "it buys stability at high rates; below them it costs a little speed for nothing"),
    ("position", "RoPE, θ = {config[rope_theta]:,.0f}", "Su et al. 2021, arXiv 2104.09864",
     "long contexts want a larger θ; a window of {window:,} does not"),
    ("MLP", "SwiGLU, {shape[d_ff]:,} wide", "Shazeer 2020, arXiv 2002.05202",
     "“divine benevolence” is the paper’s own explanation"),
    ("key/value heads", "{shape[n_kv_heads]} for {shape[n_heads]}",
     "Ainslie et al. 2023, arXiv 2305.13245",
     "it saves cache when serving; in training it only costs capacity"),
    ("embedding", "tied with the head", "Press & Wolf 2017, arXiv 1608.05859",
     "right for small models, where the table is a large share; larger ones untie"),
    ("tokens a sequence", "{window:,}", "ours: short, so that a CPU sees many documents",
     "longer windows lower the loss and raise the cost of attention"),
    ("z-loss", "{config[z_loss]:g}", "PaLM used 1e-4 (Chowdhery et al. 2022)",
     "off: nothing here has needed it yet"),
)  # fmt: skip


def settings_table(manifest: dict) -> Table:
    """The table for one finished run, from its manifest."""
    plan, window = manifest["plan"], manifest["plan"]["window"]
    values = {**manifest, "window": window, "batch_tokens": plan["batch_size"] * window}
    schedule = Schedule.from_json(plan["schedule"])
    values |= {
        "max_lr": planning.MAX_LR,
        "warmup": schedule.warmup_steps / schedule.total_steps,
        "cooldown": 1 - schedule.cooldown_start / schedule.total_steps,
    }
    rows = [
        (f"**{name}**", value.format(**values), source, doubt.format(**values))
        for name, value, source, doubt in _ROWS
    ]
    return Table(("what", "in this run", "where it comes from", "why one may doubt it"), rows)
