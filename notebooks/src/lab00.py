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
# # Lab 00: one real run
#
# ## Question
#
# A compressor such as `xz` knows nothing about English. It looks for strings that it has seen before. A language model gives every next token a probability, and a probability is a code length: p costs −log₂ p bits. So both can be asked the same question: **in how many bits do you write down this text, which you have never seen?**
#
# Tonight a network starts from random numbers and trains for three minutes on this machine. Will it beat `xz -9e`, and after how many seconds?
#
# You know PyTorch; you need not have pretrained anything. Allow 60 to 90 minutes: three are the run, and while it works you read the program that trains.

# %% [markdown]
# 🇪🇸 Un compresor busca cadenas repetidas; un modelo de lenguaje reparte probabilidades, y toda probabilidad es también una longitud de código. Por eso podemos enfrentarlos con el mismo texto y la misma unidad: bits por byte. La pregunta de esta noche es cuántos segundos tarda una red que parte de cero en adelantar a `xz`.

# %%
import lzma
import math
from dataclasses import replace

import numpy as np
import torch

from x1lib import check, economics, ladder, launch, planning, tracking, train
from x1lib.data import load_tokenizer
from x1lib.figures import Code, Table, day, lab00, recipe
from x1lib.figures import ladder as ladder_figures
from x1lib.pacing import Schedule
from x1lib.session import opening
from x1lib.shapes import Shape, count_params, resolve

# %% [markdown]
# ## Parameters
#
# These defaults are a real run, small enough for a laptop's CPU. On a GPU box the same notebook takes `papermill lab00.ipynb out.ipynb -p hours 24 -p source TEXT.jsonl -p usd_per_hour 1.10`, with your own price, and every other setting of the trainer (`python -m x1lib.train --help`) can be given in the same way. Zero, `auto` and the empty text mean: derived, and you will see how.

# %% tags=["parameters"]
hours = 0.05  # ceiling on wall-clock of the run [hours], start-up and export included
tokens = 0  # training tokens; 0: as many as the hours hold
shape = "auto"  # model: tiny, 5m .. 240m; auto: 50m on a CUDA card, else tiny
source = "embedded"  # text: embedded, fineweb-edu, a .jsonl or .txt file, or a folder of shards
tokenizer = "auto"  # gpt2, bpe4096 or bytes; auto: the one of the shape's vocabulary
seq_len = 0  # tokens a sequence; 0: by the size of the model
seed = 0  # of initialisation and data order
out = ""  # folder of the run; empty: under experiments/X1-pretraining
usd_per_hour = 0.0  # price of this machine [US dollars an hour]
ladder_minutes = 1.5  # time for the speed measurements after the run [minutes]; 0: none

# %% [markdown]
# A misspelt name or an impossible value ends the notebook here, before anything starts. If the folder holds a finished run with other settings, that one is moved aside and kept.

# %%
config = launch.configure(
    globals(),
    trainer="hours tokens shape source tokenizer seq_len seed out usd_per_hour",
    own={"ladder_minutes": 1.5},
)
folder = launch.make_room(config)
print(f"{config.shape} on {launch.shown(config.source)}, at most {config.hours:g} h,")
print(f"in {launch.shown(folder)}")
if config.source == "embedded" and config.hours > 1:
    print("note: the embedded text is small and would be read many times; give a source")

# %% [markdown]
# 🇪🇸 Los valores por defecto ya son un entrenamiento de verdad, solo que pequeño. El mismo cuaderno sirve para veinticuatro horas en una GPU: basta con cambiar `hours` y dar un texto grande en `source`. Un nombre mal escrito o un valor imposible detiene el cuaderno aquí, antes de gastar nada.

# %% [markdown]
# ## Predict
#
# Predict before you look; that is where one learns. One anchor: a network that knows nothing spreads its probability evenly over the vocabulary, so every token costs it the logarithm of the vocabulary's size.

