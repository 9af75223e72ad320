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
# # 02: what a training run costs
#
# ## Question
#
# A run is billed by the hour, and the hours follow from four numbers: the model's size, its tokens, the card, and the share of the card's arithmetic that you manage to use. **Can you price any training run before you start it, on one card or on two thousand, and say which of its numbers you should doubt?**
#
# Nothing here is rented. Every figure is computed from data sheets, from dated prices, from one run that we made and from runs that others published. Allow 90 minutes. You need multiplication and one derivative.

# %% [markdown]
# 🇪🇸 Una factura de entrenamiento es un producto de pocos factores, y casi todos se pueden saber antes de gastar nada. Al terminar este cuaderno sabrás poner precio a cualquier entrenamiento, en una tarjeta o en dos mil, y decir de cuál de sus cifras conviene desconfiar.

# %%
import json
import math

import numpy as np
import torch

from x1lib import check, economics, train
from x1lib.economics import GPUS, PRICES, estimate, parallel, rates, restarts
from x1lib.economics.published import PUBLISHED_RUNS
from x1lib.economics.published_clusters import (
    CHECKED_CARDS,
    LLAMA_2_70B,
    LLAMA_2_BATCH_TOKENS,
    LLAMA_2_SEQ_LEN,
    MEGATRON_TABLE_1,
    ZERO_FIGURE_1,
)
from x1lib.figures import Table, clusters, money
from x1lib.launch.places import project_root
from x1lib.shapes import Shape, count_params
from x1lib.widgets import CostCalculator

# %% [markdown]
# ## Symbols
#
# | symbol | meaning | unit |
# |---|---|---|
# | N, D | parameters, training tokens | |
# | MFU | useful FLOP/s over the card's peak | 0 to 1 |
# | p | price of one card | US dollars / h |
# | δ, R | hours of a save, of a restart | h |
# | τ, M | hours between saves, between interruptions | h |
# | t, s | tensor (TP), pipeline (PP) shares | cards |
#
# A *card* is one GPU. *Spot* is a machine that its owner may take back at any moment.
#
# ## Predict
#
# Put your guesses in the place of `None`. Each is compared where the answer appears.

# %%
guess_tokens_per_sec = None  # most tokens/s that one A100 can write with a 7B model, one text
guess_extra_hours = None  # share of hours added when a spot machine is taken every 8 h, 0 to 1
guess_megabytes_per_sec = None  # text that training `50m` on an A100 reads each second [MB]
guess_usd_7b = None  # 7B parameters, 20 tokens each, at 1.10 USD/h and MFU 0.45 [US dollars]
guess_cards_70b = None  # fewest A100-80GB that can hold a 70B model while it trains

# %% [markdown]
# ## 1. A card is two numbers
#
# A card multiplies matrices at so many FLOP/s and reads its memory at so many bytes/s. Their ratio is the *ridge*: do more FLOPs than that with each byte and arithmetic is the limit; do fewer and memory is. Data sheets like to print FLOP/s "with sparsity", twice what dense matrices reach; these are dense.

# %% tags=["nbval-check-output"]
CARDS = ("A100-80GB-SXM", "H100-80GB-SXM", "H200-141GB-SXM", "B200-180GB-SXM", "L40S", "RTX-4090")
assert GPUS["H200-141GB-SXM"].bf16_flops_per_sec == GPUS["H100-80GB-SXM"].bf16_flops_per_sec
money.specs(CARDS)

# %% [markdown]
# How many FLOPs does a transformer do with a byte, its *arithmetic intensity*? Take one product of B tokens with a matrix of k × n weights. It costs 2Bkn FLOPs. It moves, at 2 bytes a number, the inputs, the weights and the outputs: 2(Bk + kn + Bn) bytes. Divide.
#
# A training step pushes thousands of tokens through each matrix. Decoding pushes one token for each text that it is writing. Same model, same card.


# %% tags=["nbval-check-output"]
def intensity(tokens: int, k: int = 4096, n: int = 4096) -> float:  # 4,096 wide: a 7B model
    flops = 2 * tokens * k * n
    moved_bytes = 2 * (tokens * k + k * n + tokens * n)
    return flops / moved_bytes


tried = {"decode, 1 text": 1, "decode, 64 texts": 64, "training, 8,192 tokens": 8192}
points = {what: intensity(tokens) for what, tokens in tried.items()}
print({what: round(at, 1) for what, at in points.items()})

# %% [markdown]
# **Check.** With few tokens only the weights count, so the intensity is the number of tokens. With many, it approaches that of the matrix alone, half its width. The A100's ridge lies between.

# %% tags=["nbval-check-output"]
assert math.isclose(intensity(1), 1, rel_tol=1e-3)
assert math.isclose(intensity(10**9), 4096 / 2, rel_tol=1e-3)
assert intensity(64) < money.ridge("A100-80GB-SXM") < intensity(8192)
money.roofline(("A100-80GB-SXM", "H100-80GB-SXM", "B200-180GB-SXM", "RTX-4090"), points)

