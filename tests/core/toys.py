"""Two stages small enough to see through, for the tests of the stage runner."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from tasks.core.artifact import Artifact, Spec
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.workers import run_jobs


class CountSpec(Spec):
    """Numbers to write."""

    numbers: Annotated[tuple[int, ...], Field(description="Numbers.")] = (1, 2, 3)
    seed: Annotated[int, Field(description="Unused but recorded.")] = 0


class Numbers(Artifact):
    """`numbers.txt`."""

    total: int


class ScaleSpec(Spec):
    """A factor."""

    factor: Annotated[int, Field(description="Factor.")] = 2


class Scaled(Artifact):
    """`scaled.txt`."""

    total: int


@stage(name="count", version=1, retry=DISK)
def count(spec: CountSpec, *, ctx: StageContext) -> Numbers:
    """Writes numbers."""
    (ctx.dir / "numbers.txt").write_text("\n".join(map(str, spec.numbers)))
    (ctx.dir / "extra").mkdir(exist_ok=True)
    (ctx.dir / "extra" / "log.txt").write_text(f"made in {ctx.dir}")
    ctx.progress(1, 1, "files")
    return ctx.commit(Numbers, total=sum(spec.numbers))


@stage(name="spread", version=1, retry=DISK)
def spread(spec: CountSpec, *, ctx: StageContext) -> Numbers:
    """Writes each number in a worker process."""
    list(run_jobs(_touch, [ctx.dir / str(number) for number in spec.numbers], workers=2))
    return ctx.commit(Numbers, total=sum(spec.numbers))


def _touch(path: Path) -> None:
    path.touch()


@stage(name="scale", version=1, retry=DISK)
def scale(spec: ScaleSpec, numbers: Numbers, *, ctx: StageContext) -> Scaled:
    """Scales numbers."""
    total = numbers.total * spec.factor
    (ctx.dir / "scaled.txt").write_text(str(total))
    return ctx.commit(Scaled, total=total)
