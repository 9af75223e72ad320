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
# # 00: why one real run
#
# ## Question
#
# Much is said about pretraining by people who have never pretrained: loss spikes, Chinchilla-optimal, MFU 0.45. This course ends with a model that *you* trained on a rented card, for at most \$50. **What can one small real run teach that reading cannot, and what can it never teach?**
#
# First you watch a run of seconds, and turn those phrases into numbers. Then you check, sum by sum, the brief that this course was built from: eleven of its claims are wrong or say too little. Allow 30 minutes. You need Python and multiplication.
#
# 🇪🇸 De preentrenamiento se habla mucho de oídas. Aquí vas a ver nacer un modelo en segundos, a convertir tres expresiones de moda en números y a comprobar, cuenta por cuenta, el encargo del que salió este curso. Tiene errores; encontrarlos es la primera lección.

# %%
import math
import tempfile
from pathlib import Path

import numpy as np

from x1lib import check, stability, tracking, train
from x1lib.budget_guard import BudgetGuard, BudgetRefused, Ledger, Plan
from x1lib.data.streams.catalog import CATALOG
from x1lib.economics import GPUS, PRICES, PROVIDERS, estimate, flops_per_token
from x1lib.economics.published import PUBLISHED_RUNS
from x1lib.figures import Table, lab00, motivation
from x1lib.scaling import PUBLISHED, fit_law, identifiability
from x1lib.shapes import SHAPES, Shape, count_params

# %% [markdown]
# ## Symbols
#
# | symbol | meaning | unit |
# |---|---|---|
# | N | parameters, all of them | |
# | D | training tokens | |
# | C | training compute, about 6ND | FLOPs |
# | MFU | useful FLOP/s over the machine's peak | 0 to 1 |
# | p | price of one card | US dollars an hour |
#
# A *nat* is the unit of the loss: −ln of the probability that the model gave the right token.
#
# ## Predict
#
# Put your guesses in the place of `None`. Each is compared where the answer appears.

# %%
guess_rise = None  # how far three batches of random tokens push the loss up [nats a token]
guess_ratio = None  # training tokens per parameter in a run of seconds, here
guess_mfu = None  # share of this machine's peak that the run uses, 0 to 1
guess_hours = None  # one A100, a model of 50M parameters, 5 billion tokens, MFU 0.45 [hours]
guess_params = None  # parameters of the best model that 50 dollars can train
guess_price = None  # highest price at which 36 card hours, 3 USD and a tenth make 50 [USD an hour]

# %% [markdown]
# ## 1. A run that you watch
#
# Two layers, width 64, 512 tokens a step, on text that comes with the course. This is the trainer itself, the one that will spend your money: the same file, the same records. Only the size differs.

# %%
kept = tempfile.TemporaryDirectory()  # gone when the kernel ends: nothing among your own runs
desk = Path(kept.name)
small = {"shape": "2x64", "tokenizer": "bpe4096", "seq_len": 64, "batch_tokens": 512}
small |= {"steps": 240, "lr": 3e-3, "on_spike": "record", "milestones": "160"}
small |= {"device": "cpu", "dtype": "float32", "compile": "off", "threads": 1}
small |= {"eval_every": 60, "eval_tokens": 4096, "final_eval_tokens": 4096, "sample_tokens": 24}


def watched(line: str) -> None:
    if line.startswith("step") and "held-out source" not in line:
        print(line)


made = train.train(train.Config(out=str(desk / "run"), **small), log=watched)
print(made["status"], f"{made['tokens']:,} tokens")
assert made["status"] == "finished" and made["tokens"] == 240 * 512

# %%
ignorance = math.log(made["shape"]["vocab_size"])
before = lab00.evaluations(desk / "run", "documents")[0]["loss"]
print(f"knowing nothing costs ln 4,096 = {ignorance:.2f} nats; before step 1 it was {before:.2f}")
assert math.isclose(before, ignorance, rel_tol=0.02) and made["val_loss"] < ignorance - 1.5
lab00.curve(desk / "run")