# %% tags=["nbval-check-output"]
words = load_tokenizer(opening.tokenizer_name(config))
size = resolve(config, words.vocab_size)
n = count_params(size)
ignorance = math.log(size.vocab_size)
print(f"vocabulary {size.vocab_size:,}: knowing nothing costs {ignorance:.2f} nats a token")
print(f"parameters: {n.body:,} in the body + {n.embedding:,} in the embedding")

# %% [markdown]
# Put numbers in the place of `None`. They are written beside the run before it starts, and the first ones stay: a prediction made after the result is none. At the end each is compared with what the run wrote in its manifest.

# %%
guess_loss = None  # held-out loss at the end [nats a token]
guess_tokens_per_sec = None  # training speed of this machine
guess_mfu = None  # share of its peak arithmetic that the model's own products use, 0 to 1
guess_hours = None  # of one A100, to train the `50m` model on 5 billion tokens

predicted = check.save_predictions(
    folder,
    loss=guess_loss,
    tokens_per_sec=guess_tokens_per_sec,
    mfu=guess_mfu,
    hours=guess_hours,
)
print(predicted)

# %% [markdown]
# 🇪🇸 Apunta tus cuatro números antes de seguir. Se guardan junto al entrenamiento y ya no cambian: una predicción hecha después de ver el resultado no vale. Como referencia, una red que no sabe nada paga por cada token el logaritmo del tamaño del vocabulario.

# %% [markdown]
# ## Cost
#
# A token that is trained on passes forward once and backward at about twice the price. Each weight of a matrix product then costs 2 + 4 = 6 operations a token. Attention adds 12 × layers × width of the heads × sequence length. The output head counts, since it is a product; the embedding lookup does not. This is the convention of the PaLM paper, and we keep to it.

# %% tags=["nbval-check-output"]
heads_width = size.n_heads * size.head_dim
attention = 12 * size.n_layers * heads_width * config.window
flops_per_token = 6 * n.matmul + attention
assert flops_per_token == economics.flops_per_token(size, config.window, "palm")
share = attention / flops_per_token
print(f"{flops_per_token / 1e6:.1f} MFLOP a token, {share:.0%} of it attention")

# %% [markdown]
# The bill is the simplest product in the course: hours that are billed times the price of one. `hours` is a ceiling, which the trainer holds: start-up, evaluation and export are inside it.

# %%
config = replace(config, after_hours=ladder_minutes / 60)  # billed too, so set aside with it
billed_hours = config.hours + config.after_hours
print(f"{config.hours:g} h of training + {ladder_minutes:g} min of measuring, at most,")
print(f"at {usd_per_hour:.2f} US dollars an hour: {billed_hours * usd_per_hour:.2f}")

# %% [markdown]
# All labs share one account, `ledger.jsonl`, and one cap of 50 US dollars. This plan is set aside under it, and besides a twentieth of the hours, in case the machine is lost and the run must start again, and 10% of it all. A plan that does not fit is refused here, with the price and the hours that would. In the run the trainer meters itself and stops in time; outside it, a watchdog ends one that hangs. On a laptop the price is 0, and the path is the same.
#
# **What nobody counts by itself:** hours in which the machine stands idle after this notebook. They are billed until *you* end it.

# %%
print(launch.check_budget(config))

# %% [markdown]
# 🇪🇸 Cada peso que interviene en un producto cuesta seis operaciones por token: dos hacia delante y cuatro hacia atrás. A eso se suma la atención. La factura es aún más sencilla: horas por precio, con un techo que el propio programa respeta. Lo que nadie cuenta por ti son las horas en que la máquina, ya sin trabajo, sigue encendida: apagarla te toca a ti.

# %% [markdown]
# ## Run
#
# Now it starts, as a process of its own. Close this notebook, kill its kernel, shut the terminal: the run goes on. Run the notebook again and it attaches; if the machine went down, it resumes from the last checkpoint, to the same bits. A run that is finished is simply shown.

