# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04: why a loss spikes, and what mends it
#
# ## Question
#
# A loss falls for days; then within ten steps it doubles. Was it the batch, the optimiser's memory, the learning rate? Does it matter, as long as it comes back? **Can you say what made a spike, and choose a recovery, before trying all of them?**
#
# Each mechanism below is made to happen on a real run of seconds, then taken back: state in memory, the trainer's own step, the same bits again. Allow 120 minutes. You need averages, square roots and one derivative.

# %% [markdown]
# 🇪🇸 Un pico de la pérdida puede costar días de cálculo, y casi siempre se cura a ciegas. Aquí cada causa se provoca a propósito en un entrenamiento diminuto, se rebobina y se prueba cada remedio desde el mismo estado. Al terminar sabrás qué mirar primero y qué remedio va con qué causa.

# %%
import math
from dataclasses import replace

import numpy as np
import torch

from x1lib import check, stability
from x1lib.figures import Code, Table
from x1lib.figures import stability as figures
from x1lib.launch.places import project_root
from x1lib.pacing import Schedule
from x1lib.postmortem import Changes, Corpus, Incident, Rewound, Theatre, classify, features, watch
from x1lib.postmortem.tiny import activations, encyclopaedia, heldout, text, tiny

RECORDS = project_root() / "experiments/reference"

# %% [markdown]
# ## Symbols
#
# | symbol | meaning | unit |
# |---|---|---|
# | g, m, v | gradient, its running mean, its square's | |
# | β₁, β₂ | what those means keep of their past, a step | 0 to 1 |
# | η, λ | learning rate, weight decay (taken off: ηλ a step) | |
# | Z | sum of the exponentials of all logits | |
# | n, m_w | width, width over base width | |
#
# The *probe* is the loss on eight held-out rows, read **after** an update; the batch's own is read before. A hard batch raises the second alone, a damaged model both.
#
# ## Predict
#
# Put your guesses in the place of `None`.

# %%
guess_update = None  # Adam's largest update after a jump, β₁ 0.9, β₂ 0.999 [learning rates]
guess_clip = None  # probe with every gradient clipped to about 1/100, over the probe without
guess_rate = None  # best rate at width 64 over the best at 128, without a rule for widths
guess_lead = None  # steps by which BLOOM's gradient norm led its first loss spike
guess_late = None  # steps from a jump to the probe's peak, updates clipped in the first 20

# %% [markdown]
# ## 1. A run that can be taken back
#
# Two layers, width 64, 512 tokens a step: the trainer's model, optimiser and step, held in memory; `tiny` makes such a run at step 0. A *trunk* of 200 steps is trained once. What follows branches from it or starts afresh, **live**, in this notebook. Three tables would take too long: they are **recorded**, over several seeds, by scripts in `experiments/benchmarks`, and some of their points are made again live. Each figure and table says which is which.

# %% tags=["nbval-check-output"]
run = tiny()
n_params = sum(p.numel() for p in run.params)
print(f"{n_params:,} parameters, {text().vocab_size:,} tokens in the vocabulary")
Code(tiny)

# %%
first = run.take_step(observe=True)
past = [first, *run.run(199)]
trunk = run.snapshot()
print(f"loss {past[0]['loss']:.1f} at step 1, {past[-1]['loss']:.1f} at step {run.step}")
assert past[-1]["loss"] < past[0]["loss"] - 1.5

# %% [markdown]
# Is a replay the run itself? Take it back, train the same ten steps twice, compare every number. Without that equality no recovery below would prove anything.


# %%
def branch(spec="", n_steps=10, observe=True, **changes) -> list[dict]:
    """Steps from the trunk on, with a fault and with changes; records with the probe."""
    run.restore(trunk)
    if spec:
        run.inject(spec)
    run.changes = Changes(**changes)
    return run.run(n_steps, observe=observe, probe=True)


once, again = branch(), branch()
assert once == again  # losses, norms, updates, probes: to the last bit
level = once[0]["probe"]
print(f"ten steps twice: equal to the bit; the probe is at {level:.2f} nats a token")

# %% [markdown]
# **Takeaway.** A replay that is exact turns an anecdote into an experiment: whatever differs afterwards was done by the one thing that you changed.
#
# 🇪🇸 Si la repetición es exacta, una anécdota se convierte en experimento. Lo que salga distinto se debe a lo único que cambiaste. Por eso todo lo que sigue parte del mismo estado guardado.

# %% [markdown]
# ## 2. Adam's update, and a second moment that is late
#
# Adam moves a weight by η m / √v. For a steady gradient m = g and √v = |g|: the update is η whatever the gradient's size. Now let the gradient jump from almost nothing to 1. After n steps m = 1 − β₁ⁿ and v = 1 − β₂ⁿ, so
#
# **update / η = (1 − β₁ⁿ) / √(1 − β₂ⁿ)**
#
# For n = 1 that is 0.1/√(1 − β₂). With β₂ near 1 the numerator catches up in ten steps, the denominator in 1/(1 − β₂).

# %% tags=["nbval-check-output"]
n = np.arange(1, 5000)
for beta2 in (0.9, 0.95, 0.99, 0.999, 0.9999):
    update = (1 - 0.9**n) / np.sqrt(1 - beta2**n)
    assert math.isclose(update.max(), stability.largest_update(0.9, beta2), rel_tol=1e-9)
    print(
        f"β₂ {beta2:<6}: at most {update.max():5.2f} learning rates, {n[update.argmax()]} steps on"
    )