# %% [markdown]
# **Takeaway.** A loss has a beginning that you can compute, and a unit. The spelling that appears in those samples is the first thing a model learns; sense is the last.
#
# 🇪🇸 La pérdida empieza donde dice el logaritmo del vocabulario y baja. Es el mismo programa que luego gastará tu dinero; solo cambia el tamaño.
#
# ## 2. "A loss spike"
#
# Go back to step 160 of that run, whose state was kept, and train on from there. All is the same but three batches, 180 to 182: their tokens are drawn at random. Before them, is it the same run?

# %%
spoiled = {"branch_from": f"{desk / 'run'}@160", "inject": "corrupt-data@180:1,kind=1,steps=3"}
train.train(train.Config(out=str(desk / "spike"), **small | spoiled), log=lambda line: None)
control, disturbed = (tracking.columns_of(desk / name) for name in ("run", "spike"))
steps = list(disturbed.step)
alone = [loss for step, loss in zip(control.step, control.loss, strict=True) if step >= steps[0]]
loss = list(disturbed.loss)
bad = steps.index(180)
assert alone[:bad] == loss[:bad]  # nineteen losses, to the last bit
print(f"steps {steps[0]} to 179: equal to the bit; step 180: {alone[bad]:.2f}, {loss[bad]:.2f}")

# %% [markdown]
# A spike is a value far above its own recent past, in units of its own recent noise. That is a rule, and a rule can be run: more than seven deviations above the median of the last fifteen. The trainer ran it as it went; here it is again.

# %%
rule, scores = stability.detector("robust", k=7.0), {}
for step, value in enumerate([*control.loss[:160], *loss], start=1):
    if rule.update(value):
        scores[step] = rule.score
extra = np.subtract(loss, alone)
rise, debt = extra.max(), extra[bad + 3 :]
print(f"step 180: {scores[180]:.0f} deviations up; the spike is {rise:.1f} nats high")
print(f"each of the {len(debt)} innocent batches after it costs {debt.mean():.2f} nats more")
(seen,) = [one for one in tracking.read_metrics(desk / "spike", "event") if one["event"] == "spike"]
assert seen["step"] == 180 == min(scores)
assert math.isclose(seen["scores"]["loss"], scores[180], abs_tol=1e-3)  # kept to three digits
assert not stability.detect(control.loss).size and rise > 1.5 and debt.mean() > 0.02
check.guess(guess_rise, rise, within=1.5, name="rise")
motivation.spike(steps, alone, loss, list(scores), (180, 182))

# %% [markdown]
# **Takeaway.** A spike is not a bump in a picture. It has a height, a number of deviations, a step, and a price: what later steps cost because of it. Since a run can be taken back to the bit, its cause can be *tested*. Notebook `04` and lab02 do that.
#
# 🇪🇸 Un pico no es un bulto en una gráfica: tiene altura, desviaciones, un paso y un coste. Y como el entrenamiento se puede rebobinar bit a bit, la causa no se adivina, se prueba.
#
# ## 3. "Chinchilla-optimal"
#
# Hoffmann et al. (2022) asked how to split a compute budget, and found about **20 tokens for each parameter**: their Chinchilla has 70B parameters and read 1.4T tokens. The brief writes the rule as N ≈ 20·D. Put its own five billion tokens in. Then count the run above, and ask how long it would have to go on.

# %% tags=["nbval-check-output"]
# The brief: "N_opt ≈ 20·D"
D = 5e9
print(f"as printed: {20 * D / 1e9:,.0f}B parameters for {D / 1e9:.0f}B tokens")
print(f"the right way round, D ≈ 20·N: {D / 20 / 1e6:,.0f}M parameters")
assert 1.4e12 / 70e9 == 20
for name in ("hoffmann2022", "besiroglu2024"):  # the fit that was printed, and its correction
    ratio = PUBLISHED[name].law.optimal_tokens(250e6) / 250e6
    print(f"{name}: {ratio:.0f} tokens a parameter at 250M")
    assert 20 < ratio < 26

