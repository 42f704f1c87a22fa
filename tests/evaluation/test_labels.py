"""Scoring, comparing and judging on labelled text: real predictions of a tiny tuned model."""

import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib import font_manager
from transformers import ModernBertConfig

from tasks.contracts import Champion, Checkpoint, EvalReport, Interval, Labelled, Scores
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.core.stage import StageContext, stage
from tasks.core.tables import read_rows
from tasks.evaluation.label_compare import compare_labels
from tasks.evaluation.label_gate import judge_labels, label_rules
from tasks.evaluation.label_plots import draw_labels
from tasks.evaluation.label_score import _check_labels, score_labels, score_labels_champion, score_majority
from tasks.evaluation.label_specs import CompareLabelsSpec, EvaluateLabelledSpec, LabelGateSpec, ScoreLabelsSpec
from tasks.evaluation.label_tables import Predictions, read_predictions
from tasks.evaluation.specs import BootstrapSpec
from tests.evaluation.kit import ToyChampionSpec, toy_champion
from tests.modeling.kit import in_process
from tests.tuning.labelled_kit import ToyBaseSpec, ToyLabelledSpec, toy_base, toy_labelled

FEW = BootstrapSpec(num_resamples=200)
SETTINGS = EvaluateLabelledSpec(bootstrap=FEW)
TASKS = ("classification", "multi_label", "regression", "token_classification")


