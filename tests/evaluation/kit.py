"""Artifacts that hold what a test says."""

from tasks.contracts import Champion, EvalReport
from tasks.core.artifact import Spec
from tasks.core.stage import StageContext, stage


class ToyReportSpec(Spec):
    """Facts as JSON."""

    facts: str


@stage(version=1)
def toy_report(spec: ToyReportSpec, *, ctx: StageContext) -> EvalReport:
    (ctx.dir / "facts.json").write_text(spec.facts)
    return ctx.commit(EvalReport, **EvalReport.model_validate_json(spec.facts).facts())


class ToyChampionSpec(Spec):
    """Whether there is one."""

    digest: str | None = "c"


@stage(version=1)
def toy_champion(spec: ToyChampionSpec, *, ctx: StageContext) -> Champion:
    return ctx.commit(Champion, model_name="m", version=1 if spec.digest else None, model_digest=spec.digest)