largest = stability.largest_update(0.9, 0.999)
assert math.isclose(largest, 6.57, rel_tol=2e-3)
assert math.isclose(stability.largest_update(0.9, 0.95), 1.10, rel_tol=5e-3)
check.guess(guess_update, largest, within=1.5, name="largest update")

# %% [markdown]
# Real gradients are mostly noise. Then m adds up like a random walk, m² reaches 1 − β₁²ⁿ of its usual size after n steps, and the update reaches √((1 − β₁²ⁿ)/(1 − β₂ⁿ)) times *its own usual size*: sooner, and higher.
#
# On a real model: 20 quiet steps whose gradient is 33 times smaller (as under a masked loss), moments settled on it; then the gradient is itself again. Text, steps and jump are the same for both β₂.


# %%
def in_noise(beta2: float, jump: float) -> float:
    """Largest update over its usual size where gradients are noise of a size that jumps."""
    first, second = (1 - (1 - jump**-2) * beta**n for beta in (0.9**2, beta2))
    return float(np.sqrt(first / second).max())


measured, limit = {}, {}
for beta2 in (0.95, 0.999):
    steps = branch(f"adam-beta2@221:{beta2},steps=20,jump=33", n_steps=36)
    moved = np.array([one["update_rms"] for one in steps[10:]])
    probe = np.array([one["probe"] for one in steps[10:]])
    measured[beta2] = moved / np.median(moved[:10]), probe - np.median(probe[:10])
    limit[beta2] = in_noise(beta2, 33)
for beta2, (ratio, rise) in measured.items():
    steady = stability.largest_update(0.9, beta2, jump=33)
    print(f"β₂ {beta2}: update x {ratio.max():.1f}; formula for a steady gradient {steady:.1f},")
    print(f"    for noise {limit[beta2]:.1f}; the probe rises by {rise.max():.1f} nats")
assert measured[0.999][0].max() > 1.5 * measured[0.95][0].max()
assert measured[0.999][1].max() > 0.15 > 0.1 > measured[0.95][1].max()
figures.updates(measured, limit)

# %% [markdown]
# The formulas give the direction and the order, not the digits: real gradients come in bursts, and every weight has a scale of its own.
#
# **Takeaway.** β₂ decides how long Adam believes an old scale. At 0.95 it forgets in twenty steps and the jump passes; at 0.999 the same jump is a spike. The price of 0.95 is a noisier denominator.
#
# 🇪🇸 β₂ decide cuánto tiempo cree Adam en una escala antigua. Con 0,95 la olvida en veinte pasos y el salto pasa casi sin notarse; con 0,999 el mismo salto, con el mismo texto, produce un pico.

# %% [markdown]
# ## 3. Warm-up
#
# At step 1 both means hold one gradient. With bias correction m = g and √v = |g|: every weight moves by a whole η, whether its gradient is large or next to nothing. Count it on the run's first step, whose rate was η/50 under a warm-up of 50 steps.

# %%
share = first["update_rms"] / first["lr"]
usual = float(np.median([one["update_rms"] / one["lr"] for one in once]))
print(f"RMS of the first update: {share:.2f} learning rates; {usual:.2f} after 200 steps")
assert 0.9 < share < 1.1 and usual < share / 1.5

# %% [markdown]
# The later figure is that of noise: √((1 − β₁)/(1 + β₁)) = 0.23. So the first steps are Adam's largest, in directions that one batch chose. Does it hurt? Guess, then look: two rates, each with and without 20 steps of warm-up, 30 steps in all.

# %%
rows, probes = [], {}
for lr in (3e-3, 3e-2):
    for warmup in (0, 20):
        one = tiny(warmup, lr=lr)
        steps = [*one.run(29), one.take_step(probe=True)]
        probes[lr, warmup] = steps[-1]["probe"]
        worst = max(one["grad_norm"] for one in steps)
        rows.append((f"{lr:g}", warmup, f"{probes[lr, warmup]:.1f}", f"{worst:.0f}"))
gain = {lr: probes[lr, 0] - probes[lr, 20] for lr in (3e-3, 3e-2)}
assert max(map(abs, gain.values())) < 0.3  # nats, either way
Table(("rate", "warm-up steps", "probe after 30 steps [nats]", "largest gradient norm"), rows)

# %% [markdown]
# **Takeaway.** Warm-up is insurance against Adam's first, blind, full-size steps. Here nothing burnt: with QK-norm, clipping and two layers, thirty steps without it end within 0.3 nats of thirty with it, at either rate. The mechanism is there; the harm was not met at this size.
#
# 🇪🇸 En el primer paso Adam mueve cada peso una tasa entera, en la dirección que eligió un solo lote. El calentamiento es un seguro contra esos pasos a ciegas: aquí no ardió nada, y a este tamaño no se ve qué lo haría arder.

# %% [markdown]
# ## 4. Weight decay and norms
#
# Decoupled decay multiplies a weight by 1 − ηλ at each step. If gradients were pure noise, each would add η in all (momentum only spreads it over ten steps), and the square of the weights would follow
#
# **w² ← (1 − ηλ)² w² + η²**
#
# which stands still where 2ηλ w² = η²: **w = √(η / 2λ)**, after some 1/(2ηλ) steps, wherever it began. Our λ are far above any recipe's 0.1, so that this comes within 60 steps and not within thousands.


