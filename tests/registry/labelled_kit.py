"""The artifacts of a run on labelled text, made by its real stages from a tiny model."""

from dataclasses import dataclass
from typing import Any

from tasks.contracts import Checkpoint, EvalReport, Labelled, QualityReport, Scores, Verdict
from tasks.core.artifact import Artifact, Spec
from tasks.core.run import Run, StageRecord, running
from tasks.core.site import Site
from tasks.core.stage import StageContext, stage
from tasks.evaluation.label_compare import compare_labels
from tasks.evaluation.label_gate import judge_labels
from tasks.evaluation.label_score import score_labels, score_labels_champion, score_majority
from tasks.evaluation.label_specs import CompareLabelsSpec, EvaluateLabelledSpec, LabelGateSpec, ScoreLabelsSpec
from tasks.evaluation.specs import BootstrapSpec
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.registry import RegisterLabelledSpec, register_labelled
from tasks.tuning.labelled import TuneLabelledSpec, tune_labelled
from tests.evaluation.kit import ToyChampionSpec, toy_champion
from tests.modeling.kit import in_process
from tests.registry.kit import KnownRun, _mlflow_run, judged_again
from tests.tuning.labelled_kit import ToyBaseSpec, ToyLabelledSpec, toy_base, toy_labelled

FEW = BootstrapSpec(num_resamples=100)


class ToyQualitySpec(Spec):
    """Nothing to say."""


@stage(version=1)
def toy_quality(spec: ToyQualitySpec, labelled: Labelled, *, ctx: StageContext) -> QualityReport:
    (ctx.dir / "results.json").write_text("[]")
    facts = {"passed": True, "num_checks": 3, "failures": (), "warnings": ("few items of zh",)}
    return ctx.commit(QualityReport, corpus_digest=labelled.digest, **facts)


@dataclass(frozen=True)
class LabelChain:
    """What the stages before registration made."""

    base: Checkpoint
    tuned: Checkpoint
    scores: Scores
    report: EvalReport
    verdict: Verdict
    quality: QualityReport
    labelled: Labelled

    @property
    def inputs(self) -> tuple[Artifact, ...]:
        """The inputs of `register_labelled`, in order."""
        return self.base, self.tuned, self.scores, self.report, self.verdict, self.quality, self.labelled


def make_label_chain(site: Site, seed: int = 0, task: str = "classification", *, pairs: bool = False) -> LabelChain:
    """Makes the artifacts of one run; `seed` makes the tuned model."""
    train = TrainSpec(batch_rows=8, num_epochs=3, eval_every_steps=18, checkpoint_every_steps=18)
    spec = TuneLabelledSpec(train=train, optim=AdamWSpec(kind="adamw", learning_rate=5e-3), precision="fp32", seed=seed)
    settings = EvaluateLabelledSpec(bootstrap=FEW)
    with in_process():
        base = toy_base.build(ToyBaseSpec(), site=site)
        labelled = toy_labelled.build(ToyLabelledSpec(task=task, pairs=pairs), site=site)
        tuned = tune_labelled.build(spec, base, labelled, site=site)
        nobody = toy_champion.build(ToyChampionSpec(digest=None), site=site)
        majority = score_majority.build(ScoreLabelsSpec(role="base", settings=settings), base, labelled, site=site)
        scores = score_labels.build(ScoreLabelsSpec(role="tuned", settings=settings), tuned, labelled, site=site)
        none = score_labels_champion.build(ScoreLabelsSpec(role="champion", settings=settings), nobody, labelled, site=site)
    report = compare_labels.build(CompareLabelsSpec(bootstrap=FEW), majority, scores, none, site=site)
    verdict = judge_labels.build(LabelGateSpec(min_items=10), report, nobody, site=site)
    return LabelChain(base, tuned, scores, report, verdict, toy_quality.build(ToyQualitySpec(), labelled, site=site), labelled)


def register_labels(site: Site, chain: LabelChain, name: str = "toy-labels", **settings: Any) -> StageRecord:
    """Registers the chain's model within an MLflow run, judged against the champion of the moment."""
    chain = judged_again(site, chain, name)
    with running(Run(site, "toy-recipe", tracker=KnownRun(_mlflow_run(site)))):
        spec = RegisterLabelledSpec.model_validate({"name": name, "trial_items": 6} | settings)
        return register_labelled.outcome(spec, *chain.inputs, site=site)
