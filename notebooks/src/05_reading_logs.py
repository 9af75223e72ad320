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
# # 05: reading logs
#
# ## Question
#
# A training log is a few columns of numbers. Somebody chose a batch, a schedule, an optimiser, a text and a precision, and each choice left its mark there. **Shown a log, can you say what was chosen, what happened, and what the log cannot tell?**
#
# You will take single lines of BLOOM's and GPT-2's logs apart until every digit is explained; predict what a choice does to a curve, then read what those who made it reported; and find six things in a log of ours that names none. Allow 90 minutes. You need notebooks 01 and 04.
#
# 🇪🇸 Un registro de entrenamiento es poco más que unas columnas de números, pero cada decisión deja huella en ellas. Al terminar sabrás decir, ante un registro ajeno, qué se eligió, qué pasó y qué es imposible saber.

# %%
import json
import math
import os

import numpy as np
from IPython.display import display

from x1lib import check
from x1lib.figures import Table, logs
from x1lib.launch.places import project_root
from x1lib.postmortem import read_log
from x1lib.published_logs import (
    CATALOG,
    FIELDS,
    PublishedUnavailable,
    cosine,
    load,
    quoted,
    ramped,
    runs,
)
from x1lib.stability import detect, lead, spike_score

READING = load("reading-log")  # ours, shipped with the course; section 4

# %% [markdown]
# ## Symbols
#
# | symbol | meaning | unit |
# |---|---|---|
# | step, iteration | one update of the weights | |
# | batch | what a step reads | sequences, or tokens |
# | V | tokens in the vocabulary | |
# | loss | of the step's batch, unless held out | nats a token |
# | gradient norm | before it is clipped | |
# | rate | learning rate of the step | |
#
# ## Predict
#
# Put your guesses in the place of `None` before you read on. Each is compared where the answer appears.

# %%
guess_consumed = None  # billions of tokens that BLOOM had read after 12,695 steps of up to 4.2M
guess_first_loss = None  # loss of an untrained model with 50,257 tokens to choose from [nats]
guess_tokens_share = None  # tokens that a tuned rate needs for the same loss, of the untuned's
guess_noise = None  # twice the batch: the loss moves how many times less between steps?
guess_lead = None  # steps by which BLOOM's gradient norm led its first loss spike

# %% [markdown]
# ## 1. One line of BLOOM
#
# BLOOM-176B was trained in the open: its makers kept chronicles and quoted lines of the log in them. Thirteen lines of 2022 are facts that we may quote too. This is the first, from the day when the machine had reached full speed.

# %% tags=["nbval-check-output"]
bloom = quoted("bloom-176B")
for name in bloom.columns:
    print(f"{name:10} {bloom[name][0]:<16,.12g} {bloom.units[name]}")
print(bloom.origin)

# %% [markdown]
# Sequences have 2,048 tokens, and the batch says 2,048 sequences. **Check** it against two later lines: the tokens consumed between them, over the steps between them.

# %% tags=["nbval-check-output"]
full = 2048 * 2048
(later,) = np.flatnonzero(bloom["step"] == 31214)
assert np.diff(bloom["tokens"])[later] == full == 4_194_304
flat = bloom["step"][0] * full
print(f"at full batch, {bloom['step'][0]:,.0f} steps are {flat / 1e9:.1f}B tokens;")
print(f"the line says {bloom['tokens'][0] / 1e9:.1f}B")
check.guess(guess_consumed, bloom["tokens"][0] / 1e9, within=1.3, name="billions consumed")

# %% [markdown]
# Thirty-three billion tokens are missing. So the batch was smaller before: it was *ramped*. One line has told us of 12,694 others.
#
# The job script is public as well. It says `--rampup-batch-size 192 16 9_765_625`: begin with 192 sequences, add 16 at equal distances, be done after 9,765,625. For the rate: up linearly over 183,105 sequences to 6e-5, then half a cosine to 6e-6 at 200,000,000. If that is all, we must be able to print the line ourselves.