# %% [markdown]
# So one text is written at the speed of memory: for each token every weight is read once. That gives a ceiling without any benchmark.

# %% tags=["nbval-check-output"]
weight_bytes = 2 * 7e9
tokens_per_sec = GPUS["A100-80GB-SXM"].memory_bytes_per_sec / weight_bytes
busy = 2 * 7e9 * tokens_per_sec / GPUS["A100-80GB-SXM"].bf16_flops_per_sec
print(f"{tokens_per_sec:.0f} tokens/s at most; the arithmetic is then {busy:.1%} busy")
assert math.isclose(tokens_per_sec, 146, rel_tol=0.01) and busy < 0.01
check.guess(guess_tokens_per_sec, tokens_per_sec, within=2.0, name="tokens/s")

# %% [markdown]
# **Takeaway.** Training lives right of the ridge and is bought in FLOP/s. Decoding lives left of it and is bought in bytes/s: all that an H200 adds to an H100's arithmetic is memory.
#
# 🇪🇸 Una tarjeta se resume en dos cifras: cuánto multiplica y cuánto lee. Al entrenar, miles de tokens comparten cada peso y manda la aritmética; al generar un solo texto, cada peso se lee para un único token y manda la memoria. Por eso la misma tarjeta puede trabajar casi a pleno rendimiento en un caso y no llega ni al uno por ciento en el otro.

# %% [markdown]
# ## 2. Spot against on-demand
#
# Spot machines are cheaper because they can be taken away. Prices move within weeks. These are pairs of like and like: one provider, one card, one size of machine, seen by one reader within a month; who that was is in the price file, which you can update in a minute. The last pair is no offer: it is what this course was planned with, in 2024.

# %%
assert money.pairs()[-1][0].provider == "brief"
money.spot_pairs()

# %% [markdown]
# The saving is on the sticker. What does being interrupted cost? Save every τ hours, each save taking δ. An interruption, every M hours on average, loses half an interval and a restart R:
#
# **extra hours ≈ δ/τ + (τ/2 + R)/M**
#
# The first term falls with τ, the second rises. Set the derivative −δ/τ² + 1/(2M) to zero: τ = √(2δM), Young's rule of 1974. R drops out, since it does not depend on how often you save.

# %% tags=["nbval-check-output"]
save, restart, mean = 0.02, 0.2, 8.0  # hours: a save, a new machine made ready, between losses
interval = math.sqrt(2 * save * mean)
assert interval == restarts.young_interval(save, mean)
extra = save / interval + (interval / 2 + restart) / mean
print(f"save every {60 * interval:.0f} minutes: {extra:.1%} more hours, by the simple sum")

# %% [markdown]
# The sum forgets that work done again can be lost again. Daly (2006) gives the exact mean for interruptions at random times. We do not believe formulas: we play 100 runs of 48 hours, loss by loss, and count. These points are **simulated**; nobody's machine was taken.

# %% tags=["nbval-check-output"]
every = np.geomspace(0.05, 8, 60)
formula = restarts.slowdown(every, save, restart, mean)
simulated = {}
for tried in (0.1, 0.25, interval, 1.2, 3.0, 6.0):
    billed = restarts.simulate(48, tried, save, restart, mean, n_runs=100) / 48
    simulated[tried] = billed.mean(), billed.std() / 10  # mean, standard error of 100 runs
for tried, (found, error) in simulated.items():
    said = restarts.slowdown(tried, save, restart, mean)
    assert abs(found - said) < max(4 * error, 0.01 * said)
at_best = restarts.slowdown(interval, save, restart, mean)
assert at_best < 1.001 * formula.min()
missed = restarts.slowdown(np.array([0.5, 2.0]) * interval, save, restart, mean) - at_best
print(f"half or double that interval: {missed[0]:.1%} or {missed[1]:.1%} more")
assert 0.015 < missed.min() < missed.max() < 0.025  # flat near its least
check.guess(guess_extra_hours, at_best - 1, within=1.5, name="extra hours")
money.restarts(every, formula, simulated, interval)

# %% [markdown]
# Now the real comparison: dollars for each *useful* hour. Take the two prices this course was planned with, and ask how often the machine may be taken before spot stops paying.

# %% tags=["nbval-check-output"]
brief = {p.spot: p.usd_per_gpu_hour for p in PRICES if p.provider == "brief"}
means = np.geomspace(0.2, 100, 500)
useful = brief[True] * restarts.slowdown(restarts.young_interval(save, means), save, restart, means)
even = means[useful < brief[False]].min()
print(f"every {mean:g} h: {brief[True] * at_best:.2f} USD a useful hour, not {brief[True]:.2f}")
print(f"spot at {brief[True]:.2f} pays unless it is taken more often than every {even:.1f} h")
assert brief == {False: 1.79, True: 1.10} and 0.5 < even < 1.2

