"""A build as tasks of datatrove's executors: processes here, a Ray cluster, or Slurm."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x1lib.data.building.onepass import assemble, plan_folder
from x1lib.data.building.recipe import Recipe
from x1lib.data.errors import DataError, ShardError, missing_library
from x1lib.data.pipeline import data_root
from x1lib.data.scale.parts import DONE, DoneWork, PartsStream, PartStep, part_folder
from x1lib.data.shards import Shards
from x1lib.data.streams import open_stream

EXECUTORS = ("local", "ray", "slurm")
# A local Ray gives its own parts 30 s to start, which a busy machine may miss.
RAY_STARTS = 3


@dataclass
class AssembleStep:
    """The last task: shards out of all parts, and the parts deleted."""

    source: str
    recipe: Recipe
    root: str
    n_parts: int

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """As an engine calls it."""
        self.make()

    def make(self, log: Callable[[str], None] | None = None) -> Path:
        """Make the shards and return their folder."""
        origin = open_stream(self.source, log=None)
        folder = target_folder(self.source, self.recipe, self.root, self.n_parts)
        stream = PartsStream(origin, str(working_folder(folder)), self.n_parts)
        assemble(stream, self.recipe, DoneWork, root=self.root, log=log)
        shutil.rmtree(working_folder(folder), ignore_errors=True)
        return folder


def working_folder(folder: Path) -> Path:
    """Where the parts of a build and its engine's records lie until it is done."""
    return folder.with_name(folder.name + ".parts")


def target_folder(source: str, recipe: Recipe, root, n_parts: int) -> Path:
    """The folder of shards that a build in so many parts ends in."""
    stream = PartsStream(open_stream(source, log=None), "", n_parts)
    return plan_folder(stream, recipe, root=root)[0]


def build_with(
    source: str | Path,
    recipe: Recipe,
    *,
    executor: str = "local",
    tasks: int = 1,
    workers: int = 1,
    root=None,
    slurm_partition: str | None = None,
    slurm_time: str = "24:00:00",
    log: Callable[[str], None] | None = print,
) -> Path | None:
    """Build a source in `tasks` parts, `workers` of them at once, and return the folder.

    The bytes depend on `tasks`, not on the executor nor on `workers`. Ray takes the cluster that is
    there ($RAY_ADDRESS) or starts a local one. Slurm submits the tasks and the step after them and
    returns None at once. All machines must share `root`. Raises DataError.
    """
    log = log or (lambda line: None)
    if executor not in EXECUTORS:
        raise DataError(f"unknown executor {executor!r}; there are {', '.join(EXECUTORS)}")
    if tasks < 1 or workers < 1:
        raise DataError(f"tasks and workers are {tasks} and {workers}; give 1 or more of each")
    open_stream(source, log=None)  # refused here, and not as the folder that we are in
    # tasks run in folders and environments of their own: only whole paths mean the same there
    root = str(data_root(root).resolve())
    path = Path(source).expanduser()
    source = str(path.resolve()) if path.exists() else str(source)
    folder = target_folder(source, recipe, root, tasks)
    try:
        if Shards(folder).complete:
            return folder
    except ShardError:
        pass
    working = working_folder(folder)
    step = PartStep(source, recipe, str(working))
    last = AssembleStep(source, recipe, root, tasks)
    common = {"tasks": tasks, "workers": workers, "logging_dir": str(working / "engine")}
    if executor == "slurm":
        _slurm(step, last, common, slurm_partition, slurm_time, working)
        log(f"submitted {tasks} tasks and the step after them; they will make {folder}")
        return None
    if executor == "local":
        _local(step, common)
    else:
        _ray(step, common)
    missing = [rank for rank in range(tasks) if not (part_folder(working, rank) / DONE).exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of {tasks} tasks did not finish, the first is {missing[0]}; look at"
            f" {working / 'engine' / 'logs'}, then run the same command again"
        )
    log(f"{tasks} parts are done, making shards of them")
    return last.make(log)


def _executors():
    try:
        from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
        from datatrove.executor.ray import RayPipelineExecutor
    except ImportError as error:
        raise missing_library("datatrove", "to run a build as tasks") from error
    return LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor


def _local(step: PartStep, common: dict) -> None:
    executor = _executors()[0]
    executor(pipeline=[step], **common).run()


def _ray(step: PartStep, common: dict) -> None:
    executor = _executors()[1]
    try:
        import ray
    except ImportError as error:
        raise DataError(
            "ray is needed for --executor ray and is not installed; install it with "
            "`pip install -c constraints.txt 'x1lib[data,ray]'`"
        ) from error
    started = not ray.is_initialized()
    for attempt in range(RAY_STARTS if started else 0):
        try:
            ray.init(log_to_driver=False, include_dashboard=False)
            break
        except Exception as error:  # Ray has no class for it
            ray.shutdown()
            if attempt == RAY_STARTS - 1:
                raise DataError(
                    f"Ray did not start in {RAY_STARTS} tries ({str(error)[:200]}); use --executor"
                    " local"
                ) from error
    try:
        executor(pipeline=[step], mem_per_cpu_gb=0.5, **common).run()
    finally:
        if started:
            ray.shutdown()


def _slurm(step, last, common, partition: str | None, time: str, working: Path) -> None:
    executor = _executors()[2]
    if not partition:
        raise DataError("Slurm needs a partition; name it with --slurm-partition")
    shared = {"partition": partition, "time": time, "mail_type": "NONE"}
    parts = executor(pipeline=[step], job_name="x1-parts", **common, **shared)
    after = executor(
        pipeline=[last],
        tasks=1,
        job_name="x1-shards",
        depends=parts,
        logging_dir=str(working.with_name(working.name + "-last")),
        **shared,
    )
    after.run()