# %%
n, tokens_per_sec = made["n_params"], made["tokens_per_sec"]
ratio = made["tokens"] / n["total"]
wanted = 20 * n["total"]
print(f"{made['tokens']:,} tokens / {n['total']:,} parameters = {ratio:.2f}")
print(f"by the body's {n['body']:,} parameters alone: {made['tokens'] / n['body']:.2f}")
minutes = wanted / tokens_per_sec / 60
print(f"20 a parameter: {wanted / 1e6:.1f}M tokens, {minutes:.0f} minutes here")
assert (made["tokens"], n["total"]) == (240 * 512, 369_216) and 0.3 < ratio < 0.4
check.guess(guess_ratio, ratio, within=2.0, name="tokens a parameter")

# %% [markdown]
# **Takeaway.** "Chinchilla-optimal" is one division, and two questions: which parameters, and optimal for whom? It minimises loss for training compute. Whoever serves a model for years trains a smaller one for longer.
#
# 🇪🇸 «Óptimo según Chinchilla» es una división: unos veinte tokens por parámetro, y no al revés. Faltan dos preguntas: qué parámetros se cuentan y para quién es óptimo.
#
# ## 4. "MFU 0.45"
#
# The model *needs* so many FLOPs a token, by a convention (ours is PaLM's: six for each parameter in a product, and attention's full square). The machine *could* do so many a second. MFU is what you got of it. For a card the peak is on its data sheet; for this CPU the trainer measured it. Then use it: an A100 does 312 TFLOP/s at best, in bf16. How long is the brief's day, and is filling it a goal?

# %%
needed, ceiling = flops_per_token(Shape(**made["shape"]), 64, "palm"), made["peak_flops_per_sec"]
mfu = tokens_per_sec * needed / ceiling
print(f"{tokens_per_sec:,.0f} tokens/s x {needed / 1e6:.2f} MFLOP", end=" ")
print(f"/ {ceiling / 1e9:,.0f} GFLOP/s = {mfu:.0%}, by the convention {made['flops_convention']}")
print(f"peak {made['peak_source']}")
assert needed == made["flops_per_token"] and math.isclose(mfu, made["mfu"], rel_tol=1e-9)
by_6n = mfu * 6 * n["total"] / needed
print(f"the same run by 6n, parameters alone: {by_6n:.0%}")
check.guess(guess_mfu, mfu, within=1.5, name="MFU")

# %% tags=["nbval-check-output"]
# The brief: "50M x 5B tokens fills 24 h on an A100"
peak = GPUS["A100-80GB-SXM"].bf16_flops_per_sec
hours = 6 * 50e6 * 5e9 / (0.45 * peak) / 3600
fills_at = 0.45 * hours / 24
print(f"by 6ND: {hours:.1f} h at MFU 0.45; to fill 24 h it takes MFU {fills_at:.3f}")
counted = {name: estimate(name, n_tokens=5e9, mfu=0.45).hours for name in ("50m", "240m")}
for name, each in counted.items():
    print(f"{name}, with head and attention: {each:.1f} h")
longer = estimate("50m", hours=24, mfu=0.45).n_tokens
print(f"`50m` for 24 h reads {longer / 1e9:.0f}B tokens")
assert round(hours, 1) == 3.0 and round(fills_at, 3) == 0.056
assert [round(each, 1) for each in counted.values()] == [6.1, 17.2] and 17e9 < longer < 20e9
check.guess(guess_hours, hours, within=2.0, name="hours")

# %% tags=["nbval-check-output"]
# The brief: "hit the 24 h wall-clock". Two students rent the same card, and both do:
law, n_50m = PUBLISHED["besiroglu2024"].law, count_params("50m").total
ends = {}
for mfu_of in (fills_at, 0.45):
    read = estimate("50m", hours=24, mfu=mfu_of).n_tokens
    ends[mfu_of] = law.loss(n_50m, read)
    print(f"24 h at MFU {mfu_of:.3f}: {read / 1e9:4.1f}B tokens, by law {ends[mfu_of]:.2f} nats")
assert ends[fills_at] > ends[0.45] + 0.2