# %% [markdown]
# **Takeaway.** With saves that are quick and a restart that is automatic, spot survives rough treatment, and missing Young's interval by a factor of two costs some two points. What kills it is not the eviction but a run that cannot resume: then M hours are lost each time, not half an interval.
#
# 🇪🇸 El descuento de una máquina interrumpible solo vale si el entrenamiento sabe reanudarse. La regla de Young dice cada cuánto guardar: la raíz del doble del producto entre lo que tarda una copia y lo que dura la máquina. La curva es plana cerca del mínimo: equivocarse por un factor de dos cuesta unos dos puntos.

# %% [markdown]
# ## 3. What else is on the bill
#
# **Data.** Does training wait for its text? A token is 2 bytes in uint16. Predict the megabytes a second first.

# %% tags=["nbval-check-output"]
run = estimate("50m", n_tokens=5e9, mfu=0.45, usd_per_gpu_hour=brief[True])
data_gb = 2 * run.n_tokens / 1e9
megabytes_per_sec = data_gb * 1e3 / (3600 * run.hours)
print(f"{data_gb:.0f} GB in all, {megabytes_per_sec:.2f} MB/s")
assert data_gb == 10 and math.isclose(megabytes_per_sec, 0.457, rel_tol=0.01)
check.guess(guess_megabytes_per_sec, megabytes_per_sec, within=3.0, name="MB/s")

# %% [markdown]
# Ten gigabytes, not the 200 that are sometimes quoted for such a corpus; and a trickle that any disk can serve. What costs is to leave things lying, and to carry them out. The two rates below are examples that we read; yours will differ.

# %%
held_gb = 10 + 5 * 12 * count_params("50m").total / 1e9  # text, 5 saves of weight and moments
for rate in (rates.STORAGE, rates.EGRESS):
    print(f"{rate.usd_per_gb:.2f} USD a GB: {rate.what}")
stored = estimate(
    "50m",
    n_tokens=5e9,
    mfu=0.45,
    usd_per_gpu_hour=brief[True],
    storage_gb=held_gb,
    usd_per_gb_month=rates.STORAGE.usd_per_gb,
    egress_gb=data_gb,
    usd_per_egress_gb=rates.EGRESS.usd_per_gb,
)
month = held_gb * rates.STORAGE.usd_per_gb
print({line: round(usd, 2) for line, usd in stored.usd_by_line.items() if usd})
print(f"the same storage, forgotten for a month: {month:.2f} USD")
rent, egress = stored.usd_by_line["compute"], stored.usd_by_line["egress and bandwidth"]
assert 1 / 8 < egress / rent < month / rent < 1 / 6

# %% [markdown]
# **Energy.** A card draws at most its board's limit; the data centre adds cooling and losses, the factor *PUE*. LLaMA's authors printed hours, megawatt-hours and tonnes. Our line is hours × 400 W × PUE, then × the grid's intensity. Does it give their table back?

# %% tags=["nbval-check-output"]
rows = []
for one in PUBLISHED_RUNS:
    if one.kwh and one.pue > 1:
        kwh = one.gpu_hours * one.gpu.watts / 1000 * one.pue
        tonnes = kwh * one.kg_co2e_per_kwh / 1000
        assert math.isclose(kwh, one.kwh, rel_tol=0.02)  # they round to whole MWh
        printed = f"{one.kwh / 1e3:.0f} MWh, {one.kg_co2e / 1e3:.0f} t"
        rows.append((one.name, f"{kwh / 1e3:.0f} MWh, {tonnes:.0f} t", printed))
Table(("run", "computed", "published"), rows)

# %% [markdown]
# And ours? The same kilowatt-hours weigh differently by grid: the American average that LLaMA took, and the French one that BLOOM had, in kg of CO2 equivalent for each kWh.

# %% tags=["nbval-check-output"]
home = estimate("50m", n_tokens=5e9, mfu=0.45, usd_per_gpu_hour=0, pue=1.2, usd_per_kwh=0.30)
bloom = next(one for one in PUBLISHED_RUNS if one.name == "BLOOM-176B")
french = home.kwh * bloom.kg_co2e_per_kwh
print(f"{home.kwh:.1f} kWh with PUE 1.2: {home.kg_co2e:.2f} or {french:.2f} kg CO2e")
print(f"at an assumed 0.30 USD a kWh: {home.usd:.2f} USD, against {run.usd:.2f} of rent")
assert 6.5 < home.kg_co2e / french < 7 and 1 / 8 < home.usd / run.usd < 1 / 6

# %% [markdown]
# **Takeaway.** For a run of this size the card's rent is most of the bill. Data carried out, power, or a volume forgotten for a month would each add between an eighth and a sixth. (The first 100 GB out may be free: read the contract.) *Where* you train changed the carbon by a factor of nearly seven.
#
# 🇪🇸 Leer los datos pide menos de medio megabyte por segundo, y casi toda la factura es alquiler. Sacar los datos, la electricidad o un volumen olvidado un mes añaden, cada uno, entre un octavo y un sexto. La red eléctrica sí pesa: los mismos kilovatios hora contaminan casi siete veces más en una que en otra.

# %% [markdown]
# ## 4. One run, four MFUs
#
# MFU divides the arithmetic a model *needs* by what the card could do. What it needs is a convention: is the head counted? attention, and all of its square? Take a small run of ours, made on a CPU, and one of the published ones, by the hours that its authors print.

