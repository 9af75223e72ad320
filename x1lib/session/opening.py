"""Before step 0: the state to go on from, the text and the machine, each refused if it is wrong."""

from __future__ import annotations

from pathlib import Path

from x1lib import checkpoint, data, runtime, settings, tracking
from x1lib.data.building import FollowedShards, feed
from x1lib.data.sources import SUFFIXES
from x1lib.settings import ConfigError
from x1lib.shapes import resolve

STATE_FORMAT = 1  # of state.json; raise it with every change that an older reader would misread


def own_state(config, log):
    """The run's newest sound checkpoint, or None in a new folder.

    Raises ConfigError naming a setting that is not the one the run was started with.
    """
    out = Path(config.out)
    saved = checkpoint.load_latest(out / "state", log=log)
    trained = 0 if saved else tracking.last_step(out)
    if trained:
        raise checkpoint.CheckpointError(
            f"{out} has the record of {trained:,} steps and no checkpoint: its state is gone; bring"
            " it back, or start again in another --out"
        )
    if saved:
        _check_format(saved)
        for name, (then, now) in settings.differences(saved.state["config"], config).items():
            raise ConfigError(
                f"{name} was {then!r} when this run was started and is {now!r} now; ask for"
                f" {then!r} again, or give another --out with --branch-from {config.out}"
            )
    return saved


def parent_state(config, log):
    """The checkpoint that a branch starts from, and its lineage for the manifest.

    Raises ConfigError when branch_from names none.
    """
    folder, _, step = config.branch_from.partition("@")
    if step and not step.isdecimal():
        raise ConfigError(f"branch_from: step {step!r} is no number; give RUN_FOLDER@STEP")
    step = int(step) if step else None
    saved = checkpoint.load_latest(Path(folder) / "state", step=step, log=log)
    if saved is None:
        raise ConfigError(f"branch_from: {folder} holds no checkpoint; give a run's folder")
    _check_format(saved)
    changed = settings.differences(saved.state["config"], config)
    changed.pop("branch_from", None)
    plan = saved.state["plan"]
    if plan is None:
        raise ConfigError(
            f"branch_from: {folder} has not planned its steps yet; let it train first"
        )
    return saved, {"from": folder, "step": saved.step, "changed": changed, "plan": plan}


def _check_format(saved) -> None:
    found = saved.state.get("format")
    if found != STATE_FORMAT:
        raise checkpoint.CheckpointError(
            f"{saved.path} was written by another version of x1lib (state format {found}, this one"
            f" reads {STATE_FORMAT}); go on with that version, or start in another --out"
        )


def is_prepared(source: str) -> bool:
    """Whether a source is a folder of shards."""
    try:
        return bool(str(source).strip()) and (Path(source) / "index.json").exists()
    except OSError as error:
        raise ConfigError(f"source {source[:40]!r} is no path ({error.strerror})") from error


def tokenizer_name(config) -> str:
    """The tokeniser of a run: the one given, the shards' own, or that of the shape's vocabulary."""
    if config.tokenizer != "auto":
        return config.tokenizer
    if is_prepared(config.source):
        return data.Shards(config.source).tokenizer
    return "bpe4096" if resolve(config).vocab_size == 4096 else "gpt2"


def is_streamed(source: str) -> bool:
    """Whether a source is read as it comes: a name of the Hub, a folder of text, parquet, WARC."""
    return source != "embedded" and not str(source).endswith(SUFFIXES)


def open_data(config, log, known: str | None = None, feeding: bool = False):
    """Return the shards and their tokeniser; text is prepared where it is not yet.

    What is streamed is written by a process of its own, `feeding` says whether one may be started,
    and the shards wait for it; a folder that is still being written is followed in the same way.
    `known` is the folder that a run began with: a data set that has moved on since is not asked.
    Complete shards are verified whole.
    """
    prepared, tokenizer = is_prepared(config.source), tokenizer_name(config)
    if prepared:
        shards = data.Shards(config.source)
    elif not is_streamed(config.source):
        shards = data.Shards(data.prepare(config.source, tokenizer, log=log))
    elif known and is_prepared(known) and (not feeding or data.Shards(known).complete):
        shards = data.Shards(known)
    elif feeding:
        shards, _ = feed(config.source, "plain", tokenizer=tokenizer, log=log)
    else:
        raise data.SourceError(
            f"{config.source} was not written to a folder here; build it with"
            " `python -m x1lib.data build`, and give that folder as --source"
        )
    if shards.tokenizer != tokenizer:
        raise ConfigError(
            f"tokenizer is {tokenizer!r}, but {shards.folder} was made with"
            f" {shards.tokenizer!r}; ask for that one, or for auto"
        )
    if not shards.complete and not isinstance(shards, FollowedShards):
        shards = FollowedShards(shards.folder)
    shards.verify()
    return shards, data.load_tokenizer(shards.tokenizer)


def hear(shards, event) -> None:
    """Record what happens, and has happened, to shards that are followed: event(name, **values)."""
    if isinstance(shards, FollowedShards):

        def tell(one: dict) -> None:
            event(one["event"], **{name: one[name] for name in one if name != "event"})

        for one in shards.events:
            tell(one)
        shards.on_event = tell


def let_go(shards) -> None:
    """End the writer that was started for these shards, if one was."""
    if isinstance(shards, FollowedShards):
        shards.end_writer()


def check_same_data(shards, stored: dict) -> None:
    """Raise ShardError unless the blocks that a state was trained on are still the same."""
    n = stored["blocks"]
    if n > shards.n_blocks or shards.fingerprint(n) != stored["fingerprint"]:
        raise data.ShardError(
            f"the first {n} blocks of {shards.folder} are not those that this run was trained on;"
            " bring them back, or start again in another --out"
        )


def choose_machine(config, flops_per_token: float, stored: dict | None):
    """Choose the machine, as in the stored one where there is one; returns it and what changed."""
    c = config
    asked = {k: getattr(c, k) for k in ("device", "dtype", "attention", "compile", "threads")}
    n_tokens = c.tokens or c.steps * (c.batch_tokens or 8 * c.window)
    asked |= {"deterministic": c.deterministic, "hours": c.hours}
    asked["total_flops"] = n_tokens * flops_per_token
    if stored:
        machine, changes = runtime.choose_machine_again(stored, **asked)
    else:
        machine, changes = runtime.choose_machine(**asked), []
    runtime.make_deterministic(c.deterministic)
    if machine.device == "cpu":
        runtime.keep_freed_memory()
    return machine, changes
