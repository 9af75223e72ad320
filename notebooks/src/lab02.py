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
# # Lab 02: the post-mortem of a loss spike
#
# ## Question
#
# A loss that fell for hours jumps within a step. Was it a bad batch, or is the model damaged? Skip the data, cut the rate, or go on? On a large run every hour of doubt is paid for on every card, and whoever acts first never learns what the cause was.
#
# Here a run resumes to the same bits. So a spike can be *rewound*: every recovery starts from one state, beside an untouched control. **What caused this spike, and which recovery does more than chance?**
#
# Notebook `04` is the theory. Allow 60 minutes; about five are the machine's.

# %% [markdown]
# 🇪🇸 La pérdida bajaba poco a poco y, en un solo paso, da un pico. ¿Fue un lote malo o se ha dañado el modelo? Como aquí un entrenamiento se reanuda bit a bit, podemos rebobinar hasta antes del pico y probar cada remedio desde el mismo estado, junto a un control que no se toca. Primero las pruebas, después tu diagnóstico por escrito y solo al final la respuesta.

# %%
from x1lib import check, launch, tracking
from x1lib.economics import flops_per_token
from x1lib.figures import Table, lab00, lab02
from x1lib.postmortem import CURES, analyse, better, lab, recover, tables, write
from x1lib.stability import RULES, detect

# %% [markdown]
# ## Parameters
#
# Did a run of yours spike? Then it is the patient: its folder, or its id in mlflow. With `run` empty, `lab00`'s run is looked at first. If it did not spike, or keeps no state from before, a small run is trained with a fault that is drawn at random and hidden. Its case stays until you give another number.

# %% tags=["parameters"]
run = ""  # your run that spiked: folder or mlflow id; empty: lab00's, else one is made
case = 0  # number of a made run's hidden cause; 0: drawn at random, and kept
shape = "2x96:3/3:256"  # model of a made run: LAYERSxWIDTH:HEADS/KV_HEADS:FF
seq_len = 128  # of a made run [tokens a sequence]
batch_tokens = 1024  # of a made run [tokens a step]
steps = 240  # of a made run [steps]
cures = ""  # recoveries to try, with commas; empty: all
hours = 0.25  # ceiling on a made run [hours]
replay_minutes = 10.0  # time set aside for the replays, billed too [minutes]
usd_per_hour = 0.0  # price of this machine [US dollars an hour]
out = ""  # folder of the page and of a made run; empty: experiments/X1-pretraining
open_seal = False  # True: show the cause though no diagnosis was written, which spoils the case

# %%
settings = lab.configure(
    globals(),
    "run case shape seq_len batch_tokens steps cures hours replay_minutes usd_per_hour out open_seal",
)
bench = lab.open_bench(settings, log=launch.say)

# %% [markdown]
# A hidden cause is worth nothing if it could be changed afterwards. So its text was hashed (sha256) before anything ran, and the reveal must fit. It stands in the run's own settings; this page does not show it, and you should not look.
#
# 🇪🇸 Si tu propio entrenamiento tuvo un pico, ese es el paciente. Si no, se entrena uno pequeño con un fallo elegido al azar y oculto; su huella se publica antes de empezar, para que nadie pueda cambiar la respuesta después.

# %% [markdown]
# ## Predict
#
# Before anything runs, two numbers. The *probe* is a fixed batch of held-out text that is read after each update, so it shows the model and not the luck of the batch.

# %%
guess_untouched = None  # probe above its old level 40 steps after the spike, nothing done [nats]
guess_noise = None  # by how much leaving out one innocent batch moves that number [nats]

predicted = lab.write_down(bench, untouched=guess_untouched, noise=guess_noise)
print(predicted)

# %% [markdown]
# 🇪🇸 Antes de ejecutar nada, dos números: cuánto daño queda a los cuarenta pasos si no se hace nada y cuánto cambia ese número por puro azar. Lo segundo decide si lo primero significa algo.

# %% [markdown]
# ## Cost
#
# Replays are training. Each begins at the checkpoint before the spike and ends forty steps after it; besides the recoveries there are three placebos and a table of four cells. Together they train the run again several times over: on a run of millions that is what a post-mortem costs, and why one picks two recoveries and not eleven.

# %%
n_replays = len({"untouched", *settings.names}) + 3
n_steps = 80 * n_replays + 4 * 12 + 100  # about 80 each; the table; looking at the spike
flops = flops_per_token(bench.config.shape, bench.config.window)
print(f"{n_replays} replays, about {n_steps:,} steps; the run itself: {bench.config.steps:,}")
if bench.is_made:
    print(f"{n_steps * batch_tokens * flops:.1e} FLOPs")
    print(launch.check_budget(bench.config))