# %% tags=["nbval-check-output"]
ours = json.loads((project_root() / "experiments/reference/lab00-cpu/manifest.json").read_text())
tiny, window = Shape(**ours["shape"]), ours["plan"]["window"]
llama = next(one for one in PUBLISHED_RUNS if one.name == "Llama-2-70B")
rate_of_card = llama.n_tokens / llama.gpu_hours / 3600  # tokens/s of one of its cards
cpu, minutes = ours["machine"], ours["wall_clock_seconds"] / 60
print(f"ours: {ours['tokens_per_sec']:,.0f} tokens/s of {tiny.name}")
print(f"    for {minutes:.0f} minutes on {cpu['threads']} cores of an {cpu['device_name']}")
print(f"theirs: {rate_of_card:.0f} tokens/s of {llama.name} on each {llama.gpu.name}")
assert cpu["device"] == "cpu"

# %% tags=["nbval-check-output"]
rows, found = [], {}
for name, meaning in economics.CONVENTIONS.items():
    small = economics.mfu(
        ours["tokens_per_sec"], tiny, window, ours["peak_flops_per_sec"], convention=name
    )
    large = economics.mfu(rate_of_card, LLAMA_2_70B, LLAMA_2_SEQ_LEN, llama.gpu, convention=name)
    found[name] = small, large
    rows.append((name, f"{small:.1%}", f"{large:.1%}", meaning))
spread = [max(column) / min(column) for column in zip(*found.values(), strict=True)]
assert spread[0] > 1.9 and spread[1] < 1.1
assert math.isclose(found["palm"][0], ours["mfu"], rel_tol=1e-9)  # the manifest's own
assert math.isclose(found["6n"][1], llama.implied_mfu(), rel_tol=0.02)  # 69.0B against "70B"
Table(("convention", "our tiny run", "Llama-2-70B", "what it counts"), rows)

# %% [markdown]
# Which MFU should one assume? Published hours answer, if one knows what they count. Meta's for Llama 3 are "the total GPU time required for training each model": that says what was billed, not how fast a step was.

# %% tags=["nbval-check-output"]
implied = {one: one.implied_mfu() for one in PUBLISHED_RUNS if one.gpu_hours}
print(f"median {np.median(list(implied.values())):.0%}")
assert [round(end(implied.values()), 2) for end in (min, max)] == [0.16, 0.55]
ordered = sorted(implied, key=implied.get)
rows = [(r.name, r.gpu.name, f"{r.gpu_hours:,.0f}", f"{implied[r]:.0%}") for r in ordered]
Table(("run", "card", "card hours", "MFU by 6ND"), rows)

# %% [markdown]
# **Takeaway.** For a large model the conventions agree within a tenth. For a small one, where head and attention weigh as much as the body, one gives the same run twice the MFU of another. An MFU without its convention is no number; ours is `palm`. Doubt the one in a plan: published hours mean 16% to 55%.
#
# 🇪🇸 El MFU depende de qué operaciones se cuenten. En un modelo de setenta mil millones de parámetros da casi igual; en uno diminuto, la misma ejecución vale el doble con una convención que con otra. Un MFU sin apellido no dice nada. Y al planificar conviene dudar: las horas publicadas equivalen a entre el 16 % y el 55 %.

# %% [markdown]
# ## 5. "A 7B model costs a million dollars"
#
# One hears this often. It says nothing until it says D, the price, MFU and what went wrong on the way. State them: 20 tokens for each parameter, 1.10 US dollars an hour, MFU 0.45, nothing fails.
#
# Compute it by hand, then check it twice: against `estimate`, and against people who did it. LLaMA-7B took 82,432 card hours for 10¹² tokens; take the share of 140 billion.

# %% tags=["nbval-check-output"]
N, D = 7e9, 20 * 7e9
card_seconds = 6 * N * D / (0.45 * GPUS["A100-80GB-SXM"].bf16_flops_per_sec)
usd_7b = card_seconds / 3600 * brief[True]
llama_7b = next(one for one in PUBLISHED_RUNS if one.name == "LLaMA-7B")
theirs = llama_7b.gpu_hours * D / llama_7b.n_tokens * brief[True]
print(f"{card_seconds / 3600:,.0f} card hours, {usd_7b:,.0f} USD; by LLaMA's hours {theirs:,.0f}")
same = estimate(n_params=N, n_tokens="chinchilla", mfu=0.45, usd_per_gpu_hour=brief[True])
assert math.isclose(same.usd, usd_7b, rel_tol=1e-9) and math.isclose(usd_7b, 12.8e3, abs_tol=50)
assert (llama_7b.gpu_hours, llama_7b.n_tokens) == (82_432, 1e12)
assert math.isclose(theirs, usd_7b, rel_tol=0.03)
check.guess(guess_usd_7b, usd_7b, within=2.0, name="7B, US dollars")