# %% tags=["nbval-check-output"]
batch, samples = ramped(45_000, start=192, increment=16, ramp_samples=9_765_625, full=2048)
rate = np.array([cosine(seen, 6e-5, 6e-6, 183_105, 200_000_000) for seen in samples])
at = bloom["step"].astype(int) - 1
assert (samples[at] * 2048 == bloom["tokens"]).all()  # to the token, all thirteen
assert [f"{x:.3E}" for x in rate[at]] == [f"{x:.3E}" for x in bloom["lr"]]
reached = int(np.argmax(batch == 2048)) + 1
print(f"step 12,695: {samples[12_694] * 2048:,} tokens, rate {rate[12_694]:.3E}")
print(f"the batch was full from step {reached:,} on")
logs.bloom(samples * 2048, np.arange(1, 45_001) * full, rate, bloom)

# %% [markdown]
# Not roughly: to the token, and in every printed digit of the rate. The restarts that the chronicles tell of, and a change of the micro-batch on the way up, left no trace in these columns: no sample was counted twice.
#
# **Takeaway.** Tokens, steps, batch and rate are bound to each other by the settings. Where they are not, something happened that nobody wrote down.
#
# 🇪🇸 Una sola línea delata toda una historia: si el lote hubiera sido siempre el mismo, faltarían treinta y tres mil millones de tokens. Con la rampa y el coseno del guion de lanzamiento, las trece líneas citadas salen exactas, hasta el último token.

# %% [markdown]
# ## 2. Nine lines of GPT-2
#
# llm.c's GPT-2 124M left 19,560 lines. Nine of them, quoted:

# %% tags=["nbval-check-output"]
gpt2 = quoted("llmc-124M")
rows = zip(*(gpt2[name] for name in ("step", "loss", "lr", "grad_norm")), strict=True)
Table(
    ("step", "loss", "rate", "gradient norm"),
    [(f"{s:,.0f}", f"{a:.4f}", f"{b:.6f}", f"{n:.2f}") for s, a, b, n in rows],
)

# %% [markdown]
# **The first loss.** A model that knows nothing gives each of V tokens the same chance: loss ln V. Initial weights are small, not zero, so a little is added. The first loss therefore names the vocabulary, and how loud the initialisation is. (modded-nanogpt's 1.5B began at 22.6, by the log that section 6 downloads. An early trial of BLOOM stood at 63.8 in its second step, by its makers' `chronicles-prequel.md`, which lies beside the chronicles above. Weights so large make a first model that is sure of nonsense.)
#
# **The rate** rises by equal parts to step 699 and falls ever after. Seven hundred steps of warm-up, then a cosine to nothing? Print it.

# %% tags=["nbval-check-output"]
assert math.isclose(gpt2["loss"][0], 11.0091)
extra = gpt2["loss"][0] - math.log(50_257)
print(f"ln 50,257 = {math.log(50_257):.3f}; the log begins {extra:.3f} above")
assert 0 < extra < 0.2
check.guess(guess_first_loss, gpt2["loss"][0], within=1.05, name="first loss")
computed = [cosine(s + (s < 700), 6e-4, 0.0, 700, 19_560) for s in gpt2["step"]]
print([f"{x:.6f}" for x in computed])
assert [f"{x:.6f}" for x in computed] == [f"{x:.6f}" for x in gpt2["lr"]]
assert gpt2["grad_norm"][0] > 50 * gpt2["grad_norm"][-1]

# %% [markdown]
# **The gradient norm** begins at 15 and ends near 0.2. It is logged before clipping at 1.0, so clipping shows where it acts: in the whole log in a third of the first 700 steps, and in two of all steps after the 2,000th.
#
# **What a better rate buys.** Another log of the same model and text, by the author of modded-nanogpt: as he remembers, a rate of 1.8e-3, a warm-up of 250 steps, flat, and linear to zero in the last 2,000. Both end at the same held-out loss.