# %% [markdown]
# **Takeaway.** A day is no achievement: at an eighth of the MFU one fills it too. Here hours are the ceiling; tokens and held-out loss are the result. Three plans are honest: `50m` on 5B tokens, done in a quarter of the day; `50m` for all of it; `240m` on 5B, which is Chinchilla-optimal.
#
# 🇪🇸 El MFU es lo que aprovechas de la máquina, según una forma de contar que hay que decir. Llenar veinticuatro horas no es un mérito: con un MFU ocho veces menor también se llenan. El resultado son los tokens leídos y la pérdida.
#
# ## 5. The shape
#
# The brief prints a model: 32 layers, width 768, 12 heads, GQA-4 ("grouped-query attention": 4 key/value heads), "about 50M". Count.

# %% tags=["nbval-check-output"]
# The brief: "32 x 768 x 12 x GQA-4 is ~50M"
attention = 2 * 768 * 64 * (12 + 4)  # query and output matrices, key and value matrices
mlp = 3 * 768 * 2048  # SwiGLU's three
norms = 32 * (2 * 768 + 2 * 64) + 768
body, embedding = 32 * (attention + mlp) + norms, 50257 * 768
print(f"{body / 1e6:.1f}M in the body + {embedding / 1e6:.1f}M = {(body + embedding) / 1e6:.1f}M")
assert (body, body + embedding) == (count_params("240m").body, count_params("240m").total)
rows = []
for name, s in SHAPES.items():
    c = count_params(s)
    cache = [2 * 2 * s.n_layers * heads * 64 / 1e3 for heads in (s.n_kv_heads, s.n_heads)]
    size = f"{c.body / 1e6:.1f}M", f"{c.total / 1e6:.1f}M", f"{c.embedding / c.total:.0%}"
    shape = f"{s.n_layers} x {s.d_model}", f"{s.n_heads} / {s.n_kv_heads}"
    rows.append((name, *shape, *size, f"{cache[0]:.0f} / {cache[1]:.0f}"))
head = "shape", "layers x width", "heads / KV", "body", "total", "embedding", "KB: GQA / full"
Table(head, rows)

# %% [markdown]
# Why these? **Depth and width** grow together, width / depth near 50: within a wide range the loss hardly minds the ratio (Levine et al. 2020, arXiv 2006.12467, on earlier findings), while many thin layers run one after another and leave a card idle. The brief's has a ratio of 24. **Width** also pays for the vocabulary: below 100M parameters the embedding is more than a third of the model, up to most of it (the 1.3M of `tiny` included). **GQA** (Ainslie et al. 2023, arXiv 2305.13245) was made for decoding: it shrinks the *cache* of keys and values that is read for every token (above, two bytes a number): the course's shapes halve it, the brief's 12 heads over 4 leave a third. In training it saves less.

# %% tags=["nbval-check-output"]
family = [s for name, s in SHAPES.items() if name not in ("tiny", "240m")]
ratios = [s.d_model / s.n_layers for s in family]
assert 36 < min(ratios) and max(ratios) < 57 and SHAPES["240m"].d_model / 32 == 24
fifty = SHAPES["50m"]
spared = 2 * fifty.n_layers * fifty.d_model * 64 * (fifty.n_heads - fifty.n_kv_heads)
share = 6 * spared / (flops_per_token(fifty, 1024) + 6 * spared)
below_100m = [c for name in SHAPES if (c := count_params(name)).total < 100e6]
assert all(1 / 3 < c.embedding / c.total < 0.75 for c in below_100m)
assert SHAPES["240m"].n_heads == 3 * SHAPES["240m"].n_kv_heads
print(f"GQA spares `50m` {share:.0%} of its training FLOPs, and half of its cache")
assert 0.04 < share < 0.06 and fifty.n_heads == 2 * fifty.n_kv_heads

# %% [markdown]
# **Takeaway.** Count before you believe a name. The course offers both: `50m` by default, and the brief's as `240m`.
#
# 🇪🇸 Antes de creer el nombre de un modelo, cuéntalo: el del encargo tiene 240 millones de parámetros, no 50. Profundidad y anchura crecen juntas, y compartir claves y valores apenas ahorra al entrenar, pero reduce a la mitad (a un tercio, en el del encargo) lo que se lee al generar.
#
# ## 6. What three sizes can tell
#
# The law L = E + A/N<sup>α</sup> + B/D<sup>β</sup> has five unknowns. The brief trains 5M, 25M and 100M, each on the same number of tokens, and fits it. Three points, five unknowns; does it help to branch each run into several token counts? And which size is best: when all read the same text, or when all cost the same?