# %%
def hidden_rms(one: Rewound) -> float:
    hidden = [p for name, p in one.model.named_parameters() if p.ndim == 2 and "blocks" in name]
    squares = sum(p.detach().double().square().sum().item() for p in hidden)
    return math.sqrt(squares / sum(p.numel() for p in hidden))


rms, still = {}, {}
for decay in (0.0, 4.0, 16.0):
    one = tiny(10, lr=5e-3, weight_decay=decay)
    rms[decay] = [hidden_rms(one)]
    while one.step < 60:
        one.run(15)
        rms[decay].append(hidden_rms(one))
    if decay:
        still[decay] = math.sqrt(5e-3 / 2 / decay)
        assert still[decay] / 2 < rms[decay][-1] < 2 * still[decay]
assert rms[0.0][-1] > rms[4.0][-1] and 1.5 < rms[4.0][-1] / rms[16.0][-1] < 3
figures.weights(rms, 15, still)

# %% [markdown]
# The levels come within a factor of two: real gradients are not noise alone. What is right is the law: four times the decay, about half the size.
#
# **Takeaway.** Where a norm follows, a matrix's scale hardly changes what it computes, but a small weight is turned further by the same update: decay sets the *effective* rate. Without it weights grow and training slows by itself; with too much, every step is large. The embedding is not decayed here.
#
# 🇪🇸 El decaimiento no sirve tanto para regularizar como para fijar el tamaño de los pesos y, con él, cuánto gira cada actualización. El equilibrio, la raíz de η entre 2λ, no depende de dónde se empezó.

# %% [markdown]
# ## 5. Clipping, and what it does not mend
#
# Clipping scales a gradient down to norm c. It is Adam that then divides by √v. Clip *every* gradient by the same factor and the factor cancels: m and √v shrink alike. Predict what clipping every gradient, from step 1, to a hundredth of its norm does.


# %%
def forty(clip: float) -> list[dict]:
    one = tiny(20, clip=clip)
    return [*one.run(39), one.take_step(probe=True)]


free, tight = forty(0.0), forty(0.01)
norms = [one["grad_norm"] for one in tight]
change = tight[-1]["probe"] - free[-1]["probe"]
print(f"gradient norms {min(norms):.2f} to {max(norms):.2f}, all clipped to 0.01")
print(f"probe after 40 steps: {free[-1]['probe']:.2f} free, {tight[-1]['probe']:.2f} clipped")
assert min(norms) > 0.1 and abs(change) < 0.1
ratio = tight[-1]["probe"] / free[-1]["probe"]
check.guess(guess_clip, ratio, within=1.05, name="probe, clipped over free")

# %% [markdown]
# Clipping acts on what *sticks out* of √v: one bad batch among good ones. A rate that is wrong makes no large gradient until the model is already hurt. Two faults from the trunk, each with three clips: three batches of random tokens; five steps at ten times the rate.

# %%
faults = {
    "3 batches of garbage": "corrupt-data@206:1,kind=1,steps=3",
    "5 steps at 10 x the rate": "lr-too-high@206:10,steps=5",
}
cases = {}
for fault, spec in faults.items():
    cases[fault] = {}
    for clip in (0.0, 1.0, 0.1):
        steps = branch(spec, n_steps=16, observe=False, clip=clip)
        probe = np.array([one["probe"] for one in steps])
        cases[fault][f"clip {clip:g}" if clip else "no clip"] = probe - np.median(probe[:5])
peaks = {fault: {clip: max(rise) for clip, rise in by.items()} for fault, by in cases.items()}
garbage, rate = peaks.values()
assert rate["clip 1"] > 0.5 * rate["no clip"] and garbage["clip 1"] > 0.05
assert max(by["clip 0.1"] / by["no clip"] for by in peaks.values()) < 0.7
figures.rises(cases, 5, "A clip of 1 leaves most of a wrong rate's harm; a tight one damps both")

# %% [markdown]
# How much a clip of 1 takes off garbage changes with a processor's rounding; the rest does not. A tight clip put on *now* is a cut of the rate in disguise: m shrinks within ten steps, v within twenty or more. It helps with anything for a while.
#
# **Takeaway.** Clipping bounds the *weight of one batch*. It does not bound Adam's update (section 2), does not see a wrong rate before it has done harm, and mends no weight. PaLM clipped, and spiked.
#
# 🇪🇸 Recortar el gradiente limita lo que pesa un solo lote, y nada más. Adam cancela cualquier factor constante, de modo que el recorte no ve una tasa equivocada ni repara pesos ya dañados.

# %% [markdown]
# ## 6. Two logits that run away: QK-norm and z-loss
#
# **Attention.** A logit q·k/√d grows with the norms of q and k, which no loss holds back. Large ones make the softmax a switch: all or nothing, no gradient. *QK-norm* divides q and k by their RMS, so that |q·k|/√d ≤ √d × their gains (√16 = 4 at the start, here).
#
# **Output.** Add a constant to all logits: the loss stays. So Z may drift until it costs precision. *z-loss* adds w log²Z, a weak spring to log Z = 0; PaLM's w is 1e-4, ours far more, to be seen within 40 steps. Both are switches of the trainer: `qk_norm`, `z_loss`.