# %%
run = launch.start(config)

# %% [markdown]
# ### While it trains: read it
#
# The program that trains is one file, `x1lib/train.py`, and an evening is enough for it. Here are its pieces in the order in which a step uses them, each with a small try on the real text, so that no variable stays in the dark. (The tries take one thread, to leave the others to the run.)
#
# **A batch is a function of its number.** Sample 0 of seed 0 is the same window of text on every machine and after every crash. There is no shuffling buffer whose contents could be lost.

# %%
torch.set_num_threads(1)
shards, tok = launch.open_text(config)
rows, sample_ids = shards.batch(0, 2, config.window, config.seed)
rows = torch.from_numpy(rows)[:, :129]  # short tries; the run takes whole windows
inputs, targets = train.pair(rows, "cpu")
print(f"samples {sample_ids}: inputs {[*inputs.shape]}, targets {[*targets.shape]}")
print("reads   ", repr(tok.decode(inputs[0, :24])))
print("predicts", repr(tok.decode(targets[0, :24])))

# %% [markdown]
# The targets are the inputs moved by one. So each window of text holds as many little exams as it has tokens, all marked in one pass.
#
# **Attention** lets each position look back. Queries and keys are normalised (QK-norm), then rotated by their position, then compared. There are fewer key/value heads than query heads; they are shared.

# %% tags=["nbval-check-output"]
Code(train.Attention, train.rotate)

# %% [markdown]
# **A block** adds two corrections to the running sum of vectors `x`, the residual stream: what attention found, then what the MLP made of it. Each reads a normalised copy and adds to the original, so that gradients have a straight way back.

# %% tags=["nbval-check-output"]
Code(train.MLP, train.Block)

# %% [markdown]
# **The model** looks the tokens up, lets the blocks add to them, and compares the result with every row of the same table. Look for three things: the products run in the short `dtype`, logits and softmax in float32, and the padded rows of the vocabulary are cut off before the softmax.

# %% tags=["nbval-check-output"]
Code(train.GPT.forward)

# %% [markdown]
# Here it is before its first step. It should know nothing, and nothing costs the logarithm of the vocabulary.

# %%
model = train.GPT(config, size.vocab_size)
padding = size.d_model * (size.padded_vocab_size - size.vocab_size)
assert sum(p.numel() for p in model.parameters()) == n.total + padding
with torch.no_grad():
    logits, loss = model(inputs), model(inputs, targets)
print(f"logits {[*logits.shape]}: at each position, a score for each token there is")
print(f"loss {loss:.3f} nats a token; the logarithm says {ignorance:.3f}")
assert math.isclose(loss, ignorance, rel_tol=0.05)

# %% [markdown]
# **Gradients.** A batch too large for memory goes through in parts, and each part counts by its share. The loss that is logged is the mean over all of them, and the norm is the one before clipping. `differentiate` in the file only fetches the batch and calls this.

# %% tags=["nbval-check-output"]
Code(train.gradients)

# %%
params = list(model.parameters())
whole = train.gradients(model, params, rows, micro_batch=2, clip=1.0)
model.zero_grad()
parts = train.gradients(model, params, rows, micro_batch=1, clip=1.0)
for name, (one_loss, norm) in {"in one pass": whole, "in two parts": parts}.items():
    print(f"{name:<12} loss {one_loss:.6f}, gradient norm {norm:.6f}")
assert np.allclose(whole, parts, rtol=1e-4)

# %% [markdown]
# **The optimiser** is AdamW in two groups. Only the matrices inside the blocks are pulled towards zero; the table of tokens and the norms are not.

# %% tags=["nbval-check-output"]
Code(train.make_optimizer, train.update)

# %% [markdown]
# **The learning rate** is a peak times a multiplier that depends on the step alone: it warms up, stays constant, then cools down towards zero. Most of the last drop in loss comes in that cooldown. Look for it in the curve.