# %% tags=["nbval-check-output"]
# The brief: "three sizes at one token count fit Chinchilla"
three = ("5m", "25m", "100m")
total, body = (
    np.array([getattr(count_params(name), what) for name in three], float)
    for what in ("total", "body")
)
print("one token count: rank", identifiability(total, np.full(3, 1e9)).rank, "of 5")
N, D = (x.ravel() for x in np.meshgrid(total, [0.25e9, 0.5e9, 1e9, 2e9]))
N_body = np.tile(body, 4)
print("four counts a trunk: rank", identifiability(N, D).rank, "of 5, and without any noise")
told = fit_law(N_body, D, law.loss(N, D)), fit_law(N, D, law.loss(N_body, D))
for fit in told:
    print(f"   D_opt(1B) = {fit.law.optimal_tokens(1e9) / 1e9:.0f}B tokens, no residual")
    assert np.abs(fit.residuals).max() < 1e-9
assert [round(fit.law.optimal_tokens(1e9) / 1e9) for fit in told] == [18, 40]

# %% tags=["nbval-check-output"]
# The brief: "fixed token" and "fixed compute", as if they were one experiment
names = ("5m", "12m", "25m", "50m", "100m")
N = np.array([count_params(name).total for name in names], float)
asked = {"1e9 tokens each": 1e9, "1e18 FLOPs each": 1e18 / 6 / N}
best = {what: names[int(law.loss(N, D).argmin())] for what, D in asked.items()}
print(best)
assert best["1e9 tokens each"] == "100m" and best["1e18 FLOPs each"] == "50m"

# %% [markdown]
# **Takeaway.** The two fits are perfect, to losses made with *one* count of N and read with the other. Three sizes cannot tell which, so lab01 trains five. At equal tokens the largest always wins; a choice appears only at equal compute. All this is known before it costs a dollar.
#
# 🇪🇸 Tres tamaños con los mismos tokens no bastan para cinco incógnitas, y aun con ramas no distinguen qué parámetros se cuentan. A igualdad de tokens gana siempre el mayor; solo a igualdad de cálculo hay una elección. Todo esto se sabe antes de gastar.
#
# ## 7. Text and money
#
# Two claims about text, then three about money, each in a cell. Decide before you run one.

# %% tags=["nbval-check-output"]
# The brief: "200 GB tokenised for 5B tokens"
uint16 = np.iinfo(np.uint16)
gigabytes = 5 * uint16.bits / 8
print(f"{gigabytes:.0f} GB in uint16; 200 GB would be {200 / 5:.0f} bytes a token")
print(f"uint16 ends at {uint16.max:,}: GPT-2's 50,257 ids fit, Llama 3's 128,256 do not")
assert gigabytes == 10 and 50_257 <= uint16.max < 128_256

# %%
# The brief: "stream Pile-CC". Its first host took it down in August 2023 (github.com/EleutherAI/
# the-pile, issues 117 and 53, read 2026-11-22). What the course streams:
for name, entry in CATALOG.items():
    print(f"{name}: {entry.repository}; {entry.note}")
assert next(iter(CATALOG)) == "fineweb-edu" and "withdrew" in CATALOG["pile-cc"].note

# %% tags=["nbval-check-output"]
# The brief: a table that "sums to $50": lab00's 24 h, lab01's 12 h, 3 for storage, a tenth on top
brief = {row.spot: row.usd_per_gpu_hour for row in PRICES if row.provider == "brief"}
usd = {price: (36 * price + 3) * 1.1 for price in brief.values()}
even = (50 / 1.1 - 3) / 36
for price, each in sorted(usd.items()):
    print(f"at {price:.2f} an hour: {each:.0f} USD")
print(f"it is 50 at {even:.2f} an hour")
assert sorted(round(each) for each in usd.values()) == [47, 74] and round(even, 2) == 1.18
check.guess(guess_price, even, within=1.1, name="price")