# %%
def runaway(one: Rewound) -> tuple[float, float]:
    """The largest |q||k|/√d on the probe's rows, and the RMS of log Z."""
    norms, hooks = {}, []
    for i, block in enumerate(one.model.blocks):
        for name in ("q_norm", "k_norm"):
            module = getattr(block.attention, name)

            def keep(_, __, out, key=(i, name)):
                norms[key] = out.norm(dim=-1).max()

            hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        logits = one.model(one.probe_rows.long()[:, :-1])
    for hook in hooks:
        hook.remove()
    layers = range(len(one.model.blocks))
    largest = max(norms[i, "q_norm"] * norms[i, "k_norm"] for i in layers)
    return float(largest) / math.sqrt(16), logits.logsumexp(-1).square().mean().sqrt().item()


# %%
ways = {
    "as the recipe has it": {},
    "no QK-norm": {"qk_norm": False},
    "z-loss, w = 1e-2": {"z_loss": 1e-2},
}
found, rows = {}, []
for name, settings in ways.items():
    found[name] = []
    for seed in range(3):
        one = tiny(20, lr=2e-2, seed=seed, **settings)
        one.run(39)
        found[name].append((*runaway(one), one.take_step(probe=True)["probe"]))
    logit, log_z, probe = zip(*found[name], strict=True)
    said = " ".join(f"{value:.2f}" for value in probe)
    rows.append((name, f"{np.median(logit):.1f}", f"{np.median(log_z):.1f}", said))
recipe, free, sprung = (np.array(three) for three in found.values())
assert min(free[:, 0]) > 2 * max(recipe[:, 0]) and max(sprung[:, 1]) < min(recipe[:, 1])
head = "40 steps at rate 0.02", "bound of |attention logit|", "RMS of log Z", "probe, seeds 0 to 2"
Table(head, rows)

# %% [markdown]
# **Takeaway.** QK-norm caps what attention's logits can become; z-loss holds the output's. Both act *before* anything breaks. What each holds is seen in the quantity itself. The probe is lower with z-loss on all three seeds here, on two of three with an older instruction set: nothing is claimed of it. Marin 32B took in the first after 80,000 steps without it.
#
# 🇪🇸 La normalización de consultas y claves pone techo a los logits de la atención; la pérdida z sujeta los de la salida. Antes que en la pérdida, se ven en la magnitud que cada una contiene. Lo que hacen con la sonda, a una tasa tan exagerada, cambia hasta con el redondeo del procesador.

# %% [markdown]
# ## 7. One rate for all widths
#
# A hidden unit sums n inputs. Initial weights are random, so their sum grows as √n: give them a deviation of 1/√n. An Adam update is not random: its n entries, each ±η, were made from these very inputs and *align* with them. Their sum grows as n: give hidden matrices the rate η/n.
#
# That is the whole of muP for a hidden matrix (Yang et al. 2022, table 8). The head sums n aligned products as well and has no η of its own when tied: its logits are divided by m_w, n over the base width.

# %% tags=["nbval-check-output"]
rows = []
for width in (64, 128, 256):
    one = tiny(width=width, base_width=64)
    hidden, others = one.optimizer.param_groups
    std = one.model.blocks[0].mlp.up.weight.std().item()
    scales = hidden["lr_scale"], others["lr_scale"], one.model.logit_multiplier
    rows.append((width, f"{std:.3f}", *(f"{scale:g}" for scale in scales)))
Table(("width", "initial std, hidden", "η, hidden", "η, embedding and norms", "logits x"), rows)

# %% [markdown]
# **Coordinate check**: train ten steps at each width, then compare the size of queries, residual stream and logits on the probe. Nothing should depend on the width. Widths 32 to 512, four seeds each, are recorded (`coordinate_check.py`); the star is made live. Base width 32: there the rule changes nothing.

# %%
recorded = figures.rows_of(RECORDS / "coordinate-check/coordinates.csv")
flat = [row for row in recorded if row["layers"] == 2]
by_rule = figures.nested(flat, "base_width", "width")
live = activations(128, base_width=32)
for name, value in live.items():
    (same,) = [row[name] for row in by_rule[32][128] if row["seed"] == 0]
    assert abs(value / same - 1) < 0.25  # one width again, on this machine
figures.coordinates(by_rule[0], by_rule[32], {128: live})

# %% [markdown]
# How flat is flat? Not by a threshold from elsewhere: by what the seed alone does at one width of this model.


# %% tags=["nbval-check-output"]
def ratio(values: list) -> float:
    return max(values) / min(values)


def growth(rows: list[dict], name: str, by: str = "width") -> float:
    """Largest over smallest mean of the seeds, by width or by depth."""
    return ratio([np.mean([r[name] for r in some]) for some in figures.nested(rows, by).values()])


rows, by_base = [], figures.nested(flat, "base_width")
for name in live:
    seed = max(ratio([r[name] for r in some]) for some in by_rule[32].values())
    without, ruled = growth(by_base[0], name), growth(by_base[32], name)
    assert ruled < seed < without
    rows.append((name, f"{seed:.2f}", f"{without:.2f}", f"{ruled:.2f}"))
Table(("largest over smallest", "between four seeds", "over widths, no rule", "the rule"), rows)