# %% tags=["nbval-check-output"]
Code(Schedule.multiplier)

# %% [markdown]
# **The loop** is all that is left. A signal may arrive at any moment, so weights, counters and records change together or not at all. `review_pace` is the word with the clock: where the machine slows down, the cooldown starts earlier, and the run still ends inside its hours.

# %% tags=["nbval-check-output"]
Code(train.loop)

# %% [markdown]
# 🇪🇸 Mientras entrena, léelo: un lote es una función de su número; cada bloque suma dos correcciones a un mismo vector; la pérdida inicial es el logaritmo del vocabulario; y el gradiente de un lote partido en trozos es el mismo que el del lote entero. No hay más piezas.

# %% [markdown]
# ### Watch
#
# In the lines below, the number of steps can move while it runs: hours are the ceiling, the machine may be busy, and the trainer decides the end again when its clock says so.

# %%
_ = launch.follow(run, draw=lab00.live)

# %% [markdown]
# 🇪🇸 El entrenamiento vive en su propio proceso: puedes cerrar el cuaderno, matar el núcleo o apagar la terminal, y seguirá. Al ejecutar de nuevo el cuaderno te enganchas a él, lo reanudas si murió, o ves el resultado si ya terminó. Fíjate en la tasa de aprendizaje: sube, se mantiene y al final baja hasta cero.

# %% [markdown]
# ## Load
#
# From here on the notebook reads only what the run wrote: `metrics.jsonl`, one line a step, and `manifest.json`, which says what was run, on what, and with which result.

# %%
manifest = tracking.Manifest(folder).values
steps = tracking.read_metrics(folder, "step")
events = tracking.read_metrics(folder, "event")
machine, plan = manifest["machine"], manifest["plan"]
for name in ("device_name", "dtype", "attention", "compile", "threads"):
    print(f"{name:<12} {machine[name]}")
batch = plan["batch_size"] * config.window
print(f"{len(steps):,} steps of {batch:,} = {manifest['tokens']:,} tokens")
assert steps[-1]["tokens"] == manifest["tokens"]
assert manifest["flops_per_token"] == flops_per_token

# %% [markdown]
# You gave no learning rate and no batch size. The trainer guessed how many tokens the hours hold, took the batch from Step Law (Li et al. 2025), a fit over many training runs, timed a few steps of it, and took the rate for the tokens that would really fit. **Doubt:** those were far larger models, so here the law extrapolates. Two guards stand beside it: no rate above 0.01, which we measured to be worse for this model, and never fewer than 8 sequences a step, since thin matrix products waste the machine.

# %%
decided = [event for event in events if event["event"] == "plan"][-1]
D = decided["schedule"]["knots"][-1][0] * batch
law_lr = planning.step_law_lr(manifest["n_params"]["body"], D)
law_batch = planning.step_law_batch_tokens(D)
print(f"for {D:,} tokens the law, guarded: lr {law_lr:.2e}; batch {law_batch:,.0f} tokens")
print(f"the run took: lr {plan['lr']:.2e}, batch {batch:,} tokens")
assert config.lr or config.branch_from or math.isclose(plan["lr"], law_lr, rel_tol=1e-9)

# %% [markdown]
# Every other choice came from somewhere too. Nobody derives these numbers; people inherit them. The last column says why each may be wrong for you.

# %%
recipe.settings_table(manifest)

# %% [markdown]
# 🇪🇸 Desde aquí solo leemos lo que el entrenamiento dejó escrito. La tasa de aprendizaje y el tamaño del lote no los elegiste tú: salen de una ley ajustada con modelos mucho mayores, así que a esta escala conviene mirarla con cierta desconfianza.

# %% [markdown]
# ## Figure

# %%
lab00.curve(folder)

# %% [markdown]
# The left end of the curve is your first check of any run: before the first step the held-out loss must be the logarithm of the vocabulary's size. If it is not, the initialisation or the loss is wrong, and no training will tell you.

