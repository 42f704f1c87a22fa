"""Engines: pieces of work given to a Ray cluster or to Slurm, by datatrove's executors.

In: a top-level function and one job a piece, the site's engine, a folder that every node sees. Out: nothing; each piece leaves
its own files. Invariants: what is made does not depend on the engine; an error keeps its type; a piece that an engine lost is a
`TransientError`, and the next attempt does only what is missing.

datatrove hands its executor to Slurm's jobs as a file of its own (`executor.pik`, dill) in the stage's working folder; nothing of
Textmill reads it. Its Ray worker waits for ever for a process that was killed: the time limit of a task ends that.
"""

import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core import errors
from tasks.core.errors import PipelineError, RecipeError, TransientError
from tasks.core.site import Site
from tasks.core.store import write_durably

_ROOT = Path(__file__).resolve().parents[2]
_GB_PER_WORKER = 2


@dataclass(frozen=True)
class Share:
    """A step of a datatrove pipeline: every n-th job, counted from the number of the task."""

    function: Callable[[Any], None]
    jobs: Sequence[Any]
    folder: Path

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Does the jobs of one task; an error of ours is also written where the run finds it."""
        for job in self.jobs[rank::world_size]:
            try:
                self.function(job)
            except PipelineError as error:
                write_durably(self.folder / "error.json", json.dumps({"kind": type(error).__name__, "message": str(error)}))
                raise


def spread(function: Callable[[Any], None], jobs: Sequence[Any], site: Site, folder: Path) -> None:
    """Runs `function` on each job with the site's engine.

    Raises:
        PipelineError: What a job raised.
        TransientError: A task did not end.
        RecipeError: The engine is not installed here, or a setting is missing.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tasks = min(len(jobs), site.data_workers)
    executor = _EXECUTORS[site.data_engine](Share(function, jobs, folder), tasks, site, folder)
    try:
        executor.run()
    except Exception as error:  # sbatch, a cluster that went away, a task over its time limit
        _raise_what_was_said(folder)
        raise TransientError(
            f"{site.data_engine} gave up on {function.__module__} ({type(error).__name__}: {error}); see {folder}"
        ) from error
    _raise_what_was_said(folder)
    if missing := executor.get_incomplete_ranks(skip_completed=True):
        raise TransientError(
            f"{len(missing)} of {tasks} tasks of {function.__module__} were not finished by {site.data_engine}; finished pieces "
            f"are kept, see {folder}"
        )
    shutil.rmtree(folder)


def _raise_what_was_said(folder: Path) -> None:
    path = folder / "error.json"
    if path.exists():
        said = json.loads(path.read_text(encoding="utf-8"))
        raise getattr(errors, said["kind"])(said["message"])


def ray_executor(share: Share, tasks: int, site: Site, folder: Path) -> Any:
    """Returns datatrove's executor for Ray; a cluster of this run's own is started where none is named."""
    try:
        import ray
        from datatrove.executor.ray import RayPipelineExecutor
    except ImportError as error:
        raise RecipeError(f"data_engine ray needs the package ray: pip install 'textmill[ray]' ({error})") from None
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        environment = {"env_vars": {"PYTHONPATH": _python_path()}}
        try:
            ray.init(site.ray_address, runtime_env=environment, log_to_driver=False, logging_level="ERROR", **_own_cluster(site))
        except ValueError as error:
            raise RecipeError(f"{_named(site)} is no address of a Ray cluster: {error}") from None
        except ConnectionError as error:
            raise TransientError(f"no Ray cluster answers at {_named(site)}: {error}") from error
    return RayPipelineExecutor(
        [share],
        tasks=tasks,
        workers=site.data_workers,
        time=site.data_task_s,
        mem_per_cpu_gb=0,
        logging_dir=str(folder),
        skip_completed=False,
    )


def _named(site: Site) -> str:
    """Returns what says where the Ray cluster is."""
    return f"ray_address {site.ray_address!r}" if site.ray_address else f"RAY_ADDRESS {os.environ.get('RAY_ADDRESS')!r}"


def _own_cluster(site: Site) -> dict[str, Any]:
    """Returns what a cluster on this machine needs; its token is a variable, which Ray would write to the home folder."""
    if site.ray_address is not None:
        return {}
    if not any(name.startswith("RAY_AUTH_") for name in os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return {"num_cpus": site.data_workers, "include_dashboard": False}


def slurm_executor(share: Share, tasks: int, site: Site, folder: Path) -> Any:
    """Returns datatrove's executor for Slurm, which writes the batch script and waits for its jobs.

    Raises:
        RecipeError: The partition is not set, or there is no sbatch.
    """
    from datatrove.executor.slurm import SlurmPipelineExecutor

    if site.slurm_partition is None or shutil.which("sbatch") is None:
        what = "set TEXTMILL_SLURM_PARTITION" if site.slurm_partition is None else "there is no sbatch on this machine"
        raise RecipeError(f"data_engine slurm: {what}")
    return SlurmPipelineExecutor(
        [share],
        tasks=tasks,
        time=f"{-(-site.data_task_s // 60)}",
        partition=site.slurm_partition,
        workers=site.data_workers,
        mem_per_cpu_gb=_GB_PER_WORKER,
        job_name=f"textmill-{share.function.__name__}",
        qos="",
        env_command=f"export PYTHONPATH={shlex.quote(_python_path())} PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        sbatch_args={"wait": "", "kill-on-invalid-dep": "yes"},  # else the job after a cancelled one is waited for, for ever
        logging_dir=str(folder),
        skip_completed=False,
        requeue_signals=None,
    )


def _python_path() -> str:
    inherited = os.environ.get("PYTHONPATH")
    return str(_ROOT) + (os.pathsep + inherited if inherited else "")


_EXECUTORS: dict[str, Callable[[Share, int, Site, Path], Any]] = {"ray": ray_executor, "slurm": slurm_executor}