# %% tags=["nbval-check-output"]
tuned = quoted("adamw-124M")
spent = [log["step"][-1] * 524_288 / 1e9 for log in (gpt2, tuned)]
final = 3.2722, tuned["val_loss"][-1]  # llm.c's by the README beside its log
print(f"{spent[0]:.1f}B tokens: {final[0]:.3f}; {spent[1]:.1f}B tokens: {final[1]:.3f}")
assert abs(final[0] - final[1]) < 0.005 and 0.48 < spent[1] / spent[0] < 0.50
check.guess(guess_tokens_share, spent[1] / spent[0], within=1.3, name="share of the tokens")

# %% [markdown]
# Half the tokens. Three settings changed together, so the logs do not say which of them did it.
#
# **Takeaway.** The first loss names the vocabulary, the rate column the schedule, the norm where clipping acts. Two logs that differ in three settings compare recipes, not settings.
#
# 🇪🇸 La primera pérdida es casi el logaritmo del vocabulario; lo que sobra es el ruido de la inicialización. La columna de la tasa dibuja el calentamiento y el coseno. Y una tasa bien elegida puede ahorrar la mitad de los tokens, aunque el registro no diga cuál de los tres cambios lo logró.

# %% [markdown]
# ## 3. What each choice does to the curve
#
# Ten published runs and their settings, each read in a configuration, a model card, a paper or a report; its source and date are in `published_logs.runs()`. A question mark is what we did not find, not what is not there.

# %% tags=["nbval-check-output"]
PUBLISHED = runs()
unknown = sum(fact is None for run in PUBLISHED.values() for fact in run.facts.values())
print(f"{len(PUBLISHED)} runs, {unknown} of {18 * len(PUBLISHED)} settings not found")
stated = [run.value("beta2") for run in PUBLISHED.values()]
assert stated.count(0.95) == 8 and stated.count(None) == 2
assert all(run.value("warmup") for run in PUBLISHED.values())
display(logs.settings(PUBLISHED, ("batch", "batch_ramp", "lr_peak", "warmup", "schedule")))
display(logs.settings(PUBLISHED, ("beta2", "eps", "weight_decay", "clip", "z_loss", "qk_norm")))
display(logs.settings(PUBLISHED, ("norm", "init", "precision")))
logs.settings(PUBLISHED, ("tokens", "data_order", "tokenizer", "seq_len"))

# %% [markdown]
# Now predict. For each choice, say aloud what you expect in which column, then unfold.
#
# <details><summary>No warm-up, or one far too short</summary>
#
# Adam's second moment rests on a few gradients, and those are the largest of the run: steps of full size in directions that are mostly noise. Loss and norm jump within the first hundreds of steps; what survives is often worse to the end. All ten runs warm up, over 0.37B tokens (GPT-2's 700 steps) to 32B or more (Llama 3's 8,000, at 4M tokens and up).
#
# </details>
#
# <details><summary>A batch that grows</summary>
#
# Over *steps* the early curve looks slow, over *tokens* it does not. Noise falls with 1/√batch at each doubling, and the norm with it. Tokens are steeper than steps: section 1. Llama 3 doubled twice.
#
# </details>
#
# <details><summary>Cosine, or flat and then down</summary>
#
# A cosine bends the loss all the way and is good at its end only. A plateau stays above it and then drops, within the last fifth, to about the same loss. A cut *in* the plateau shows at once: a sudden drop, and a flatter curve after it.
#
# </details>