# %%
before = lab00.evaluations(folder, "documents")[0]["loss"]
expected = math.log(manifest["shape"]["vocab_size"])
print(f"before the first step: {before:.3f} nats a token; expected {expected:.3f}")
assert math.isclose(before, expected, rel_tol=0.03)  # random logits are small, not zero
print(f"at the end, held out: {manifest['val_loss']:.3f} nats a token")

# %% [markdown]
# 🇪🇸 Antes del primer paso, la pérdida debe coincidir con el logaritmo del vocabulario; si no coincide, hay un error y más vale encontrarlo ya. Después baja deprisa, se aplana, y vuelve a bajar cuando la tasa de aprendizaje se enfría.

# %% [markdown]
# ## Samples
#
# A loss is an average. To see what it means, let the model write: the same openings, the same random seed, before the first step and after the last. `<|endoftext|>` is the mark that stands between documents.

# %%
samples = tracking.read_metrics(folder, "sample")
for step in sorted({sample["step"] for sample in samples}):
    print(f"--- after {step:,} steps")
    for sample in samples:
        if sample["step"] == step:
            print(sample["text"].strip())

# %% [markdown]
# Spelling comes first, then short words and punctuation, then the manner of the text it read. Sense comes last, and not in minutes.
#
# 🇪🇸 Primero llegan la ortografía y las palabras cortas; después, el tono de los libros que ha leído. El sentido es lo último que se aprende, y no cabe en unos minutos.

# %% [markdown]
# ## Against xz
#
# Nats per token depend on the tokeniser: longer tokens cost more each, and there are fewer. Bits per byte do not. They are the sum of all nats, divided by ln 2 and by the number of UTF-8 bytes that those tokens stand for. We recover exactly that text from the held-out tokens, and hand it to `xz`.


# %%
def heldout_text(name: str) -> bytes:
    ids = shards.heldout(name)
    return tok.decode(ids[ids != tok.eot_id]).encode()


def xz_bytes(text: bytes) -> int:
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))  # what `xz -9e` does


# %%
xz = {}
for name, result in manifest["heldout"].items():
    text = heldout_text(name)[: result["n_bytes"]]
    ids = shards.heldout(name)[: result["n_tokens"] + 1]
    assert len(text) == tok.token_bytes[ids].sum()  # the bytes that bits per byte counts
    xz[name] = 8 * xz_bytes(text) / len(text)
    print(f"{lab00.LABELS[name]}, {len(text):,} bytes, in bits per byte:")
    print(f"    xz {xz[name]:.3f}, model {result['bits_per_byte']:.3f}")

# %% [markdown]
# When did it pass `xz`? The run evaluated itself now and then, so the crossing is known between two evaluations and no better. On the way it read the beginning of the held-out text only; `xz` gets that same beginning here, and does worse on it, because a shorter text repeats less.

# %%
evals = lab00.evaluations(folder, "documents")
n_bytes = evals[0]["n_bytes"]
xz_same = 8 * xz_bytes(heldout_text("documents")[:n_bytes]) / n_bytes
under = next((e for e in evals if e["bits_per_byte"] < xz_same), None)
if under is None:
    print("the model did not pass xz before its last evaluation")
else:
    last = evals[max(0, evals.index(under) - 1)]
    print(f"after {last['elapsed_seconds']:.0f} to {under['elapsed_seconds']:.0f} s,")
    print(f"that is after {last['tokens']:,} to {under['tokens']:,} tokens")
lab00.against_xz(folder, xz_same)

# %% [markdown]
# **Is that fair?** The model has read a library and `xz` started blank. So let `xz` read too: compress a few megabytes of the training text with the held-out text behind it, and count only what the second part adds.