# %% tags=["nbval-check-output"]
# The brief: "a check at launch is a hard cap"
course = Plan("both labs", 36, usd_fixed=3)
ledger = Ledger(desk / "ledger.jsonl", cap_usd=50)
print("admitted:", f"{BudgetGuard(ledger, brief[True]).admit(course).usd:.2f} USD")
try:
    BudgetGuard(ledger, brief[False]).admit(course)
except BudgetRefused as error:
    print(f"at {brief[False]} refused; it fits below {error.break_even_usd_per_hour:.2f}")
forgotten = 62  # hours from Friday at six to Monday at eight, with nobody there
print(f"admitted, then left on: {(36 + forgotten) * brief[True] + 3:.0f} USD")
assert (36 + forgotten) * brief[True] > 2 * 50

# %% tags=["nbval-check-output"]
# The brief: "a 7B costs $1M"
seven = estimate(n_params=7e9, n_tokens="chinchilla", mfu=0.45, usd_per_gpu_hour=brief[True])
bought = seven.n_tokens * 1e6 / seven.usd
print(f"{seven.n_tokens / 1e9:.0f}B tokens: {seven.usd:,.0f} USD, if no run fails")
print(f"a million buys {bought / 1e12:.1f}T tokens, at the same price and MFU")
assert round(seven.usd, -2) == 12_800 and round(bought / 1e12, 1) == 10.9

# %% [markdown]
# **Takeaway.** A check at the door cannot stop a machine that hangs, restarts or idles. So the trainer meters itself, a watchdog outside ends what hangs, and the machine is ended by command. And a price without D, MFU and a share for failures is a rumour.
#
# 🇪🇸 Cinco mil millones de tokens ocupan diez gigabytes, no doscientos. La tabla no suma cincuenta dólares, y comprobar el presupuesto solo al arrancar no detiene una máquina olvidada el fin de semana: hace falta un contador, un vigilante y una orden que apague.
#
# ## 8. What fifty dollars buy
#
# At the brief's spot price and MFU 0.45, how much arithmetic is that, and which model would use it best? Guess where it lies among runs that you know.

# %%
card_hours = 50 / brief[True]
C = card_hours * 3600 * 0.45 * peak
best = law.optimal(C)
print(f"{card_hours:.0f} h, {C:.1e} FLOPs: {best.n_params / 1e6:.0f}M parameters", end=", ")
print(f"{best.n_tokens / 1e9:.1f}B tokens")
check.guess(guess_params, best.n_params, within=2.0, name="parameters")
known = ("GPT-2-124M", "LLaMA-7B", "GPT-3-175B", "Llama-3.1-405B")
runs = {
    one.name: (one.flops or 6 * one.n_params * one.n_tokens, "published")
    for one in PUBLISHED_RUNS
    if one.name in known
}
runs["this notebook's run"] = made["tokens"] * made["flops_per_token"], "measured"
assert 390e6 < best.n_params < 410e6 and 1e6 < runs["Llama-3.1-405B"][0] / C < 2e6
motivation.compute(runs, ("50 dollars", C))

# %% [markdown]
# | \$50 teaches | \$50 cannot teach |
# |---|---|
# | what a loss curve owes to schedule, batch, data | what appears only at scale |
# | to predict a loss before the run, and be held to it | whether your law holds a million times further out |
# | to make, find and mend a spike | the spikes of a month on thousands of cards |
# | your own MFU, and where the rest went | networks, failures, other people |
# | what a token costs, to train and to serve | whether anyone wants it |
#
# 🇪🇸 Cincuenta dólares no compran un modelo que compita con nadie: compran el proceso entero, una vez, con tus propias manos y tus propios números. Lo que solo aparece a gran escala no se aprende aquí, y conviene saberlo desde el principio.

# %% [markdown]
# ## 9. The path
#
# An evening is at most 90 minutes. Rehearse each lab on your own machine; rent for the smoke run and the two nights only. lab01 comes before the real lab00, because its law seals a prediction that lab00 then tests. Each lab ends with lines that say what ran, what it cost and what comes next.
#
# What will it cost? Two plans at prices that somebody read, on the day stated, each with half an hour for the smoke run: both labs in full (24 + 12 h), and the short one, `50m` on 5B tokens in the place of the 24 h. **At the prices read in 2026 only the short plan fits into \$50**; the full one fits the spot price of the brief, which is of 2024. Put today's prices into `prices.toml`, and choose lab00's night by them.