# %% [markdown]
# So the thresholds are this model's own: under the rule the mean moves less over sixteenfold width than seeds part at a single one, without it far more. QK-norm leaves the queries' size nearly free, hence their wide band; a tighter, borrowed threshold would judge the seed.
#
# Activations are the means; the end is one rate for all widths. The author's sweep: 800 steps of 512 tokens, one seed a point, losses held out. Each panel is one way to set the rates. Look at where the ring lies, how low it is, and whether there are points on both of its sides.

# %%
sweep = figures.sweep_rows(RECORDS / "lr-batch-sweep/runs.csv")
best = {base: {w: min(by, key=by.get) for w, by in sweep[base].items()} for base in sweep}
for base, found in best.items():
    inside = {w for w, rate in found.items() if min(sweep[base][w]) < rate < max(sweep[base][w])}
    print(f"base width {base}" if base else "no rule", found, "bracketed:", sorted(inside))
shift = {base: best[base][64] / best[base][128] for base in (0, 64)}
assert shift[0] == 4 and shift[64] == 2
rates = [best[256][w] for w in (16, 64, 96)]
assert max(rates) <= 2 * min(rates)
low = {w: [min(sweep[base][w].values()) for base in (0, 64, 256)] for w in (128, 256)}
for width, losses in low.items():
    print(f"width {width}, lowest of each panel:", [f"{loss:.3f}" for loss in losses])
assert max(low[128]) < 1.024 * min(low[128]) and low[256][1] > 1.04 * low[256][0]
check.guess(guess_rate, shift[0], within=1.5, name="best rate, 64 over 128")
figures.rates(sweep, (0, 64, 256))

# %% [markdown]
# From 64 to 128 the best rate falls fourfold without the rule and by half with it: smaller, not gone. Under the rule from 256, widths 16 to 96 keep it within a factor of two on this grid. What carries over is the rate, not quality: from a base of 64, width 256 ends 4% above its own sweep. How much is the rule's is open: one seed a point, and both rings on their grids' edges. At width 128 the panels lie within 2.3%; seeds alone differ by 0.85% (lab01, width 112): nothing is read from it.
#
# **Depth** is not covered. Same width, same rule, more layers (recorded):

# %% tags=["nbval-check-output"]
deep = [row for row in recorded if (row["width"], row["base_width"]) == (64, 32)]
for layers, some in figures.nested(deep, "layers").items():
    print(f"{layers} layers:", {name: f"{np.mean([r[name] for r in some]):.2f}" for name in live})
print(f"stream: x {growth(deep, 'stream', by='layers'):.1f} from 2 to 8 layers")
assert growth(deep, "stream", by="layers") > 2.5

# %% [markdown]
# Each layer adds its branch to the stream; initial weights are divided by √(2 layers), updates are not. Depth rules (1/√L or 1/L on branches) exist; this course tests none.
#
# **Takeaway.** muP is two sentences: sums of random terms grow as √n, sums of aligned ones as n. Check it by coordinates, in seconds, before you trust it with a sweep; and sweep past the ring on both sides.
#
# 🇪🇸 La regla entre anchuras cabe en dos frases: las sumas de términos aleatorios crecen como la raíz de n; las de términos alineados, como n. Con ella la mejor tasa se mueve menos, aunque no deja de moverse; de la calidad del modelo y de la profundidad no dice nada.

# %% [markdown]
# ## 8. Alarms
#
# A rule must flag a spike within a step or two and stay silent for the rest of a run that is still falling. Ours, `robust`: a value is a spike when it lies more than seven deviations above the *median* of the 15 before, the deviation being taken from steps between neighbours. Medians hardly feel a spike among them, and differences do not mind a trend.

# %%
run.restore(trunk)
run.inject("corrupt-data@230:1,kind=1,steps=6")
corpus = Corpus(text())
trace = watch(run, 54, corpus)
flagged = 201 + stability.detect(trace["loss"])
print("flagged by the batch's loss: steps", flagged.tolist())
assert flagged[0] == 230
figures.alarms(trace["loss"], trace["probe"], ("robust", "zclip", "llm_foundry"), begins=201)

# %% [markdown]
# <details><summary>Other rules, and why none of them is the default</summary>
#
# - `olmo2`: seven deviations above the mean of the last **1,000** values; silent before step 1,000.
# - `llmc`: likewise, window 128 with the value itself inside, so no score passes 11.3.
# - `llm_foundry`: twice the mean, five values in a row: for runs that are lost, not for spikes.
# - `zclip`: 2.5 deviations of a moving mean; made to clip gradient norms, so it flags much.
#
# Sources are in each class of `x1lib.stability.rules`. All take `stability.detect(values, rule)`.
#
# </details>
#
# A published spike: nine lines of BLOOM's log. By how many steps did the gradient norm lead? A curve *leaves* when it doubles the median of all before.

# %%
lead = stability.lead(figures.BLOOM_LOSS, figures.BLOOM_GRAD_NORM)
print(f"the gradient norm left {lead} steps before the loss")
assert lead == 4
check.guess(guess_lead, lead, within=1.5, name="lead")
figures.bloom()