# %% [markdown]
# So what does a million buy, and what makes 12,800 grow? Each row changes the stated assumptions; the last column says how far one is from the first.

# %% tags=["nbval-check-output"]
cases = {
    "as stated": {},
    "MFU 0.30": {"mfu": 0.30},
    "a third of the hours fails": {"failed_share": 1 / 3},
    "1.79 an hour": {"usd_per_gpu_hour": brief[False]},
    "all three": {"mfu": 0.30, "failed_share": 1 / 3, "usd_per_gpu_hour": brief[False]},
    "all three, 2T tokens": {"mfu": 0.30, "failed_share": 1 / 3,
                             "usd_per_gpu_hour": brief[False], "n_tokens": 2e12},
}  # fmt: skip
base = {"n_params": N, "n_tokens": D, "mfu": 0.45, "usd_per_gpu_hour": brief[True]}
usd = {name: estimate(**base | change).usd for name, change in cases.items()}
bought = D * 1e6 / usd_7b
print(f"a million buys {bought / 1e12:.1f}T tokens as stated, {bought / N:,.0f} a parameter")
assert math.isclose(bought, 10.9e12, rel_tol=0.01)
assert math.isclose(usd["all three"] / usd_7b, 1.5 * 1.5 * 1.79 / 1.10)
assert usd["all three"] < 4 * usd_7b
assert math.isclose(usd["all three, 2T tokens"], 2e6 / 3, rel_tol=0.01)
rows = [(name, f"{each:,.0f}", f"{each / usd_7b:.1f}") for name, each in usd.items()]
Table(("case", "US dollars", "times"), rows)

# %% [markdown]
# **Takeaway.** The million is no lie; it is another run. Lower MFU, failures and a dearer card multiply to under four. The rest is D: small models are trained on trillions of tokens because they will be served for long.
#
# 🇪🇸 «Entrenar un 7B cuesta un millón» no significa nada hasta que se dicen cuatro cosas: cuántos tokens, a qué precio, con qué MFU y cuánto se perdió por el camino. Con veinte tokens por parámetro salen unos trece mil dólares; con dos billones de tokens y todo en contra, dos tercios del millón.

# %% [markdown]
# ## 6. Above ten billion: memory
#
# Mixed-precision training with Adam keeps, for each parameter, the weight and the gradient in bf16, and weight, momentum and variance again in float32: 2 + 2 + 12 bytes (ZeRO, Rajbhandari et al. 2020). **Check** that 16 with real tensors: a tiny model, one real step.

# %% tags=["nbval-check-output"]
model = train.GPT(train.Config(shape="2x64", steps=1), vocab_size=512).bfloat16()
master = [p.detach().float().requires_grad_() for p in model.parameters()]
optimizer = torch.optim.AdamW(master)
text = torch.zeros(1, 9, dtype=torch.long)
model(text[:, :-1], text[:, 1:]).backward()
for copy, p in zip(master, model.parameters(), strict=True):
    copy.grad = p.grad.float()