# %%
assert max(one.minutes for one in motivation.PATH) <= 90
motivation.path()

# %%
short = estimate("50m", n_tokens=5e9, mfu=0.40).hours  # a guess below 0.45, to be on the safe side
smoke = sum(one.card_hours for one in motivation.PATH) - 24 - 12
rows, fits = [], []
for row in PRICES:
    price = row.usd_per_gpu_hour
    if row.gpu == "A100-80GB-SXM" and price and row.gpus == 1:  # sold one by one
        full, less = (Plan("", smoke + h + 12, usd_fixed=3).usd(price) for h in (24, short))
        fits += [(full <= 50, less <= 50)] if row.date.year == 2026 else []
        kind = "spot" if row.spot else "on demand"
        rows.append((PROVIDERS[row.provider], kind, row.date, price, f"{full:.0f}", f"{less:.0f}"))
print(f"in full {smoke:g} + 24 + 12 h; the short plan {smoke:g} + {short:.1f} + 12 h")
in_full, in_short = (sum(each) for each in zip(*fits, strict=True))
print(f"of {len(fits)} prices read in 2026, {in_full} are low enough for the full plan", end=", ")
print(f"{in_short} for the short one")
assert math.isclose(short, 6.84, abs_tol=0.01) and smoke == 0.5 and rows
Table(("A100-80GB-SXM at", "", "read on", "USD/h", "full [USD]", "short [USD]"), rows)

# %% [markdown]
# 🇪🇸 Once tardes de noventa minutos como mucho, un ensayo de un dólar y dos noches de alquiler. Los precios llevan fecha porque caducan: con los leídos en 2026 el plan completo no cabe en cincuenta dólares, y el corto sí. Decidirlo de antemano es parte del oficio.
#
# ## Exercises
#
# A self-check of what the course takes for granted. Put your answer in the place of `None` and run the cell; a wrong one gets a hint.
#
# **00.1 ●○○, 3 minutes.** *The training loop.* You split a batch into 4 equal parts and call `backward()` on the mean loss of each, one after another, without dividing. How many times the whole batch's gradient stands in `.grad`?

# %% tags=["nbval-check-output"]
times_too_large = None  # times

check.answer("00.1", times_too_large)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `4`: `backward()` adds. (Adam would hide the slip, since it cancels a constant factor; clipping would not.) Unsure? Read [`lab00`](lab00.ipynb)'s section *Run*, `gradients` above all, or PyTorch's tutorial ["Optimizing Model Parameters"](https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html).
#
# </details>
#
# **00.2 ●○○, 3 minutes.** *Quantisation.* Weights are stored in 4 bits, and each group of 32 shares one scale of 16 bits. How many bits a weight is that?

# %% tags=["nbval-check-output"]
bits_a_weight = None  # bits

check.answer("00.2", bits_a_weight)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `4 + 16 / 32`: half a bit more than the name says. Unsure? [`lab03`](lab03.ipynb) begins with quantisation by hand.
#
# </details>
#
# **00.3 ●○○, 3 minutes.** *Parallelism.* Four cards hold a quarter of *every* weight matrix each, and add up their partial results in each layer. Is that `"data"`, `"tensor"`, `"pipeline"` or `"zero"`?

# %% tags=["nbval-check-output"]
which_parallelism = None  # one of the four names

check.answer("00.3", which_parallelism)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `"tensor"`. Unsure? [Notebook `02`](02_cluster_economics.ipynb), sections 6 to 8, builds all four from bytes; you need none of them for one card.
#
# </details>
#
# ## What would change this
#
# - **Another corpus or tokeniser** moves every loss here; nats a token compare within one only.
# - **Prices** age in weeks. The sums stay.
# - **A faster card** moves the ceiling of section 8 by a factor, not by a million.
# - **MFU is assumed** until your own run has measured it.
#
# 🇪🇸 Si has respondido a las tres sin dudar, estás listo; si no, cada solución dice qué repasar. Ahora abre `lab00` y haz tu primer ensayo.