# %%
ids = np.load(shards.folder / shards.blocks[0]["file"])
read = tok.decode(ids[ids != tok.eot_id]).encode()[-4_000_000:]
text = heldout_text("documents")
xz_read = 8 * (xz_bytes(read + text) - xz_bytes(read)) / len(text)
print(f"xz after reading {len(read) / 1e6:.1f} MB: {xz_read:.3f} bits/byte")
print(f"xz blank {xz['documents']:.3f}, model {manifest['bits_per_byte']:.3f}")

# %% [markdown]
# Reading helps `xz` as well. What it cannot do is use a phrase that is *like* one it knows. The comparison still favours the model: its weights are not counted as part of the code, its tokeniser was made from text like this, and it may have read more than `xz` did just now.
#
# 🇪🇸 Si a `xz` también le dejamos leer, mejora bastante. Lo que no sabe hacer es aprovechar una frase parecida a otra; solo le sirven las idénticas. Y seamos justos: en esta cuenta no entran los pesos del modelo, que también habría que enviar.

# %% [markdown]
# ## Tokens per parameter
#
# Hoffmann et al. (2022) found that a compute-optimal model sees about 20 tokens for each parameter. But which parameters? They counted all of them; Kaplan et al. (2020) left the embedding out. For a small model the difference is large, so every ratio in this course says which it means.

# %%
D, counts = manifest["tokens"], manifest["n_params"]
for name in ("body", "total"):
    print(f"{D / counts[name]:6.2f} tokens per parameter, {name} = {counts[name]:,}")
there_are = manifest["data"]["n_tokens"]
print(f"{D / there_are:6.2f} passes over the {there_are:,} tokens there are")

# %% [markdown]
# 🇪🇸 «Veinte tokens por parámetro» solo significa algo si se dice qué parámetros se cuentan. En un modelo pequeño la tabla de embeddings pesa mucho, y las dos cuentas dan resultados muy distintos.

# %% [markdown]
# ## MFU
#
# Model FLOPs utilisation is tokens per second times FLOPs per token, divided by the peak of the machine. The numerator is the arithmetic that the model needs, whatever was done in fact. For a GPU the peak is on the data sheet; for a CPU the run measured it.

# %%
rate, peak = manifest["tokens_per_sec"], manifest["peak_flops_per_sec"]
if rate:
    assert math.isclose(rate * flops_per_token / peak, manifest["mfu"], rel_tol=1e-9)
    print(f"{rate:,.0f} tokens/s x {flops_per_token / 1e6:.1f} MFLOP", end=" ")
    print(f"/ {peak / 1e9:,.0f} GFLOP/s = {manifest['mfu']:.1%}")
print(f"peak {manifest['peak_source']}")

# %% [markdown]
# The same run under other conventions. None is wrong; an MFU without its convention's name is.

# %%
model = Shape(**manifest["shape"])
for convention, meaning in economics.CONVENTIONS.items():
    flops = economics.flops_per_token(model, config.window, convention)
    share = f"{rate * flops / peak:6.1%}" if rate else "not measured"
    print(f"{convention:<7} {share}  {meaning}")

# %% [markdown]
# ### The ladder
#
# Where does that share come from? We climb to it, one change at a time: plain PyTorch in float32; products in bf16; `torch.compile`; attention that never keeps the whole square of scores; a vocabulary padded to a multiple of 128. Each rung computes the same loss on the same batch and takes its turns with the others, so that a busy moment hits them all. A rung that does nothing on this machine says so.

# %%
if ladder_minutes:
    wanted = ladder.Settings(
        out=str(folder / "ladder"),
        shape=config.shape,
        tokenizer=words.name,
        seq_len=config.window,
        batch_tokens=batch,
        peak_flops_per_sec=peak,  # the run's, so that both MFUs compare
        minutes=ladder_minutes,
    )
    with launch.metered(config, ladder_minutes, "the ladder"):
        climbed = ladder.measure(wanted, log=launch.say)
else:
    print("ladder_minutes is 0: nothing is measured")

# %%
ladder_figures.rungs(folder / "ladder") if ladder_minutes else None