# %% [markdown]
# 🇪🇸 Repetir es entrenar: con todos los remedios se entrena de nuevo varias veces el tramo entero. Por eso, en un entrenamiento caro, se eligen dos remedios y no once.

# %% [markdown]
# ## Run
#
# A made run is trained now, by the same detached trainer as every run of this course, with `on_spike = record`: it watches its own loss and gradient norm, and at a flag it keeps the checkpoints before it from being deleted. Run the cell again and it attaches, resumes or shows what is finished.

# %%
if bench.is_made:
    launch.make_room(bench.config)
    launch.follow(launch.start(bench.config), draw=lab00.live)
else:
    print(f"nothing is trained: {bench.folder.name} is there")

# %% [markdown]
# 🇪🇸 El entrenamiento vigila su propia pérdida y la norma del gradiente. Cuando algo se dispara, conserva los puntos de control anteriores para que se pueda volver atrás.

# %% [markdown]
# ## Load
#
# ### What the run recorded
#
# First only what was written while nobody looked: loss, gradient norm, rate, and the probe where it was read. Ask two things of it. **Which left first**, the loss or the norm? And **how long** did it last: as many steps as a batch, or as long as a wound heals?

# %%
lines = tracking.read_metrics(bench.folder, "step")
loss = [line["loss"] for line in lines]
seen_at = lab.spike_of(bench)
lab02.record(bench.folder, around=seen_at)

# %% [markdown]
# ### Would others have seen it?
#
# The rules by which published runs were watched, on this loss. Some look back over a thousand steps: made for long runs, they say nothing in a short one.

# %%
flagged = {name: [lines[i]["step"] for i in detect(loss, name)] for name in RULES}
rows = [(name, len(at), ", ".join(map(str, at[:8])) or "-") for name, at in flagged.items()]
Table(("rule", "flags", "the first, by step"), rows)

# %% [markdown]
# 🇪🇸 Primero, solo lo que quedó escrito: qué se movió antes, la pérdida o la norma, y cuánto duró. Algunas reglas publicadas necesitan mil pasos de historia; en un entrenamiento corto no ven nada.

# %% [markdown]
# ### Rewound
#
# Now the run goes back to a checkpoint before the spike and takes the same steps again, measured closely. Is it the same run? Every loss and gradient norm must equal the record **to the bit**; else what follows would be about another run.

# %%
found = analyse(bench.folder, seen_at, cures=(), log=lambda line: None)
at = found.incident
print(f"rewound to step {at.start:,}; it begins at step {at.onset:,}")
same = "equal to the bit" if found.is_exact else "NOT equal: what follows holds within rounding"
print(f"{found.n_compared} steps compared with the record: {same}")
assert found.is_exact or not bench.is_made

# %% [markdown]
# Four views of the same steps. Above on the left, the batch's loss against the probe: a bad batch raises the one, a damaged model both. On the right, how far the weights moved against the rate that was logged. Below, whether the second moment still fits the gradient, and what the batch was made of: *order* is what knowing the token before saves, in bits.

# %%
lab02.clues(found)

# %% [markdown]
# The figures, each beside the most that it was in the calm steps before. The last two are small experiments. *Excess*: the suspect batch, forward only, at weights that have not met it. *Other batches*: the same state, trained on text from much later.

# %%
Table(tables.CLUES_HEAD, tables.clues(found))

# %% [markdown]
# ### The batch
#
# Its tokens by how frequent they are in the corpus (a batch like the corpus has a tenth in each), and its worst samples, decoded where the text may be shown.

# %%
lab02.tokens(found)

# %%
print(f"step {found.detail.step:,}: samples by loss, the worst three")
for sample in found.detail.worst:
    print(f"{sample['loss']:6.2f} nats  {sample.get('text', '(not shown)')[:110]!r}")
print(f"median {sorted(found.detail.sample_losses)[len(found.detail.sample_losses) // 2]:.2f} nats")

# %% [markdown]
# 🇪🇸 Al rebobinar, cada pérdida coincide bit a bit con lo registrado: es el mismo entrenamiento. Mira cuatro cosas: si se dañó el modelo o solo el lote, si los pesos se movieron más de lo que dice la tasa, si el segundo momento se quedó atrás y de qué está hecho el lote.