# %% [markdown]
# <details><summary>beta2 of .999, epsilon of 1e-5</summary>
#
# With .999 the second moment remembers a thousand steps. When gradients step up after a quiet stretch, updates are many times too long: the norm leaves first, then the loss (notebook 04). Eight of the ten state .95, two say nothing. A larger epsilon caps updates where gradients are tiny, as in the embedding: it trains more slowly there. OLMo had 1e-5, OLMo 2 has 1e-8.
#
# </details>
#
# <details><summary>Weight decay and clipping</summary>
#
# Decay hardly shows in the loss early, and in the norms of weights always. Clipping leaves the logged norm as it was; what it saves is the step after. OPT lowered it in flight from 1.0 to 0.3.
#
# </details>
#
# <details><summary>QK-norm, z-loss, norms after the branch</summary>
#
# Without them attention logits or the softmax's normaliser may drift for weeks; a log of loss shows nothing, until spikes come more and more often. With them: fewer spikes, a calm norm. OLMo 2 took all three together.
#
# </details>
#
# <details><summary>fp16 instead of bf16</summary>
#
# A column more: the loss scale, halved at each overflow and doubled after a calm thousand steps. When it falls step after step, a divergence is near. Pythia-1b had to be trained in bf16 "because in fp16 the model experienced an irreconcilable loss spike late in training".
#
# </details>
#
# <details><summary>Other text from some step on</summary>
#
# The loss changes level at once and stays, up or down, without a warning in the norm: no spike. Past the first epoch the training loss falls below the held-out one. OPT read 300B tokens out of 180B.
#
# </details>
#
# <details><summary>A larger vocabulary</summary>
#
# Higher losses from the first step, since a token is more text. Nats a token compare within one tokeniser only; divide by bytes (lab00).
#
# </details>

# %% [markdown]
# OLMo and OLMo 2 are of one house and one size, with one batch, peak rate, beta2 and precision. In between, spikes were frequent, say those who made them. What did they change? Ask the facts.

# %% tags=["nbval-check-output"]
first, second = PUBLISHED["OLMo-7B"], PUBLISHED["OLMo-2-7B"]
both = [field for field in first.facts if first.facts[field] and second.facts[field]]
changed = [field for field in both if first.value(field) != second.value(field)]
assert {"eps", "qk_norm", "norm", "init", "clip"} <= set(changed)
assert {"batch", "lr_peak", "beta2", "precision"} <= set(both) - set(changed)
assert {"warmup", "weight_decay"} <= set(changed) and len(changed) == 10
Table(("setting", "OLMo-7B", "OLMo-2-7B"),
      [(FIELDS[field], first.value(field), second.value(field)) for field in changed])  # fmt: skip

# %% [markdown]
# Ten rows. Schedule, tokeniser and length are of the plan. Of the start, the warm-up grew shorter (it is told in tokens; exercise 05.1), and clipping lost its loose first thousand steps. The rest is norms, QK-norm, initialisation, epsilon and what decays: the means of notebook 04. (Their paper tells them apart by ablation; a pair of logs could not.)
#
# **Where are the logs themselves?** Of five of the ten we found none that a program can read.

# %% tags=["nbval-check-output"]
nowhere = [r for r in PUBLISHED.values() if r.log.startswith(("No log", "None found"))]
assert len(nowhere) == 5
Table(("run", "its log, and how it was looked for"), [(n, r.log) for n, r in PUBLISHED.items()])

# %% [markdown]
# **Takeaway.** Read the settings before the curve: most of what looks like an event is a setting. And know which column would show it; for a drift inside attention none of the usual ones does.
#
# 🇪🇸 Antes de mirar la curva, lee la configuración: casi todo lo que parece un suceso es una decisión. De la mitad de los modelos famosos no hay ningún registro que una máquina pueda leer, y aquí se dice; lo que no se encontró queda en blanco, no inventado.

# %% [markdown]
# ## 4. A log without a word
#
# Here is a real log of a small run of ours, as any trainer would print it: 0.4M parameters, one CPU thread, minutes. Six things happened in it: a warm-up, a batch that grew, other text, a broken batch, a rate that slipped, and a restart. (And the cooldown, which you would have found.) Nothing is named.

# %% tags=["nbval-check-output"]
assert len(READING) == 1_027 and "lr" in READING
logs.panels(READING, "A log of ours, as it was written")

