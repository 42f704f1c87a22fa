"""A stage: a pure function `(spec, artifacts) -> artifact`, answered from the store or built, once, under a lock.

In: a function whose signature is the contract, checked when its module is imported. Out: a `Stage` that runs as a Prefect
task inside a flow and directly elsewhere. Invariants: reuse is decided by the store, never by Prefect's cache; only
`TransientError` is retried; inputs are hashed before anything is built from them.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from tasks.core.artifact import Artifact, Spec
from tasks.core.errors import PipelineError, StageError, TransientError
from tasks.core.fingerprint import fingerprint
from tasks.core.provenance import provenance
from tasks.core.run import Run, SafeLog, StageRecord, current_run, stage_log
from tasks.core.signature import Signature, signature_of
from tasks.core.site import Site, current_site
from tasks.core.source import code_hash
from tasks.core.store import InputEntry, Manifest, Store, content_digest, list_files, no_space
from tasks.core.workers import jobs_on, refuse_while_a_worker_starts

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a stage is tried again after a `TransientError`, and after how many seconds."""

    times: int
    delay_s: float


DISK = Retry(times=2, delay_s=5)
NETWORK = Retry(times=3, delay_s=10)
CHILD = Retry(times=3, delay_s=5)


class Stopped(BaseException):
    """Ends a run after the stage named by `--until`; not an error, so nothing catches it on the way."""


@dataclass(frozen=True)
class StageContext:
    """What a stage may know of its execution, and how it reports and commits.

    Attributes:
        dir: Working folder, the same on each attempt, so that work resumes.
        identity: What is made, see `Stage.recipe_of`.
        inputs: What it is made from, by the names of the parameters.
    """

    stage: "Stage[Any]"
    dir: Path
    log: SafeLog
    run: Run
    identity: dict[str, Any]
    inputs: dict[str, Artifact]
    lock_fd: int | None = None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def site(self) -> Site:
        """Where and how it runs; must not change what is made."""
        return self.run.site

    def progress(self, done: float, total: float, unit: str, **figures: float) -> None:
        """Reports how far the stage is."""
        self.run.tell("progressed", self.stage.name, done, total, unit, figures)

    def metrics(self, step: int, **values: float) -> None:
        """Reports figures of a step to the tracker."""
        self.run.tell("measured", self.stage.name, step, values)

    def commit(self, kind: type[A], **facts: Any) -> A:
        """Makes the working folder an artifact of `kind` with these facts and returns it.

        Raises:
            StageError: The facts are not those of the kind, e.g. counts do not add up.
        """
        store = Store(self.site.store_dir)
        manifest = self._manifest(kind, facts)
        try:
            kind(uri=str(self.dir), fingerprint=manifest.fingerprint, digest=manifest.digest, **facts)
        except ValueError as error:
            raise StageError(f"{self.stage.name} measured facts that cannot be true: {error}") from error
        if self.stage.holds is not None and (old := store.folder(manifest.kind, manifest.fingerprint)).exists():
            store.retire(old)  # an effect records the world as it is now
        return store.load(kind, store.commit(manifest, self.dir))

    def _manifest(self, kind: type[Artifact], facts: dict[str, Any]) -> Manifest:
        files = list_files(self.dir)
        return Manifest(
            kind=kind.kind(),
            schema_version=kind.schema_version,
            fingerprint=fingerprint(self.identity),
            digest=content_digest(kind.kind(), kind.schema_version, files),
            stage=self.stage.name,
            stage_version=self.stage.version,
            label=self.run.recipe_name,
            spec=self.identity["spec"],
            inputs={
                name: InputEntry(kind=artifact.kind(), fingerprint=artifact.fingerprint, digest=artifact.digest)
                for name, artifact in self.inputs.items()
            },
            versions=self.identity["versions"],
            code_hash=code_hash(self.stage.module),
            facts=facts,
            files=files,
            provenance=provenance(self.started, self.site.resolved_device, self.identity["spec"].get("seed")),
        )

    def run_child(self, function: str, job: Any, **options: Any) -> None:
        """Runs `module:function` on `job` in a child process; see `tasks.core.child.run_child`."""
        from tasks.core.child import run_child

        run_child(function, job, self, **options)