optimizer.step()
moments = [s[key] for s in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
held = [*model.parameters(), *(p.grad for p in model.parameters()), *master, *moments]
held_bytes = sum(tensor.numel() * tensor.element_size() for tensor in held)
n_params = sum(p.numel() for p in model.parameters())
print(f"{held_bytes:,} bytes / {n_params:,} parameters = {held_bytes / n_params:g}")
assert (
    held_bytes == 16 * n_params == sum(parallel.state_bytes(n_params, parallel.Layout()).values())
)

# %% [markdown]
# Now a 70B: Llama 2's. How many A100s of 80 GB hold 16 bytes of each parameter, if nine tenths of a card can be used and the load is spread without waste?

# %% tags=["nbval-check-output"]
n_70b = count_params(LLAMA_2_70B).total
cards_70b = math.ceil(16 * n_70b / (0.9 * 80e9))
print(f"{n_70b:,} parameters, {16 * n_70b / 1e9:,.0f} GB: {cards_70b} cards, without activations")
assert n_70b == 68_976_648_192 and cards_70b == 16
check.guess(guess_cards_70b, cards_70b, within=1.5, name="cards for a 70B")

# %% [markdown]
# *Data parallelism* spreads nothing: each card has a whole copy and reads its own text. **ZeRO** divides the copies' state among them, in stages: (1) the optimiser's, (2) the gradients too, (3) the weights too, which are then fetched layer by layer. **Check** the four sums against figure 1 of its paper, 7.5B on 64 cards.

# %% tags=["nbval-check-output"]
stages = [parallel.Layout(dp=64, zero=zero) for zero in range(4)]
gigabytes = [sum(parallel.state_bytes(7.5e9, one).values()) / 1e9 for one in stages]
print("computed ", [round(each, 1) for each in gigabytes])
print("published", list(ZERO_FIGURE_1))
assert [round(each, 1) for each in gigabytes] == list(ZERO_FIGURE_1)
clusters.states(n_70b, 64, "A100-80GB-SXM")

# %% [markdown]
# Two more ways divide the model itself. **Tensor parallelism** (TP, Shoeybi et al. 2019) cuts every matrix: t cards work on one layer together. **Pipeline parallelism** (PP, Narayanan et al. 2021) gives each of s cards some of the layers.
#
# Activations come on top: keep them all, or keep each layer's input and compute the rest again, for a third more arithmetic.
#
# 🇪🇸 Entrenar ocupa dieciséis bytes por parámetro, y lo hemos comprobado con tensores de verdad. Un modelo de setenta mil millones pide más de un terabyte: no cabe en ninguna tarjeta y hay que repartirlo. ZeRO reparte el estado entre las copias; el paralelismo tensorial corta cada matriz, y el de tubería reparte las capas.

# %% [markdown]
# ## 7. Above ten billion: traffic
#
# Dividing makes cards talk. In a ring, a card that gathers or reduces S bytes over n cards sends S(n − 1)/n.
#
# - **DP, ZeRO-1, ZeRO-2**: reduce the gradients, gather the weights: twice the weights' bytes.
# - **ZeRO-3**: gather for the forward pass, again for the backward, reduce: three times, *at every pass*.
# - **TP**: four all-reduces of the activations in each layer and pass, six with recomputation.
# - **PP**: activations on and gradients back at each stage's edge; and (s − 1)/m of idling over m passes.

# %% tags=["nbval-check-output"]
zero3 = parallel.Layout(dp=64, zero=3)  # 1,024 sequences: 16 passes for each of 64 cards
by_hand = 3 * 16 * 2 * n_70b * 63 / 64
assert math.isclose(by_hand, parallel.traffic(LLAMA_2_70B, zero3, 4096, 16)["data"])
print(f"ZeRO-3 over 64 cards: each sends {by_hand / 1e12:.1f} TB a step")
tp8 = parallel.Layout(tp=8, dp=8, zero=1, recompute=False)  # 128 passes
by_hand = 128 * 80 * 4 * (2 * 7 / 8) * (2 * 4096 * 8192)  # passes, layers, all-reduces, bytes
assert by_hand == parallel.traffic(LLAMA_2_70B, tp8, 4096, 128)["tensor"]
print(f"TP over 8 cards: each sends {by_hand / 1e12:.1f} TB a step")

# %% [markdown]
# Terabytes either way; what matters is over which wire, and whether anything can be done meanwhile. An A100 sends 300 GB/s over NVLink inside its machine: half of the table's 600, which counts both directions. Out of it, each of eight cards has an InfiniBand port of 25 GB/s, and a ring over whole machines uses all eight at once: 200 GB/s. Here are four ways to divide Llama 2's step of 4M tokens over 64 cards: bytes that a card sends, and the seconds they take, beside the seconds of arithmetic.

# %% tags=["nbval-check-output"]
RUN = {"batch_tokens": LLAMA_2_BATCH_TOKENS, "seq_len": LLAMA_2_SEQ_LEN}
A100, wires = "A100-80GB-SXM", parallel.networks("A100-80GB-SXM")
pp8 = parallel.Layout(pp=8, dp=8, zero=1)
mixed = parallel.Layout(tp=4, pp=4, dp=4, zero=1, recompute=False)
ways = {
    name: [
        parallel.step(LLAMA_2_70B, way, A100, wires[name], **RUN)
        for way in (zero3, tp8, pp8, mixed)
    ]
    for name in ("NVLink + InfiniBand", "InfiniBand alone")
}
clusters.traffic_table(ways, wires)

# %% [markdown]
# ZeRO-3's traffic can hide behind the products, since the next layer is known before it is needed. TP's cannot: the product waits for the sum. So TP lives or dies by its wire, and the same layout that costs 16 s over NVLink costs 192 s without it.

# %% tags=["nbval-check-output"]
fast, alone = ways.values()
wired = wires["NVLink + InfiniBand"]
assert (wired.link_bytes_per_sec, wired.nic_bytes_per_sec) == (300e9, 25e9)
assert wired.bytes_per_sec(64, 1) == 8 * 25e9 and fast[0].fits  # 64 cards: eight whole machines
assert [round(one[1].seconds_by_part["tensor traffic"]) for one in (fast, alone)] == [16, 192]
exposed = [one[0].seconds_by_part["data traffic"] for one in (fast, alone)]
print(f"ZeRO-3 waits {exposed[0]:.0f} s for its data with NVLink, {exposed[1]:.0f} s without")
assert exposed[0] == 0 and 30 < exposed[1] < 40

# %% [markdown]
# **Takeaway.** Do not ask how many bytes a strategy moves. Ask over which wire, and who waits.
#
# 🇪🇸 ZeRO-3 y el paralelismo tensorial mueven terabytes en cada paso; la tubería, unas decenas de gigabytes. Lo decisivo es por qué cable van y quién espera: los pesos de ZeRO-3 se piden por adelantado y se esconden tras el cálculo, mientras que las sumas del paralelismo tensorial detienen el producto. Por eso este rinde sobre todo dentro de una misma máquina.

# %% [markdown]
# ## 8. Which wins, and where
#
# A step is then: products / efficiency, plus what cannot hide, plus a pipeline's idling. **Simplifications**: no latency, no congestion, no stragglers, and one efficiency of 0.55 for all kernels, which is an assumption. So times are floors. Before using it on a 70B, hold it against ten models, 1.7B to 1T parameters on up to 3,072 A100s (Narayanan et al. 2021, table 1). **Doubt this too**: the table was written down without the paper at hand. Sizes and layouts agree with the paper's formulas; of the throughputs only the last, 163 TFLOP/s, was checked against its abstract. The other nine are unverified, and drawn hollow.

# %% tags=["nbval-check-output"]
names = [f"{row.n_params / 1e9:,.4g}B" for row in MEGATRON_TABLE_1]
made = [
    parallel.step(
        row.shape, row.layout, A100, wires["NVLink + InfiniBand"], row.sequences * 2048, 2048
    )
    for row in MEGATRON_TABLE_1
]
computed = [one.mfu * 4 / 3 * 312 for one in made]  # TFLOP/s, recomputation counted as they do
published = [row.tflops_per_sec for row in MEGATRON_TABLE_1]
ratios = np.divide(computed, published)
checked = [
    name for name, row in zip(names, MEGATRON_TABLE_1, strict=True) if row.cards in CHECKED_CARDS
]
assert all(one.fits for one in made) and len(checked) == 1 and published[-1] == 163
assert 0.85 < ratios.min() and ratios.max() < 1.26 and round(1 - ratios[-1], 2) == 0.10
assert ratios[0] == ratios.max() and min(ratios[-2:]) == ratios.min()  # small ones flattered
clusters.against(names, computed, published, checked)

# %% [markdown]
# Within a quarter from 1.7B to 1T, and 10% below the one figure that was checked, with one free number. It flatters the small models, whose matrices are too small for their kernels, and is hard on the largest. Differences of a few per cent between layouts below are therefore **not** findings; factors are.
#
# Now try every layout (tp, pp, ZeRO stage, micro-batch, recomputation) of 8 to 8,192 cards, and keep the fastest of each family that fits.

# %% tags=["nbval-check-output"]
numbers = [2**k for k in range(3, 14)]
found = parallel.survey(LLAMA_2_70B, A100, wires, numbers, **RUN)
clusters.regimes(found)

# %% [markdown]
# Read the first panel from the left. Eight cards hold no 70B; sixteen do, with little to spare. Then a little TP inside the machine and ZeRO across machines, up to the last point, where TP 16 has to reach beyond one. ZeRO alone ends at 1,024 cards, because 4M tokens are 1,024 sequences, and a card cannot take less than one. Beyond, only cutting the model further helps, and every card gets less to do.

# %% tags=["nbval-check-output"]
nvlink, bare, ethernet = (
    [next(iter(best), "") for best in by_cards.values()] for by_cards in found.values()
)
assert nvlink[0] == bare[0] == ethernet[0] == "" and nvlink[1]  # 8 cards, and 16
assert all(name.startswith("TP + ZeRO") for name in nvlink[1:])
last = next(iter(found["NVLink + InfiniBand"][8192].values())).layout
assert last.tp == 16
assert bare[3] == "ZeRO-3" and set(ethernet[2:]) == {"TP + PP + ZeRO-1"}
alone_at = [cards for cards, best in found["NVLink + InfiniBand"].items() if "ZeRO-3" in best]
assert max(alone_at) == LLAMA_2_BATCH_TOKENS / LLAMA_2_SEQ_LEN == 1024
top = next(iter(found["NVLink + InfiniBand"][2048].values()))
theirs = economics.mfu(rate_of_card, LLAMA_2_70B, LLAMA_2_SEQ_LEN, A100)  # palm, as ours
print(f"2,048 A100s: {top.mfu:.0%} within reach; Llama 2's hours mean {theirs:.0%}")
assert theirs < top.mfu < 1.3 * theirs
clusters.winners(found)

# %% [markdown]
# **Takeaway.** TP inside a machine where NVLink is; ZeRO over a fast network while the batch lasts, alone or with a little TP (the middle column changes from one to the other by differences that are no findings); pipelines where the network is slow, since they send least. More cards always means fewer tokens for each, and that is what ends every line.
#
# 🇪🇸 No hay una estrategia mejor que las demás, sino regímenes. Dentro de la máquina, cortar matrices; entre máquinas con buena red, ZeRO; con red lenta, tuberías, que son las que menos hablan. Y siempre hay un límite: el lote se acaba, cada tarjeta recibe menos trabajo y el rendimiento cae.

# %% [markdown]
# ## 9. This course's own bill
#
# The brief behind this course prints a table that is said to sum to \$50: a run of 24 h, scaling-law runs of 12 h, \$3 for storage and egress, and a tenth for safety. Add it again. Then solve (36p + 3) · 1.1 = 50 for the price p at which the plan just fits.

# %% tags=["nbval-check-output"]
hours, fixed, margin = 24 + 12, 3.0, 1.10
for price in (brief[True], brief[False]):
    rows = (24 * price, 12 * price, fixed, (hours * price + fixed) * (margin - 1))
    parts = " + ".join(f"{each:.2f}" for each in rows)
    print(f"at {price:.2f}: {parts} = {sum(rows):.2f} USD")
break_even = (50 / margin - fixed) / hours
print(f"the plan fits below {break_even:.2f} USD an hour")
sums = [round((hours * price + fixed) * margin) for price in brief.values()]
assert sorted(sums) == [47, 74] and math.isclose(break_even, 1.18, abs_tol=0.005)

# %% [markdown]
# **Takeaway.** Not 50, and on demand far beyond it. A budget is a price limit in disguise: state the break-even price, then look at today's. The program that guards your money prints it when it refuses.
#
# 🇪🇸 La tabla del curso no suma cincuenta dólares, sino cuarenta y siete; y con el precio bajo demanda, setenta y cuatro. Lo útil es despejar el precio: por debajo de 1,18 dólares la hora el plan cabe, por encima no.

# %% [markdown]
# ## 10. The calculator
#
# All of it behind controls. It needs a running kernel; the picture below it is one setting, for wherever nothing can be moved. Try an impossible one: a T4, or a spot price that nobody has read.
#
# 🇪🇸 Mueve los controles y lee la frase: horas, dólares, energía y cuántas veces cabe en tu presupuesto. Si pides algo imposible, te dirá por qué; si un precio no lo ha leído nadie, también.

# %%
CostCalculator()

# %% tags=["nbval-check-output"]
one = estimate("50m", n_tokens=5e9, usd_per_gpu_hour=brief[True])
print(one.sentence())
assert one.sentence() == "6.8 h on one A100, $7.5, 2.7 kWh; 6 of these fit in $50."
money.bill(one)

# %% [markdown]
# ## Exercises
#
# Put your answer in the place of `None` and run the cell. A wrong one gets a hint; the solutions are folded.
#
# **02.1 ●○○, 5 minutes.** How many texts must an H100-80GB-SXM decode together before its arithmetic, not its memory, is the limit? Count the weights only.

# %% tags=["nbval-check-output"]
texts_at_ridge = None  # texts

check.answer("02.1", texts_at_ridge)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `989.5e12 / 3350e9`, about 295. B texts do 2B FLOPs with each weight, which is 2 bytes: B FLOPs a byte. Arithmetic becomes the limit where that is FLOP/s over bytes/s, the ridge itself.
#
# </details>
#
# **02.2 ●●○, 10 minutes.** A spot card costs \$1.10 an hour and is taken every 2 h; a save takes 0.02 h, a restart 0.2 h, and you save at Young's interval. What does a useful hour cost, by Daly's formula?

# %% tags=["nbval-check-output"]
usd_a_useful_hour = None  # US dollars

check.answer("02.2", usd_a_useful_hour)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `1.10 * restarts.slowdown(restarts.young_interval(0.02, 2), 0.02, 0.2, 2)`: about \$1.41. Young says to save every √(2 · 0.02 · 2) = 0.28 h, and 1.28 hours are then billed to a useful one. It is still below \$1.79.
#
# </details>
#
# **02.3 ●●○, 10 minutes.** How many H200s hold the 16 bytes of each of Llama-2-70B's parameters, in nine tenths of their memory?

# %% tags=["nbval-check-output"]
h200s = None  # cards

check.answer("02.3", h200s)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `math.ceil(16 * 68_976_648_192 / (0.9 * 141e9))`: 9. It is 1,104 GB over 127 GB a card, 8.7 of them: one more than a machine has.
#
# </details>
#
# **02.4 ●●●, 15 minutes.** A pipeline of 8 stages runs a step in 64 passes. Which share *of all its time* does a card stand idle?

# %% tags=["nbval-check-output"]
idle_share = None  # 0 to 1

check.answer("02.4", idle_share)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `7 / (64 + 7)`, a tenth. The last stage waits for 7 passes before its first and works for 64; the first waits at the end instead. Papers print 7/64 = 0.109, idle over busy, and call both "the bubble".
#
# </details>
#
# **●●●, an evening.** Price the run you want: your card, today's price from the provider's own page, your tokens. Then write down the three numbers you trust least, and what the bill becomes if each is wrong by half.
#
# 🇪🇸 Los cuatro primeros se corrigen solos; el último es el que más enseña. Una estimación honrada dice también en qué cifras no confía.

# %% [markdown]
# ## What would change this
#
# - **Prices** age. Edit the file; your own price wins over all.
# - **MFU is assumed** until you measure it; lab00 does. Section 8 rests on one efficiency, 0.55.
# - **Evictions come at random** in section 2. Real ones come together, when everyone wants cards.
# - **fp8** halves products and weights; mixtures of experts separate N from C.
# - **Interleaved pipelines and larger NVLink domains** move section 8's borders; the rule of wires stays.
#
# 🇪🇸 Los precios caducan y el MFU se supone hasta que se mide. Lo que permanece es el método: decir cada supuesto, comprobar cada cifra y saber cuál de ellas movería más la factura.