# %% [markdown]
# Find them before you read on. The picture tells you where to look; the columns tell the step: `READING["step"]`, `["tokens"]`, `["loss"]`, `["grad_norm"]`, `["lr"]` are arrays, a place a line. Mind that lines count from 0, and that the picture's axis is lines, not steps. `np.diff`, `np.argmax` and `read_log(loss, grad_norm, lr)` of notebook 04's rules are enough.
#
# 🇪🇸 Seis cosas pasaron en este registro y ninguna lleva nombre. Búscalas antes de seguir: la figura dice dónde mirar, y las columnas dicen en qué paso.

# %% [markdown]
# ## Exercises
#
# Put your answer in the place of `None` and run the cell. A wrong one gets a hint; the solutions are folded.
#
# **05.1 ●○○, 5 minutes.** To warm up, on paper: OLMo 2's configuration says `t_warmup: 8388608000` tokens, a batch of 1,024 sequences, 4,096 tokens each. How many steps is the warm-up?

# %% tags=["nbval-check-output"]
warmup_olmo2 = None  # steps

check.answer("05.1", warmup_olmo2)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `8_388_608_000 // (1024 * 4096)`: 2,000, the number that LLaMA and OPT write as it is. Odd numbers in a configuration are often round ones in another unit.
#
# </details>
#
# **05.2 ●○○, 5 minutes.** Our log: at which step is the rate first what it then stays at?

# %% tags=["nbval-check-output"]
warmup_steps = None  # step

check.answer("05.2", warmup_steps)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `int(READING["step"][np.argmax(READING["lr"] >= np.median(READING["lr"]))])`: 80. The median, because the largest rate of the log is an accident.
#
# </details>
#
# **05.3 ●○○, 5 minutes.** From which step on is the batch at its full size?

# %% tags=["nbval-check-output"]
full_batch_step = None  # step