@pytest.fixture(scope="module", autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(state_dir=tmp_path_factory.mktemp("labels"))


def tuned_on(task: str, site: Site, **fields: Any) -> tuple[Checkpoint, Checkpoint, Labelled]:
    from tasks.tuning.labelled import tune_labelled
    from tests.tuning.test_labelled import SPEC, TRAIN

    base = toy_base.build(ToyBaseSpec(), site=site)
    labelled = toy_labelled.build(ToyLabelledSpec(task=task), site=site)
    if task == "multi_label":  # most items have none of the labels, so that saying nothing is learned first
        fields = {"train": TRAIN.model_copy(update={"num_epochs": 10})} | fields
    return base, tune_labelled.build(SPEC.model_copy(update=fields), base, labelled, site=site), labelled


def scored(task: str, site: Site) -> tuple[Scores, Scores]:
    base, tuned, labelled = tuned_on(task, site)
    first = score_majority.build(ScoreLabelsSpec(role="base", settings=SETTINGS), base, labelled, site=site)
    return first, score_labels.build(ScoreLabelsSpec(role="tuned", settings=SETTINGS), tuned, labelled, site=site)


def no_champion(site: Site) -> Scores:
    nobody = toy_champion.build(ToyChampionSpec(digest=None), site=site)
    labelled = toy_labelled.build(ToyLabelledSpec(), site=site)
    return score_labels_champion.build(ScoreLabelsSpec(role="champion", settings=SETTINGS), nobody, labelled, site=site)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_scored_and_compared(here: Site, task: str) -> None:
    base, tuned = scored(task, here)
    metric, least = {"regression": ("pearson", 0.5), "multi_label": ("micro_f1", 0.5)}.get(task, ("accuracy", 0.6))
    assert tuned.metrics[metric].mean > least
    assert tuned.metrics[metric].low <= tuned.metrics[metric].mean <= tuned.metrics[metric].high
    rows = list(read_rows(tuned.path / "predictions.parquet"))
    assert {row["split"] for row in rows} == {"validation", "test"}
    report = compare_labels.build(CompareLabelsSpec(bootstrap=FEW), base, tuned, no_champion(here), site=here)
    better = report.differences["base/rmse" if task == "regression" else "base/loss"]
    assert better.high < 0
    page = (report.path / "report.html").read_text(encoding="utf-8")
    assert ("<svg" in page) == (task != "multi_label")
    assert not re.search(r"<script|(src|href)=[\"']http", page)


def test_the_base_is_the_majority_of_the_training_items(here: Site) -> None:
    base, _ = scored("classification", here)
    found = read_predictions(base.path)
    assert set(found.said) == {("zh",)}  # 24 of each, the first in order
    assert base.metrics["mcc"].mean == 0
    assert base.metrics["loss"].mean == pytest.approx(np.log(2))
    mean, _ = scored("regression", here)
    labelled = toy_labelled.build(ToyLabelledSpec(task="regression"), site=here)
    train = [row["value"] for row in read_rows(labelled.path / "items.parquet") if row["split"] == "train"]
    assert read_predictions(mean.path).said_value == pytest.approx(np.full(24, np.mean(train)))


def test_a_prediction_does_not_depend_on_its_neighbours(here: Site) -> None:
    from tasks.evaluation.label_tables import scored_items
    from tasks.modeling.labelled_predict import predict

    _, tuned, labelled = tuned_on("classification", here)
    items = scored_items(labelled)
    together, _ = predict(tuned.path / "model", items, "cpu")
    alone = [predict(tuned.path / "model", [item], "cpu")[0][0] for item in items[:4]]
    for one, other in zip(together, alone, strict=False):
        assert one.labels == other.labels
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
    truth = [item["labels"][0] == "en" for item in items]
    nats = [-np.log(one.scores[number]) for one, number in zip(together, truth, strict=True)]
    assert [one.loss for one in together] == pytest.approx(nats, rel=1e-3)


def test_scores_of_other_roles_are_refused(here: Site) -> None:
    base, tuned = scored("classification", here)
    with pytest.raises(ContractError, match="was given the scores of a tuned model as base"):
        compare_labels.build(CompareLabelsSpec(bootstrap=FEW), tuned, base, no_champion(here), site=here)


class OtherLabelsSpec(Spec):
    """A champion of other labels."""

    names: tuple[str, str] = ("ham", "spam")


@stage(version=1)
def toy_other(spec: OtherLabelsSpec, *, ctx: StageContext) -> Champion:
    names = dict(enumerate(spec.names))
    ModernBertConfig(problem_type="single_label_classification", id2label=names).save_pretrained(ctx.dir / "model")
    return ctx.commit(Champion, model_name="m", version=3, model_digest="c")


def test_a_champion_of_other_labels_is_no_champion_of_these(here: Site) -> None:
    other = toy_other.build(OtherLabelsSpec(), site=here)
    labelled = toy_labelled.build(ToyLabelledSpec(), site=here)
    with pytest.raises(ContractError, match=r"m version 3 says ham, spam .*not zh, en.*set registry.name to another"):
        score_labels_champion.build(ScoreLabelsSpec(role="champion", settings=SETTINGS), other, labelled, site=here)


def test_labels_by_the_names_of_transformers_are_those_of_the_champion(here: Site) -> None:
    """Its configuration does not say them then."""
    names = ("LABEL_0", "LABEL_1")
    champion = toy_other.build(OtherLabelsSpec(names=names), site=here)
    assert "id2label" not in json.loads((champion.path / "model" / "config.json").read_text())
    labelled = toy_labelled.build(ToyLabelledSpec(), site=here)
    _check_labels(champion, labelled.model_copy(update={"label_names": names}))


def between(low: float, high: float, num_items: int = 200) -> Interval:
    return Interval(mean=(low + high) / 2, low=low, high=high, num_items=num_items)


def report(metrics: dict[str, Interval], differences: dict[str, Interval], champion: str | None = "c") -> EvalReport:
    facts = {"base_digest": "b", "tuned_digest": "t", "champion_digest": champion}
    return EvalReport(uri="", fingerprint="", digest="", metrics=metrics, differences=differences, **facts)


def answers(spec: LabelGateSpec, found: EvalReport) -> list[str]:
    return [rule.answer(spec.min_items) for rule in label_rules(spec, found)]


F1 = {f"tuned/{name}": between(0.8, 0.9) for name in ("accuracy", "macro_f1")} | {"tuned/calibration_error": between(0.05, 0.1)}


def test_the_gate_asks_for_a_gain_and_no_loss_to_the_champion() -> None:
    good = report(F1, {"base/macro_f1": between(0.2, 0.3), "champion/macro_f1": between(0.0, 0.1)})
    assert answers(LabelGateSpec(), good) == ["yes", "yes"]
    assert answers(LabelGateSpec(gain_over_base=0.2), good) == ["no", "yes"]
    worse = report(F1, {"base/macro_f1": between(0.2, 0.3), "champion/macro_f1": between(-0.02, 0.1)})
    assert answers(LabelGateSpec(), worse) == ["yes", "no"]
    assert answers(LabelGateSpec(champion_loss=0.02), worse) == ["yes", "yes"]
    assert answers(LabelGateSpec(min_items=201), good) == ["undecided", "undecided"]
    assert answers(LabelGateSpec(calibration=0.1), good) == ["yes", "yes", "yes"]
    assert answers(LabelGateSpec(calibration=0.09), good) == ["yes", "yes", "no"]


def test_the_gate_knows_which_way_a_metric_is_better() -> None:
    metrics = {"tuned/pearson": between(0.7, 0.8), "tuned/rmse": between(0.5, 0.6)}
    found = report(metrics, {"base/pearson": between(0.7, 0.8), "base/rmse": between(-0.9, -0.5)}, champion=None)
    assert [rule.name.split(",")[0] for rule in label_rules(LabelGateSpec(), found)] == ["pearson"]
    assert answers(LabelGateSpec(metric="rmse"), found) == ["yes"]
    assert answers(LabelGateSpec(metric="rmse", gain_over_base=0.5), found) == ["no"]
    with pytest.raises(RecipeError, match=r"gate.metric 'accuracy' was not measured; choose pearson, rmse"):
        label_rules(LabelGateSpec(metric="accuracy"), found)


def test_the_verdict_is_kept_either_way(here: Site) -> None:
    base, tuned = scored("classification", here)
    compared = compare_labels.build(CompareLabelsSpec(bootstrap=FEW), base, tuned, no_champion(here), site=here)
    nobody = toy_champion.build(ToyChampionSpec(digest=None), site=here)
    verdict = judge_labels.build(LabelGateSpec(min_items=20), compared, nobody, site=here)
    assert verdict.passed
    assert re.match(r"macro_f1, gain over .*: asked above 0 , saw .* over 24 items: yes", verdict.reasons[0])
    assert not judge_labels.build(LabelGateSpec(min_items=25), compared, nobody, site=here).passed


def test_labels_are_drawn_in_their_script_and_as_no_formulas() -> None:
    """A letter that no font has is an outline of nothing: two such labels would be one picture."""

    def drawn(*names: str) -> str:
        labels, ones = tuple((name,) for name in names), np.ones(2)
        return draw_labels(
            Predictions("classification", names, ("1", "2"), ("set",) * 2, labels, labels, ((1.0,),) * 2, ones, ones, ones),
            "tuned",
        )

    with warnings.catch_warnings():
        if any("CJK" in name or "WenQuanYi" in name for name in font_manager.get_font_names()):
            warnings.simplefilter("error")
        assert drawn("好评", "差评") != drawn("天气", "公园")
    assert drawn("$5_{ $", "a") != drawn("5_{", "a")