# %% [markdown]
# ## Your diagnosis
#
# Write it down now: until a cause stands here the seal stays closed, and after the reveal nothing is taken. (On the page as you got it, its author's words, who had met this case before.) What each cause would leave behind:
#
# - `rare-token`: tokens hardly ever trained. The batch is hard, its tokens are of the last tenth, the model is fine.
# - `corrupt-data`: shuffled, random or repeated tokens. The batch is hard and its order is gone.
# - `lr-too-high`: updates as many times too large as the rate was, logged or not.
# - `adam-beta2`: after a quiet stretch the gradient steps up, and a slow second moment divides by too little.
# - `unknown` is an answer, too.

# %%
diagnosis = None  # "rare-token", "corrupt-data", "lr-too-high", "adam-beta2" or "unknown"
why = None  # in a sentence: the figure that convinced you

written = lab.write_down(bench, cause=diagnosis, why=why)
print(written)

# %% [markdown]
# ### Your recovery
#
# Choose one, and say how much lower than the untouched control the probe will be at the end, forty steps after the spike. Then they are all tried.

# %%
Table(("recovery", "what it does"), [(name, cure.does) for name, cure in CURES.items()])

# %%
recovery = None  # one of the names above
guess_gain = None  # how far below the untouched control it ends [nats]

chosen = lab.write_down(bench, recovery=recovery, gain=guess_gain)
print(chosen)

# %% [markdown]
# 🇪🇸 Escribe el diagnóstico ahora: sin él, el sello sigue cerrado, y después de la revelación ya no se acepta. «Desconocida» también es una respuesta. Elige además un remedio y di cuánto crees que ganará frente a no hacer nada.

# %% [markdown]
# ## The replays
#
# Three kinds beside the recoveries keep them honest. The **untouched** control must equal the record to the bit, or the comparison is void. **Placebos** leave out innocent batches: how far they end from the control is what chance alone does. And a **2 × 2** of state and data, below, asks the main question directly. What was replayed is kept; running this cell again reads it.

# %%
with launch.metered(bench.config, replay_minutes, "the replays"):
    recover(found, settings.names, store=bench.evidence / lab.OUTCOMES, log=launch.say)
equal, compared = tables.control_equals_record(found)
print(f"untouched: {equal} of {compared} steps equal the record to the bit")
assert equal == compared or not bench.is_made
for name, reason in found.not_tried.items():
    launch.say(f"{name} was not tried: {reason}")

# %%
lab02.recoveries(found, chosen["recovery"])

# %%
Table(*tables.outcome_rows(found, chosen["recovery"]))

# %% [markdown]
# *Probe at most* and *at the end* are nats above its level before the spike; *held-out* is the loss of held-out text at the last step. Tokens lost are those trained again from the checkpoint, or skipped, and those until the probe is back. The control rewinds nothing, so it loses only the way back.
#
# **Careful:** a cut rate and a tight clip dampen *every* spike. That they helped says nothing about the cause. A recovery names a cause only if the others fail.

# %% [markdown]
# ### Data or state?
#
# The checkpoint before, and the state at the spike, each on the spike's batches and on others, for twelve steps. In each cell: how much harder the first batch is than usual ones for that state, and how far the probe then rises.

# %%
cells = found.two_by_two
rows = []
for state, words in (("old", "checkpoint before"), ("spike", "state at the spike")):
    pair = [cells[f"{state}, {data}"] for data in ("spike", "other")]
    rows.append((words, *(f"{one['excess']:+.2f}, then {one['rise']:+.2f}" for one in pair)))
Table(("[nats]", "the spike's batches", "other batches"), rows)

# %% [markdown]
# If the first *column* is high, it is the data, whatever the state. If the lower *row* is high, it is the state, whatever the data. PaLM's authors found neither alone: their batches made no spike from an older checkpoint, so it took that state *and* those batches. A schedule's slip counts as state: the state holds the step's number, and from a checkpoint further back than twelve steps the upper row ends before the slip.
#
# 🇪🇸 Tres comparaciones: el control sin tocar, que debe coincidir bit a bit; los placebos, que miden el azar; y la tabla de estado por datos. Bajar la tasa o recortar más el gradiente amortigua cualquier pico, así que su éxito no prueba ninguna causa.

# %% [markdown]
# ## Verdict
#
# If you wrote a cause, the seal is opened: your diagnosis and the classifier's, which saw the same figures and not the settings, beside what was done. If not, it stays closed; write one above, and run this part again.

# %%
truth = lab.reveal(bench)
Table(("who", "said", "and that was"), lab.summary(bench, found, truth))

# %%
print("\n".join(lab.reasons(bench, found)))

# %% [markdown]
# And your numbers, beside what was measured and the noise. A recovery counts as better only if it is so on the probe *and* on the other held-out text: one that trains on text of the probe's kind flatters the probe.