# %% [markdown]
# **Takeaway.** Watch the gradient norm, which may lead, and a probe, which tells a hard batch from a hurt model. Act on the loss: BLOOM's makers had seen the norm spike before without it, and in llm.c's log none of 28 flagged norms lies near a flagged loss (`spike-classifier/logs.md`). The command `python -m x1lib.postmortem` also needs a flag to begin at: harm that raises none is found only with `--step`.
#
# 🇪🇸 Una alarma robusta compara con medianas, no con medias. La norma del gradiente puede avisar antes, como en BLOOM, cuatro pasos; la sonda dice si el modelo quedó dañado o si solo era un lote difícil.

# %% [markdown]
# ## 9. Recovery: a tree of questions
#
# 1. **Is the probe up?** No: a hard batch met a sound model. Do nothing.
# 2. **Is the logged rate what you meant?** No: mend the schedule.
# 3. **Are updates 2.5 times their usual?** Then take the *clipped* gradient over √v. At 3.5 times *its* usual: a stale second moment; go back, lower β₂, leave it low. Else: the rate is not the logged one.
# 4. **Is the batch odd** (rare tokens, no order), **and hard for an older state too?** Go back, leave it out.
# 5. **Else: unknown.** Run the 2 × 2 below; then PaLM's recipe: back, past the window.
#
# What our classifier says of section 8's trace:

# %%
verdict = classify(features(trace))
print(verdict.cause, f"({verdict.confidence})")
for line in verdict.evidence_for:
    print("  +", line)
assert verdict.cause == "corrupt-data"

# %% [markdown]
# Does the tree hold? Three spikes from the trunk: six batches of garbage, a stale second moment, five steps at ten times the rate. Each is rewound to four steps before, and each recovery is played for 45 steps from that state. The recorded table (`recoveries.py`) holds every recovery on three seeds, and *placebos*: as many sound batches left out shortly *before* the spike. Most recoveries hold for 20 steps from the spike on; `beta2-lower` and `mup-rescale` stay.
#
# Live: two of the spikes, with two replays and three.

# %%
spikes = {
    "garbage": ("corrupt-data@220:1,kind=1,steps=6", 6),
    "stale second moment": ("adam-beta2@220:0.999,steps=15,jump=33", 1),
}
tried = {
    "garbage": ("untouched", "skip-batch"),
    "stale second moment": ("untouched", "update-clip", "beta2-lower"),
}
theatres, live = {}, {}
for cause, (spec, n_batches) in spikes.items():
    one = tiny().restore(trunk).inject(spec)
    one.run(15)
    one.keep_as_start()
    theatres[cause] = Theatre(one, Incident.of(one, 220, n_batches))
    live[cause] = {name: theatres[cause].play(name) for name in tried[cause]}
peak = {cause: {name: one.peak for name, one in by.items()} for cause, by in live.items()}
assert peak["garbage"]["skip-batch"] < 0.3 * peak["garbage"]["untouched"]
assert peak["stale second moment"]["beta2-lower"] < 0.4 * peak["stale second moment"]["untouched"]

# %%
outcomes = figures.rows_of(RECORDS / "recoveries/outcomes.csv")
for row in outcomes:
    row["replay"] = row["replay"].rstrip("-123")  # placebos of a seed in one row
recorded = figures.nested(outcomes, "cause", "replay")
rises = {
    cause: {replay: [row["peak"] for row in rows] for replay, rows in by.items()}
    for cause, by in recorded.items()
}
for cause, own in zip(rises, ("skip-batch", "beta2-lower", "schedule-mended"), strict=True):
    by = {name: np.array(peaks) for name, peaks in rises[cause].items()}
    of_seed = by.pop("placebo").reshape(3, 3)
    shares = of_seed / by["untouched"][:, None]
    beyond = [name for name, peaks in by.items() if all(peaks < of_seed.min(axis=1))]
    print(f"{cause}: placebos leave {shares.min():.0%} to {shares.max():.0%} of the peak")
    print("    below its seed's placebos, every time:", ", ".join(beyond))
    assert {own, "lr-cut"} <= {*beyond} and max(by[own]) < 0.2 * np.median(by["untouched"])
    assert ("skip-batch" in beyond) == (own == "skip-batch")
    assert np.ptp(shares) > 0.1  # batches left out after the peak would not change it
figures.replays(rises, peak)

# %% [markdown]
# Read the grey first. A few other batches *before* a spike, all of them sound, change its peak to anything from 35% to 185% of what it was; what lies in the grey proves nothing. Most recoveries lie there, and so does leaving the batches out wherever they were not the cause (medians). Out of it lie each cause's own: the batches left out, a lower β₂, a mended schedule. But `lr-cut` stays below its seed's placebos for all three, so **"it helped" says nothing of the cause**.
#
# Why does `update-clip`, made for late second moments, do so little? Look at *when* the probe rises.

# %%
lead_in = 220 - 1 - 215
series = {
    name: np.array(one.series["probe"]) - theatres["stale second moment"].levels[0]
    for name, one in live["stale second moment"].items()
}
clipped = series["update-clip"][lead_in:]
assert clipped[:20].max() < 0.1 < clipped[20:].max()
check.guess(guess_late, int(clipped.argmax()), within=1.2, name="steps to the peak")
title = "Clipped updates put the spike off; a lower β₂, kept, mends it"
figures.rises({"stale second moment (live)": series}, lead_in, title, held=20)

# %% [markdown]
# While the clip holds, nothing happens; when it ends, the spike comes. A clipped gradient never teaches v the new scale, so v is as late as before. `lr-cut` and `clip-tighter` do the same, more softly:

# %% tags=["nbval-check-output"]
stale, rows = recorded["stale second moment"], []
ended = ("update-clip", "clip-tighter", "lr-cut")  # after 20 steps
assert all(row["peak_after_steps"] > 20 for name in ended for row in stale[name])
for name in ("untouched", *ended, "beta2-lower"):
    rows.append(
        (name, *(f"{row['peak']:.2f} at +{row['peak_after_steps']}" for row in stale[name]))
    )
Table(("stale second moment", *(f"seed {row['seed']}" for row in stale["untouched"])), rows)

# %% [markdown]
# So a remedy that ends needs a look at what comes after. Marin's makers clipped updates, too: that seemed to handle most spikes until about step 70,000, and at 80,000 some came past it (section 11).
#
# What made the spike, then, if help proves nothing? The **2 × 2**: {state before, state at the spike} × {the spike's batches, others}, twelve steps each (recorded, medians of the seeds). Excess: how much harder the first batch is than those before, at the same weights. Rise: the probe's.

# %% tags=["nbval-check-output"]
rows, cells = [], figures.nested(figures.rows_of(RECORDS / "recoveries/cells.csv"), "cause", "cell")
middle = {
    cause: {
        cell: [float(np.median([row[key] for row in some])) for key in ("excess", "rise")]
        for cell, some in by.items()
    }
    for cause, by in cells.items()
}
for cause, by in middle.items():
    rows += [(cause, cell, f"{excess:z.2f}", f"{rise:z.2f}") for cell, (excess, rise) in by.items()]
garbage, *others = middle.values()
assert garbage["old, spike"][0] > 1 > 0.3 > max(by["old, spike"][0] for by in others)
assert min(by["spike, other"][1] for by in others) > 0.2 > garbage["spike, other"][1]
Table(("cause", "state, data", "excess [nats]", "rise [nats]"), rows)

# %% [markdown]
# Garbage is hard for either state and harmless once replaced. The other two hurt with *any* batch; what parts them is the log: rate, updates and gradient over √v, each against its usual. PaLM made the same test: a spike's batches, on an earlier checkpoint, made no spike.
#
# *State* includes the step's number. A schedule that slips counts as state though the weights are sound: here even the old state reaches the slip within its twelve steps and rises; from further back it would not, and the weights in between would be blamed.

# %% [markdown]
# **Takeaway.** Ask in the tree's order, state before data; let one replay decide, and let it run on after the remedy ends. A recovery that works is no diagnosis.
#
# 🇪🇸 Cada causa tiene su remedio. Quitar el lote arregla lo que hizo el lote. Recortar la actualización por un rato solo aplaza el pico de un segundo momento atrasado: vuelve en cuanto se deja de recortar. Que algo funcione no demuestra la causa.

# %% [markdown]
# ## 10. Interventions on purpose
#
# Some runs are turned half-way by plan: the rate warmed up again (a reset), sequences halved (a curriculum's step), another text, a *cooldown* of the rate to zero, on the same text or on the other. WSD schedules cool down on better data: is the gain the cooldown's or the data's?
#
# Here "better" is what the run will be judged on, the encyclopaedia; the trunk reads books as well. Live first, from our trunk of 200 steps: 40 steps as before, with a cooldown, with the other text. Which is best on held-out pages of the encyclopaedia?

# %%
COOL = Schedule(50, ((200, 0.0), (240, 1.0)))
plans = {
    "as it was": ({}, None),
    "other text": ({"shards": encyclopaedia()}, None),
    "cooldown": ({}, COOL),
}
ends = {}
for name, (changes, schedule) in plans.items():
    run.restore(trunk)
    run.changes = Changes(**changes)
    run.plan = replace(run.plan, schedule=schedule or run.plan.schedule)
    run.run(40)
    ends[name] = heldout(run)
rows = [(name, *(f"{nats:.2f}" for nats in by.values())) for name, by in ends.items()]
assert ends["other text"]["encyclopaedia"] < ends["as it was"]["encyclopaedia"] - 0.05
Table(("40 steps (live)", *(f"held out, {kind}" for kind in ends["as it was"])), rows)

# %% [markdown]
# The cooldown did not pay. Nothing says that it must: it takes away the noise of a large rate and gives up distance for it, and a run of 200 steps has more distance to go than noise to lose. The record (`midtraining.py`, four seeds) has the same *young* trunk and a *hot* one: 400 steps at rate 0.01, then 60 by each plan.

# %%
recorded = figures.nested(figures.rows_of(RECORDS / "midtraining/outcomes.csv"), "trunk", "plan")
gains = {
    age: {
        plan: {
            kind: [a[kind] - b[kind] for a, b in zip(by["as it was"], rows, strict=True)]
            for kind in ("book", "encyclopaedia")
        }
        for plan, rows in by.items()
        if plan != "as it was"
    }
    for age, by in recorded.items()
}
figures.interventions(gains)