check.answer("05.3", full_batch_step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `int(READING["step"][np.argmax(np.diff(READING["tokens"], prepend=0) == 1024)])`: 201, after 121. The noise of the loss tells it, too.
#
# </details>
#
# **05.4 ●●○, 10 minutes.** Which is the first step that reads other text?

# %% tags=["nbval-check-output"]
boundary_step = None  # step

check.answer("05.4", boundary_step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `int(READING["step"][max(range(100, 1000), key=lambda i: np.median(READING["loss"][i : i + 10]) - np.median(READING["loss"][i - 10 : i]))])`: 461. Medians of ten steps on either side forget a single batch. The other rise that stays comes with the rate that slipped.
#
# </details>
#
# **05.5 ●●○, 10 minutes.** One step read a batch of nonsense. Which?

# %% tags=["nbval-check-output"]
bad_batch_step = None  # step

check.answer("05.5", bad_batch_step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `int(READING["step"][next(s.place for s in read_log(READING["loss"]) if s.duration == 1)])`: 381. Back after one step, with an innocent rate.
#
# </details>
#
# **05.6 ●●●, 10 minutes.** The process was killed and began again. From which saved step did it go on?

# %% tags=["nbval-check-output"]
resumed_from = None  # step

check.answer("05.6", resumed_from)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `int(READING["step"][1:][np.diff(READING["step"]) < 0][0]) - 1`: 720. The log goes from step 747 back to 721; the curve shows nothing at all.
#
# </details>
#
# **●●●, an evening.** Take a log from the wild: a public board, a paper's figure, a friend's terminal. Write down batch, schedule, warm-up, every event, and for each sentence the column that says so. Then ask whoever made it.
#
# 🇪🇸 Los seis primeros se corrigen solos. El último no: elige un registro real, escribe lo que ves y qué columna lo dice, y pregunta después a quien lo entrenó.

# %% [markdown]
# ## 5. What it was
#
# The same log, named. What was done stands in a file beside it, written by the program that did it.

# %% tags=["nbval-check-output"]
said = json.loads((project_root() / "experiments/reference/reading-log/truth.json").read_text())
line = {int(step): i for i, step in reversed(list(enumerate(READING["step"])))}
again = int(np.flatnonzero(np.diff(READING["step"]) < 0)[0]) + 1
marks = {
    "warm-up ends": line[said["warmup_steps"]],
    "batch × 2": line[121],
    "batch × 2 again": line[201],
    "nonsense batch": line[said["bad_batch_step"]],
    "other text": line[said["first_step_of_second_source"]],
    "rate × 12": line[said["bad_rate_steps"][0]],
    "restart": again,
    "cooldown": line[said["cooldown_from_step"]],
}
logs.panels(READING, "The same log: three settings, two accidents, other text, a restart", marks)

# %% [markdown]
# **The batch.** Between two steps the loss moves because their texts differ; a mean over twice the tokens should move √2 times less. Forty steps on either side of each doubling tell a deviation to about an eighth, and a ratio to a fifth.

# %% tags=["nbval-check-output"]
rows, falls = [], []
for first in (121, 201):
    sides = [READING["loss"][a - 1 : a + 39] for a in (first - 40, first)]
    before, after = (np.diff(side).std() / math.sqrt(2) for side in sides)
    falls.append(before / after)
    rows.append((f"at step {first}", f"{before:.3f}", f"{after:.3f}", f"{before / after:.2f}"))
fall = math.sqrt(falls[0] * falls[1])
assert all(abs(one / math.sqrt(2) - 1) < 0.25 for one in falls)
check.guess(guess_noise, fall, within=1.3, name="noise, batch doubled")
Table(("batch doubled", "noise before [nats]", "after", "ratio"), rows)

# %% [markdown]
# Both ratios agree with 1.41 within their error. Compare neighbours only: between the doublings the noise *grew*, since a model that has learnt to tell texts apart finds some harder than others. (The two early jumps of the norm, at a batch of 256 tokens, nobody planned; the loss hardly saw them.)
#
# **The accidents.** Notebook 04's rule finds them; what can it say of causes by the log alone?

# %% tags=["nbval-check-output"]
spikes = read_log(READING["loss"], READING["grad_norm"], READING["lr"])
by_step = {int(READING["step"][s.place]): s for s in spikes}
assert by_step[said["bad_batch_step"]].cause == "unknown"
assert any(s.cause == "lr-too-high" for s in spikes)
around = READING["loss"][line[451] : line[471]]
print(f"other text: {np.median(around[:10]):.2f} before, {np.median(around[10:]):.2f} after")
assert np.median(around[10:]) > np.median(around[:10]) + 0.3
Table(
    ("step", "rise [nats]", "steps to come back", "rate / usual", "cause", "hints"),
    [
        (f"{READING['step'][s.place]:.0f}", f"{s.rise:.2f}", s.duration, f"{s.lr_ratio:.1f}",
         s.cause, "; ".join(s.hints))
        for s in spikes
    ],
)  # fmt: skip

# %% [markdown]
# The slipped rate is named, since it was logged. The nonsense batch is not: "rather the batch" is as far as a log goes. The other text raises an alarm as well, and the long way back is taken for harm. No rule knows a new text from a hurt model: loss on *held-out* text of the first kind would, and this log has none.
#
# **The restart.** Steps 721 to 747 stand twice. Exact resumption would print the same losses twice. Does it?

# %% tags=["nbval-check-output"]
lost = slice(line[721], line[747] + 1)
redone = slice(again, again + 27)
assert (READING["step"][lost] == READING["step"][redone]).all()
same = READING["loss"][lost] == READING["loss"][redone]
moved = READING["loss"][redone].mean() - READING["loss"][lost].mean()
print(f"{same.sum()} of 27 losses are the same; their mean moved by {moved:+.3f}")
assert not same.any() and abs(moved) < 0.1

# %% [markdown]
# None. Weights and moments were restored (the level is the same), the loader's place was not: it read in another order. Some text is now read twice and some never. So does any trainer that keeps no place in its data, and only a log that keeps what was undone shows it. lab00's trainer prints the same 27 losses to the bit.
#
# **Takeaway.** The curve shows what hurt; the columns show what was done. Rate, tokens and step are worth more attention than the loss, and the cause of a spike is not in the log unless it is a setting.
#
# 🇪🇸 La curva enseña lo que dolió; las columnas, lo que se hizo. El reinicio no se ve en ninguna curva: está en la columna de pasos, que retrocede, y en que las pérdidas repetidas no coinciden, señal de que el lector de datos no volvió a su sitio.

# %% [markdown]
# ## 6. Real spikes
#
# Nine of BLOOM's lines are its first loss spike, 12 April 2022. By how many steps did the gradient norm lead? A curve *leaves* when it doubles the median of all before.

# %% tags=["nbval-check-output"]
spike = slice(1, 10)
loss, norm = bloom["loss"][spike], bloom["grad_norm"][spike]
led = lead(loss, norm)
print(f"loss up to {loss.max():.2f}, norm up to {norm.max():.0f}; the norm led by {led} steps")
after = bloom["step"][10] - bloom["step"][1 + loss.argmax()]
assert led == 4 and bloom["loss"][10] < 2.25 and after == 31
check.guess(guess_lead, led, within=1.3, name="lead")

# %% [markdown]
# The next line that is quoted is 31 iterations after the height, and the loss there is what it had been. Nothing was done about it.
#
# The whole logs of llm.c's GPT-2 and of two others are public but not ours to ship. Where you are connected, the next cell downloads them (3 MB), checks their checksums, keeps them on your disk and flags each by OLMo 2's rule. A file that you already have goes in as `load(name, path=...)`. Without them you see the quoted lines, and what we counted when we had them, on 22 November 2026: 2 flagged losses in 19,560 steps of llm.c, 31 in 20,344 of the 1.5B, each back after one step. The cell asserts that where it has the logs.

# %%
whole, counted = {}, {"llmc-124M": 2, "modded-1.5B": 31}
for name in ("llmc-124M", "adamw-124M", "modded-1.5B"):
    try:
        whole[name] = load(name)
    except PublishedUnavailable as error:
        print(f"{name}: {error}")
        continue
    known = whole[name]["loss"][np.isfinite(whole[name]["loss"])]
    flagged = detect(known, "olmo2")
    print(f"{name}: {len(known):,} steps, {len(flagged)} flagged, score {spike_score(known):.3%}")
    assert len(flagged) == counted.get(name, len(flagged))
    if name in counted:  # back after one step: nearer to its past than to its height
        past = np.array([np.median(known[i - 15 : i]) for i in flagged])
        assert (known[flagged + 1] - past < (known[flagged] - past) / 2).all()

# %%
shown = whole.get("llmc-124M", gpt2)
if shown is not gpt2:  # section 2's count of clipped steps; flagged norms, and losses near them
    clipped = shown["grad_norm"] > 1
    assert 0.33 < clipped[:700].mean() < 0.35 and clipped[2000:].sum() == 2
    losses, norms = (detect(shown[name], "olmo2") for name in ("loss", "grad_norm"))
    apart = np.abs(np.subtract.outer(losses, norms)).min()
    print(f"{len(norms)} flagged norms; the nearest flagged loss is {apart} steps away")
    assert len(norms) == 28 and apart > 5
title = "llm.c, GPT-2 124M: a calm run; its gradient's spikes are not its loss's (published)"
title = title if len(shown) > 100 else "llm.c, GPT-2 124M: nine quoted lines (published)"
logs.whole(shown, title, detect(shown["loss"], "olmo2"), CATALOG["llmc-124M"].batch_tokens)

# %% [markdown]
# Offline the figure shows nine points, and no spike. Where the log is whole, look at the gradient norm: 28 flagged values, and none within five steps of a flagged loss, which the cell then asserts. As to the 1.5B, its `loss` is that of *one* rank of eight; a mean over all would move about √8 times less. **Read what a column averages over** before you count its spikes.
#
# **Takeaway.** Most spikes of a healthy run last a step and are a text. The norm may warn, as in BLOOM, or say nothing, as in llm.c. Which it is takes the batch and a checkpoint: lab02.
#
# 🇪🇸 Casi todos los picos de un entrenamiento sano duran un paso y son un texto raro. La norma del gradiente avisó cuatro pasos antes en BLOOM y no dijo nada en GPT-2. Y antes de contar picos hay que saber de qué es media cada columna.

# %% [markdown]
# ## 7. Your own log
#
# Last, lab00's. If you have run it, this reads yours; else the run that we keep. Everything above applies; you know its settings, so the log has to agree.

# %%
results = project_root() / "experiments"
own = [results / "X1-pretraining" / name for name in ("run-cloud", "run-local")]
building = os.environ.get("X1_BUILDING") == "1"  # what is published shows the run that we keep
found = [folder for folder in own if (folder / "metrics.jsonl").exists() and not building]
folder = (found or [results / "reference/lab00-cpu"])[0]
mine = load(folder)
whose = "yours" if found else "ours"
print(f"reading {folder.relative_to(project_root())} ({whose}): {len(mine):,} lines")
steps = np.isfinite(mine["loss"])
first_loss, rates, numbers = (mine[name][steps] for name in ("loss", "lr", "step"))
peak = rates.max()
facts = {
    "steps": f"{numbers[-1]:,.0f}",
    "tokens a step": f"{np.median(np.diff(mine['tokens'][steps])):,.0f}",
    "first loss": f"{first_loss[0]:.3f}",
    "so V is near": f"{math.exp(first_loss[0]):,.0f}",
    "warm-up": f"{numbers[np.argmax(rates >= 0.999 * peak)]:,.0f} steps",
    "cooldown begins after": f"{numbers[np.flatnonzero(rates >= 0.999 * peak)[-1]]:,.0f} steps",
    "steps written twice": f"{len(numbers) - len(set(numbers))}",
    "alarms": f"{len(read_log(first_loss, mine['grad_norm'][steps], rates))}",
}
assert np.isfinite(first_loss).all() and peak > 0
Table(("what", "read off the log"), facts.items())

# %% [markdown]
# Eight rows, none of them looked up. Compare them with your manifest: steps, tokens, vocabulary, warm-up and cooldown should agree. First loss, steps written twice and alarms are in no manifest; only the log has them. Then lay the curve beside llm.c's nine lines, over the share of the run. Levels do not compare (other text, other tokeniser); shapes do.

# %%
numbers_at_peak = np.flatnonzero(rates >= 0.999 * peak)
share = numbers[numbers_at_peak[-1]] / numbers[-1]
logs.beside(mine, folder.name, share, gpt2, CATALOG["llmc-124M"].batch_tokens)

# %% [markdown]
# **Takeaway.** A log that you wrote yourself is the one whose every digit you can explain. Hold it to that before you hold anybody else's.
#
# 🇪🇸 Tu propio registro es el único del que puedes explicar cada cifra: empieza por exigírselo. Las alturas no se comparan, porque cambian el texto y el vocabulario; las formas, sí.

# %% [markdown]
# ## What would change this
#
# - **More columns.** Norms of weights, updates and activations, attention logits, loss by source: most questions that stay open above need one of them.
# - **Averages.** Logged every ten steps, smoothed, or of one rank, a spike of one step may vanish or be invented.
# - **Honesty.** A board from which failed runs were deleted shows a calm that was not there. The chronicles of BLOOM and OPT are rare.
# - **What nobody printed.** A question mark in the tables may be a secret, a default or an oversight.
#
# 🇪🇸 Un registro contesta lo que sus columnas miden, y nada más. Faltan normas, pérdidas por fuente y, a menudo, los intentos fallidos; desconfía de la calma de un tablero del que alguien borró lo que salió mal.