# %%
noise, control = found.noise["end"], found.outcomes["untouched"]
tables.compare("untouched, at the end", predicted["untouched"], control.end, noise)
check.guess(predicted["noise"], noise, within=3.0, name="noise [nats]")
picked = chosen["recovery"]
if picked in found.outcomes:
    tables.compare(f"gain of {picked}", chosen["gain"], tables.gain(found, picked), noise)
else:
    print("no recovery chosen, or it was not tried")
beyond = better(found.outcomes, found.noise)
print(f"below the control by more than noise, probe and held-out: {', '.join(beyond) or 'none'}")

# %% [markdown]
# **Takeaway:** without a control every recovery looks like a success, because most spikes heal by themselves. Look at the row of the untouched run before you praise the one you chose.
#
# 🇪🇸 Casi todos los picos se curan solos. Sin un control al lado, cualquier remedio parece haber funcionado; compara siempre con la fila que no se tocó.

# %% [markdown]
# ## The post-mortem
#
# The page that one hands on: time, steps and samples, cause and evidence, what was tried and what it cost, with two figures. Here is its head, once the seal is open; the whole lies beside the run.

# %%
page = write(found, bench.out, log=launch.say)
print(lab.head(bench, page))

# %% [markdown]
# 🇪🇸 La página que se entrega a quien no estuvo: cuándo y dónde ocurrió, la causa con sus pruebas a favor y en contra, lo que se intentó y lo que costó. Si no cabe en una hoja, todavía no se ha entendido.

# %% [markdown]
# ## Exercises
#
# **lab02.1 ●○○, 5 minutes.** A run of 262,144 tokens a step spikes at step 20,000. It is rewound to the checkpoint of step 19,900 and skips the 200 batches from 19,901 on; the probe is at its old level by then. How many tokens were lost: trained for nothing before the rewind, or read and left out?

# %% tags=["nbval-check-output"]
tokens_lost = None  # tokens

check.answer("lab02.1", tokens_lost)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `(20_000 - 19_900 + 200) * 262_144`: 100 steps were trained and thrown away, and 200 batches are never trained on. 79 million tokens, and the dollars that go with the first third of them.
#
# </details>
#
# **lab02.2 ●●○, 5 minutes.** A 2 × 2 reads, in nats of the probe's rise: old state on the spike's batches 0.02, old state on others 0.01; state at the spike on its batches 0.90, on others 0.85. Data, state, or both together?

# %% tags=["nbval-check-output"]
what_it_was = None  # "data", "state" or "both"

check.answer("lab02.2", what_it_was)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `"state"`: the lower row is high in both columns. With "both", only the cell of that state on those batches would be.
#
# </details>
#
# **●●●, an evening.** Give `case` another number, and do it again until you have diagnosed five. Where you and the classifier disagree, find the figure that decides.
#
# 🇪🇸 El último ejercicio es el que enseña: cambia `case` y diagnostica cinco casos. Cuando no coincidas con el clasificador, busca la cifra que lo decide.

# %% [markdown]
# ## Limits
#
# - **A made cause is a clean one.** Real spikes have two causes, or none of these four. The classifier knows no mixture. Its errors are counted in `experiments/reference/spike-classifier`; how often its "high" is right was not measured.
# - **Small and young.** Half a million parameters heal quickly. What a spike leaves in a large model, this run cannot say.
# - **`adam-beta2` is set up, not waited for.** A long quiet stretch's moments are put in place, and thirty quiet steps follow.
# - **One spike, one seed.** Three placebos are few; a gain of twice their noise is a hint.
# - **Forty steps.** A recovery that costs later, such as a lower rate for good, is not charged for it.

# %% [markdown]
# 🇪🇸 Una causa fabricada es más limpia que las reales, que a veces son dos a la vez. El modelo es pequeño y se cura deprisa, y cuarenta pasos no bastan para ver lo que un remedio cuesta más tarde.

# %%
manifest = tracking.Manifest(bench.folder).values
seconds = manifest.get("wall_clock_seconds") or 0.0
told = "revealed" if lab.is_open(bench) else "sealed: the diagnosis is open"
print(f"status: {manifest['status']}; {len(found.outcomes)} replays; the cause is {told}")
print(f"you have: {page.name} and {bench.evidence.name}/ in {launch.shown(bench.out)}")
usd = manifest.get("usd")
print(f"the run cost: {seconds / 3600:.3f} h, {'no price' if usd is None else f'{usd:.2f} USD'}")
print("next: another case, or what the logs of published runs say about theirs")