# %% tags=["nbval-check-output"]
young, hot = gains["young"], gains["hot"]
assert max(young["cooldown"]["encyclopaedia"]) < 0 < min(map(min, hot["cooldown"].values()))
assert max(max(map(abs, by["sequences halved"]["encyclopaedia"])) for by in gains.values()) < 0.02
for kind, better in (("encyclopaedia", 1), ("book", -1)):
    swap, both = hot["other text"][kind], hot["cooldown on the other text"][kind]
    assert all(better * a > better * b for a, b in zip(swap, both, strict=True))
    said = {plan: f"{np.median(by[kind]):+.2f}" for plan, by in hot.items() if "other" in plan}
    assert kind != "book" or np.median(both) > 0.5 * np.median(swap)
    print(f"hot, {kind}, cooldown {np.median(hot['cooldown'][kind]):+.2f};", said)

# %% [markdown]
# The hot trunk's cooldown gains on both texts, on every seed. The other text counts for more: with the rate left high it gains most, and costs the book most; cooled down, it gains a little less and costs the book less than half as much.
#
# **Takeaway.** A cooldown pays once noise, not distance, is what is left. A swap pays on what it brings and costs on what it leaves; its jump of the *training* loss is no spike.
#
# 🇪🇸 El enfriamiento compensa cuando lo que queda es ruido y no camino por recorrer. Cambiar de texto gana en lo que trae y pierde en lo que deja; su salto en la pérdida de entrenamiento no es un pico.

# %% [markdown]
# ## 11. What happened to others
#
# | run, date | what was seen | what they did |
# |---|---|---|
# | OPT-175B, 2021-11 | losses exploded; norms drifted | lower rate, clip 1, β₂ 0.95 |
# | PaLM-540B, 2022-04 | some 20 spikes, though clipped | ~100 steps back, 200 to 500 batches skipped |
# | BLOOM-176B, 2022-04-12 | a loss spike, norm 960 | nothing: back in ~30 steps |
# | GLM-130B, 2022-05 | collapses, embedding's first | embedding's gradient × 0.1 |
# | OLMo 2, 2025-01 | spikes, repeated n-grams | data filtered; QK-norm, z-loss, ε |
# | Marin 32B, 2025 | spikes past all clipping at 80k | QK-norm, from the 80k weights |

# %% [markdown]
# Read on 22 November 2026. On their authors' own pages: OPT's logbook, BLOOM's `chronicles.md`, Marin's `marin-32b-retro.md`. As others quote them: PaLM (section 5.1) and GLM. OLMo 2 (2501.00656): only summaries, unverified.
#
# Marin's account is the one to read twice. The optimiser's state was rebuilt and the spikes came back; two other optimisers, and they came back; the architecture was changed, and they largely stayed away. In section 9's terms: question 5, answered by elimination.
#
# 🇪🇸 Seis casos publicados, con lo que se vio y lo que se hizo. Conviene fijarse en lo que se probó sin éxito: es lo que separa una causa de una coincidencia. Los datos que no hemos leído en su fuente llevan aviso.

# %% [markdown]
# ## Exercises
#
# Put your answer in the place of `None` and run the cell. A wrong one gets a hint; the solutions are folded.
#
# **04.1 ●○○, 5 minutes.** With β₁ = 0.9, which is the largest update, in learning rates, at β₂ = 0.98 after a jump from nothing?

# %%
largest_at_98 = None  # learning rates

check.answer("04.1", largest_at_98)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `stability.largest_update(0.9, 0.98)`, about 1.6: a quarter of what 0.999 lets through. OPT-175B began with it.
#
# </details>
#
# **04.2 ●●○, 10 minutes.** A run at η = 3e-4 and λ = 0.1: at which RMS do hidden weights settle, if updates are noise of size η?

# %%
settled_rms = None  # root mean square of a weight

check.answer("04.2", settled_rms)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `math.sqrt(3e-4 / (2 * 0.1))`, 0.039, after some 1/(2ηλ) = 17,000 steps: most small runs end before.
#
# </details>
#
# **04.3 ●●○, 10 minutes.** A rate of 0.008 was best at width 128. What do the hidden matrices get at width 1,024 under the rule, base width 128?

# %%
hidden_rate = None  # learning rate

check.answer("04.3", hidden_rate)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `0.008 * 128 / 1024`: 0.001. Embedding and norms keep 0.008.
#
# </details>
#
# **04.4 ●●●, 10 minutes.** A spike: rate as planned, update and clipped gradient over √v 1.1 times their usual, the batch hard for an older state too, 40% of its tokens from the rarest 1%. Which cause: `lr-too-high`, `adam-beta2`, `rare-token`, `corrupt-data`?

# %%
cause_of_spike = None  # one of the four names

check.answer("04.4", cause_of_spike)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `"rare-token"`. State first: rate, update and moments are as usual. Then data: it is the batch, and what is odd in it is which tokens it holds.
#
# </details>
#
# **●●●, an evening.** Make a spike that the classifier calls "unknown" (two faults at once is a start), then find one replay that tells its parts apart. lab02 has the tools.

# %% [markdown]
# ## What would change this
#
# - **Size.** Two layers of width 64 show mechanisms, not their frequency: spikes of large runs come late and rarely.
# - **bf16**: these runs are float32; drifting logits cost more where digits are few.
# - **Other optimisers** (Muon, Lion) have no v; section 2 is about Adam.
# - **One fault at a time.** Mixtures are untested.
#
# 🇪🇸 Los mecanismos se ven en un modelo diminuto; su frecuencia, no. Lo que permanece es el método: rebobinar, cambiar una sola cosa, comparar con un control y con un placebo.