# %% [markdown]
# And inside one step? A profiler writes down every operation. What is not a matrix product is the price of everything else.

# %%
ladder_figures.trace(folder / "ladder") if ladder_minutes else None

# %% [markdown]
# 🇪🇸 El MFU dice qué parte de la potencia de la máquina se dedica a lo que el modelo necesita de verdad. Cambia según lo que se cuente, así que un MFU sin el nombre de su convención no informa de nada. La escalera muestra de dónde sale: cada peldaño es un solo cambio, medido aquí mismo.

# %% [markdown]
# ## A day of an A100
#
# The same arithmetic says what this notebook would do in 24 hours on one rented A100. Nothing here is measured: the MFU is an assumption, 0.45, and the price, 1.10 US dollars an hour, is the one this course was planned with. Put your own.

# %% tags=["nbval-check-output"]
gpu, assumed_mfu, window, usd = "A100-80GB-SXM", 0.45, 1024, 1.10
useful_flops_per_sec = assumed_mfu * economics.GPUS[gpu].bf16_flops_per_sec
seconds_per_token = economics.flops_per_token("50m", window) / useful_flops_per_sec
day_tokens = 24 * 3600 / seconds_per_token
hours_5b = 5e9 * seconds_per_token / 3600
by_6nd = 6 * 50e6 * 5e9 / useful_flops_per_sec / 3600
print(f"{1 / seconds_per_token:,.0f} tokens/s, {day_tokens / 1e9:.1f}B tokens a day")
print(f"5B tokens take {hours_5b:.1f} h; by 6ND with N = 50M it would be {by_6nd:.1f} h")
assert math.isclose(hours_5b, 6.1, rel_tol=0.01)

# %% [markdown]
# Half of the work is missing from 6ND, because a name is no count: `50m` leaves out the output head and attention. Here are the three plans that can honestly be made for one card and one day.

# %% tags=["nbval-check-output"]
plans = [
    day.Day("50m, 5B tokens", "50m", 5e9),
    day.Day(f"50m, {day_tokens / 1e9:.1f}B tokens", "50m", day_tokens),
    day.Day("240m, 5B tokens", "240m", 5e9),
]
rows = []
for one in plans:
    count, took = count_params(one.shape), one.hours(assumed_mfu, window, gpu)
    ratios = f"{one.n_tokens / count.body:.0f} / {one.n_tokens / count.total:.0f}"
    rows.append((one.label, f"{took:.1f}", f"{took * usd:.2f}", ratios))
Table(("plan", "hours", "US dollars", "tokens per parameter, body / total"), rows)

# %% [markdown]
# The first is quick and leaves money for a second try. The second trains a small model far past 20 tokens per parameter: a good choice if you will serve it for long. The third sees about 20 tokens per parameter, by Hoffmann's count, and fills most of the day. Drag the MFU: where does your day end?

# %%
day.plans(plans, assumed_mfu, window, gpu, usd)

# %% [markdown]
# 🇪🇸 Con la misma aritmética se calcula un día de A100. Hay tres planes honestos: terminar pronto y repetir, entrenar de más un modelo pequeño que luego saldrá barato de servir, o llenar el día con el modelo grande. Ninguno es el mejor en abstracto; depende de para qué lo quieras.

# %% [markdown]
# ## Verdict
#
# Your predictions, as they were saved before the run, beside what it measured.

# %%
check.guess(predicted["loss"], manifest["val_loss"], within=1.1, name="held-out loss")
check.guess(predicted["tokens_per_sec"], rate, within=2.0, name="tokens per second")
check.guess(predicted["mfu"], manifest["mfu"], within=1.5, name="MFU")
check.guess(predicted["hours"], hours_5b, within=1.5, name="hours of an A100")

# %% [markdown]
# If you did lab01 first, its law said what this run would lose, with an interval, and sealed it before the run began. A law is tested by a run that it has not seen.