@dataclass(frozen=True)
class Stage(Generic[A]):
    """A registered stage; see `stage` for its settings."""

    name: str
    version: int
    fn: Callable[..., A]
    retry: Retry
    packages: tuple[str, ...]
    holds: Callable[..., bool] | None
    signature: Signature[A]
    always_runs: bool = False
    passes: Callable[[Spec], bool] | None = None
    by_origin: bool = False
    base_first: bool = False

    def __call__(self, spec: Spec, *inputs: Artifact) -> A:
        """Runs the stage as a Prefect task of the current run and returns its artifact."""
        run = current_run()
        if run is None:
            return self.build(spec, *inputs)
        if run.planner is not None:
            return cast(A, run.planner(self, spec, inputs))
        state = self._task(spec, *inputs, return_state=True)
        artifact: A = state.result()
        if self.ends(run.until, spec):
            raise Stopped(self.name)
        return artifact

    def ends(self, until: str | None, spec: Spec) -> bool:
        """Says whether a run until `until` ends here."""
        return until == self.name and not (self.base_first and getattr(spec, "role", None) == "base")

    def build(self, spec: Spec, *inputs: Artifact, site: Site | None = None) -> A:
        """Answers from the store or builds, without Prefect."""
        return cast(A, self.outcome(spec, *inputs, site=site).artifact)

    def outcome(self, spec: Spec, *inputs: Artifact, site: Site | None = None) -> StageRecord:
        """Answers from the store or builds; says which, and tells the run's observers.

        Raises:
            ContractError: An input is of the wrong kind, or damaged.
        """
        run = current_run() or Run(site or current_site())
        start, role = time.monotonic(), getattr(spec, "role", None)
        try:
            with _explaining(run.site.store_dir):
                found = self.lookup(spec, *inputs, site=run.site)
                artifact = found or self._build(run, spec, inputs)
        except BaseException as error:
            failed = StageRecord(self.name, "failed", time.monotonic() - start, error=describe(error), role=role)
            run.tell("finished", failed)
            raise
        reused = found is not None or artifact in inputs
        record = StageRecord(self.name, "reused" if reused else "built", time.monotonic() - start, artifact, role=role)
        run.tell("finished", record)
        return record

    def lookup(self, spec: Spec, *inputs: Artifact, site: Site) -> A | None:
        """Returns the stored artifact if it answers for this spec and these inputs now."""
        self.signature.check(self.name, spec, inputs)
        if self.passes is not None and self.passes(spec):
            return cast(A, inputs[0])
        artifact = Store(site.store_dir).find(self.signature.output, self.fingerprint(spec, inputs, site))
        if artifact is None or self.always_runs:
            return None
        if self.holds is not None and not self.holds(artifact, spec, *inputs, site=site):
            return None
        return artifact

    def recipe_of(self, spec: Spec, inputs: tuple[Artifact, ...], site: Site) -> dict[str, Any]:
        """Returns everything that enters the fingerprint."""
        named = self.signature.named(inputs).items()
        origins = {"origins": {name: artifact.fingerprint for name, artifact in named}} if self.by_origin else {}
        return origins | {
            "stage": self.name,
            "stage_version": self.version,
            "spec": spec.pinned(site).identity(),
            "versions": {name: package_version(name) for name in self.packages},
            "inputs": {name: artifact.digest for name, artifact in named},
        }

    def fingerprint(self, spec: Spec, inputs: tuple[Artifact, ...], site: Site) -> str:
        """Returns how the output would be made, as one number."""
        return fingerprint(self.recipe_of(spec, inputs, site))

    @property
    def module(self) -> str:
        """Module the function lives in."""
        return self.fn.__module__

    def _build(self, run: Run, spec: Spec, inputs: tuple[Artifact, ...]) -> A:
        store = Store(run.site.store_dir)
        pinned = spec.pinned(run.site)
        identity = self.recipe_of(pinned, inputs, run.site)
        number, kind, log = fingerprint(identity), self.signature.output.kind(), stage_log(self.name)
        refuse_while_a_worker_starts()
        with store.lock(kind, number, wait=run.site.lock_wait, notify=log.info) as lock_fd:
            if (made_meanwhile := self.lookup(pinned, *inputs, site=run.site)) is not None:
                return made_meanwhile
            for artifact in inputs:
                store.verify(artifact)
            folder = store.partial(kind, number)
            folder.mkdir(parents=True, exist_ok=True)
            context = StageContext(self, folder, log, run, identity, self.signature.named(inputs), lock_fd)
            run.tell("started", self.name)
            with jobs_on(run.site, folder / "engine"):
                artifact = self._checked(self.fn(pinned, *inputs, ctx=context))
            if folder.exists():  # the stage only looked
                shutil.rmtree(folder)
            return artifact

    def _checked(self, artifact: Any) -> A:
        if not isinstance(artifact, self.signature.output):
            raise StageError(f"{self.name} must return ctx.commit({self.signature.output.__name__}, ...), not {artifact!r}")
        return artifact

    @cached_property
    def _task(self) -> Any:
        """The Prefect task; made at first use, so that loading a spec never imports Prefect."""
        import prefect
        from prefect.cache_policies import NO_CACHE
        from prefect.states import Completed

        def body(spec: Spec, *inputs: Artifact) -> Any:
            record = self.outcome(spec, *inputs)
            return Completed(name="Reused", data=record.artifact) if record.result == "reused" else record.artifact

        body.__doc__ = self.fn.__doc__
        delay = current_site().retry_delay_s
        return prefect.task(
            name=self.name,
            retries=self.retry.times,
            retry_delay_seconds=self.retry.delay_s if delay is None else delay,
            retry_condition_fn=_is_transient,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(body)


def _is_transient(task: Any, task_run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, TransientError)


def describe(error: BaseException) -> str:
    """Returns one line that says what kind of error it is and what it says."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Says what to do where there is no space left."""
    try:
        yield
    except Exception as error:
        if isinstance(error, PipelineError) or (told := no_space(error, folder)) is None:
            raise
        raise told from error


def stage(
    *,
    version: int,
    name: str | None = None,
    retry: Retry = DISK,
    packages: tuple[str, ...] = (),
    holds: Callable[..., bool] | None = None,
    always_runs: bool = False,
    passes: Callable[[Any], bool] | None = None,
    by_origin: bool = False,
    base_first: bool = False,
) -> Callable[[Callable[..., A]], Stage[A]]:
    """Makes a function a stage; its signature is checked here, when its module is imported.

    Args:
        version: Raised by whoever changes what the stage makes.
        name: Name in the graph and on the command line; by default the function's.
        retry: What happens after a `TransientError`.
        packages: Packages whose versions change what is made.
        holds: Makes it an effect: `holds(artifact, spec, *inputs, site=site)` says whether the world still matches.
        always_runs: Never answered from the store (a `require` step, which only raises or not).
        passes: Says of a spec whether it asks for nothing: then the first input is the answer, and nothing is read or written.
        by_origin: The result tells how inputs were made (time, method): equal weights of two trainings are two inputs.
        base_first: A chain asks it about the base (`spec.role`), then about the model made of it; `--until` means the latter.

    Raises:
        TypeError: The signature is not a Spec, then Artifacts (the last one may take many: `*runs`), then the keyword-only `ctx:
            StageContext`, with an Artifact back.
    """

    def decorate(fn: Callable[..., A]) -> Stage[A]:
        return Stage(
            name=name or fn.__name__,
            version=version,
            fn=fn,
            retry=retry,
            packages=packages,
            holds=holds,
            signature=signature_of(fn, StageContext),
            always_runs=always_runs,
            passes=passes,
            by_origin=by_origin,
            base_first=base_first,
        )

    return decorate
