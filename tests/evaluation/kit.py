"""Artifacts that hold what a test says."""

import json

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
    """Whether there is one, and what its model says that it is."""

    digest: str | None = "c"
    architecture: str | None = None


@stage(version=1)
def toy_champion(spec: ToyChampionSpec, *, ctx: StageContext) -> Champion:
    if spec.architecture is not None:
        (ctx.dir / "model").mkdir(exist_ok=True)
        (ctx.dir / "model" / "config.json").write_text(json.dumps({"architectures": [spec.architecture]}))
    return ctx.commit(Champion, model_name="m", version=1 if spec.digest else None, model_digest=spec.digest)