# %%
check.tell_sealed(folder, manifest)

# %%
rivals = {f"xz on the {lab00.LABELS[name]}": (bits, name) for name, bits in xz.items()}
rivals["xz after reading"] = (xz_read, "documents")
for who, (bits, name) in rivals.items():
    gain = bits / manifest["heldout"][name]["bits_per_byte"]
    verdict = "the model wins" if gain > 1 else "xz wins: give the model more hours"
    print(f"{who} needs {gain:.2f} times the model's bits; {verdict}")

# %% [markdown]
# 🇪🇸 Compara lo que dijiste con lo que ocurrió. Si te equivocaste por mucho, busca qué factor se te escapó: la velocidad de la máquina, las operaciones por token o lo que de verdad cuesta aprender.

# %% [markdown]
# ## Exercises
#
# Put your answer in the place of `None` and run the cell. A wrong one gets a hint; the solutions are folded.
#
# **lab00.1 ●○○, 5 minutes.** The `50m` model spends part of its FLOPs outside its body: in the output head and in attention. Which share of all of them, at a window of 1,024?

# %% tags=["nbval-check-output"]
share_beyond_body = None  # 0 to 1

check.answer("lab00.1", share_beyond_body)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `1 - economics.flops_per_token("50m", 1024, "kaplan") / economics.flops_per_token("50m", 1024)`: nearly half. `palm` counts all of them, `kaplan` the body alone.
#
# </details>
#
# **lab00.2 ●●○, 10 minutes.** How long must a window be for attention to cost this run's model as much as all its other products together?

# %% tags=["nbval-check-output"]
window_of_equal_cost = None  # tokens

check.answer("lab00.2", window_of_equal_cost, shape=size)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `6 * n.matmul / (12 * size.n_layers * heads_width)`: where 6 × the parameters in products equals 12 × layers × width of the heads × window. Beyond it, a longer context is what you pay for.
#
# </details>
#
# **●●●, an evening.** Run the notebook again with `seed = 1`, and then with `lr = 0.005` and `seed = 0`. Is the change of learning rate larger than the change of seed? Write down your answer before you look; the finished runs are kept side by side, so you can compare their manifests.
#
# 🇪🇸 Los dos primeros ejercicios se corrigen solos. El tercero es el importante: antes de creer que un cambio mejora algo, mide cuánto cambia el resultado al cambiar solo la semilla.

# %% [markdown]
# ## Limits
#
# - **One seed.** Another seed gives another last digit. Whether a change of settings helps is decided over several.
# - **Held out is not foreign, and small.** The held-out documents are one in a hundred by number. Of the embedded text that is 0.1 MB, most of it short Wikipedia introductions like those in training; there a whole book was kept away as well, and it is the steadier figure.
# - **Seconds belong to the machine.** Speed, MFU, the crossing and the number of tokens that fit are of this machine on this day. Losses compare at equal tokens.
# - **A small run.** The samples show manner, not knowledge.
# - **The A100's day is computed.** Until you rent one, its MFU is somebody else's.

# %% [markdown]
# 🇪🇸 Una sola semilla, un texto de la misma familia y una máquina concreta: los segundos son suyos, y las pérdidas solo se comparan a igual número de tokens.

# %%
hours_used = manifest["wall_clock_seconds"] / 3600
artefacts = ", ".join(sorted({name.split("/")[0] for name in manifest["artefacts"]}))
print(f"status: {manifest['status']}")
print(f"you have: {artefacts} in {launch.shown(folder)}")
cost = (
    f"{manifest['usd']:.2f} US dollars" if manifest["usd"] is not None else manifest["usd_status"]
)
print(f"the run cost: {hours_used:.3f} h, {cost}")
rehearsed = "notebook 01: how large should the model be? And this page with ten times the hours"
print(f"next: {rehearsed if config.hours < 2 else 'this log beside published ones, and a price'}")
