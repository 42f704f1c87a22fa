"""The summary of a tuning, and several side by side: real ones of tiny models, and summaries written by hand."""

from typing import Any

import pytest

from tasks.contracts import Checkpoint, Interval, Scores, TuningSummary
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.stage import StageContext, stage
from tasks.evaluation import CompareTuningsSpec, SummarizeSpec, compare_tunings, summarize
from tasks.evaluation.choices import Run, ranked
from tasks.evaluation.compare import paired_differences
from tasks.evaluation.score import read_units
from tasks.evaluation.specs import BootstrapSpec
from tasks.evaluation.tuning_plots import draw_tunings
from tasks.evaluation.tunings import CellSpec
from tests.evaluation.test_labels import scored, tuned_on

FEW = BootstrapSpec(num_resamples=200)
SPEC = SummarizeSpec(bootstrap=FEW)


def test_a_model_that_answers_is_summed_up(
    tuned: Checkpoint, base_scores: Scores, tuned_scores: Scores, shared_site: Site
) -> None:
    found = summarize.build(SPEC, tuned, base_scores, tuned_scores, site=shared_site)
    assert (found.method, found.num_trained_parameters, found.trained_share) == ("full", tuned.num_parameters, 1.0)
    assert found.kept_bytes == 4 * tuned.num_parameters
    assert found.validation == {"loss": tuned.validation_loss}
    assert found.train_validation_gap == tuned.figures["train_validation_gap"]
    asked = (read_units(tuned_scores.path), read_units(base_scores.path))
    assert found.forgetting == paired_differences(FEW, *asked)["bits_per_byte"]
    assert found.test == tuned_scores.metrics
    assert found.tokens_per_s == tuned_scores.tokens_per_s > 0
    assert found.tokenizer_digest == tuned.tokenizer_digest
    preferring = tuned.model_copy(update={"figures": tuned.figures | {"preference_accuracy": 0.75}})
    other = SummarizeSpec(bootstrap=FEW.model_copy(update={"seed": 1}))
    again = summarize.build(other, preferring, base_scores, tuned_scores, site=shared_site)
    assert again.validation == found.validation | {"preference_accuracy": 0.75}
    for part in ("full: ", "weights trained (100.00%)", "MB kept", "tokens/s when asked", "forgetting"):
        assert part in found.summary()


def test_a_model_that_labels_is_summed_up_with_intervals_over_validation_items(shared_site: Site) -> None:
    base_scores, scores = scored("classification", shared_site)
    _, tuned, _ = tuned_on("classification", shared_site)
    found = summarize.build(SPEC, tuned, base_scores, scores, site=shared_site)
    assert found.validation == {"loss": tuned.validation_loss} | tuned.held_out
    interval = found.validation_intervals["accuracy"]
    assert interval.mean == pytest.approx(found.validation["accuracy"])
    assert interval.num_items == 24
    assert found.test["accuracy"].num_items == scores.metrics["accuracy"].num_items
    assert found.forgetting is None
    assert found.tokens_per_s > 0
    assert base_scores.tokens_per_s is None  # nobody was asked


def test_scores_of_another_model_are_refused(tuned: Checkpoint, base: Checkpoint, base_scores: Scores, shared_site: Site) -> None:
    with pytest.raises(ContractError, match="are the scores of another model"):
        summarize.build(SPEC, tuned, base_scores, base_scores, site=shared_site)
    with pytest.raises(ContractError, match="records no tuning"):
        summarize.build(SPEC, base, base_scores, base_scores, site=shared_site)


class ToySummarySpec(Spec):
    """What a tuning came to."""

    validation: float
    test: float
    loss: float = 1.0
    trained: int = 10
    forgetting: float | None = None
    tokenizer: str = "t"
    seconds: float = 2.0
    num_items: int = 0


def interval(mean: float, num_items: int) -> dict[str, Any]:
    return {"mean": mean, "low": mean, "high": mean, "num_items": num_items}


@stage(version=1)
def toy_summary(spec: ToySummarySpec, *, ctx: StageContext) -> TuningSummary:
    (ctx.dir / "summary.json").write_text(spec.model_dump_json())
    lost = spec.forgetting
    return ctx.commit(
        TuningSummary,
        model_digest=f"{spec.validation}",
        tokenizer_digest=spec.tokenizer,
        method="full",
        num_parameters=100,
        num_trained_parameters=spec.trained,
        trained_share=spec.trained / 100,
        kept_bytes=40,
        seconds=spec.seconds,
        peak_memory_bytes=10**9,
        tokens_per_s=None,
        train_validation_gap=0.5,
        validation={"accuracy": spec.validation, "loss": spec.loss},
        validation_intervals={"accuracy": interval(spec.validation, spec.num_items)} if spec.num_items else {},
        test={"accuracy": interval(spec.test, 9)},
        forgetting=None if lost is None else {"mean": lost, "low": lost - 0.1, "high": lost + 0.1, "num_items": 9},
    )


def compared(site: Site, *cells: tuple[dict[str, str], dict[str, str], dict[str, Any]], criterion: str = "accuracy") -> Any:
    spec = CompareTuningsSpec(cells=tuple(CellSpec(settings=one, seeds=two) for one, two, _ in cells), criterion=criterion)
    summaries = [toy_summary.build(ToySummarySpec(**fields), site=site) for *_, fields in cells]
    return compare_tunings.build(spec, *summaries, site=site)


def test_validation_chooses_and_test_figures_of_the_others_are_not_shown(shared_site: Site) -> None:
    best_on_test = ({"rate": "<b>1e-4"}, {}, {"validation": 0.7, "test": 0.98765})
    best_on_validation = ({"rate": "3e-4"}, {}, {"validation": 0.8, "test": 0.54321, "forgetting": 0.3})
    found = compared(shared_site, best_on_test, best_on_validation)
    assert (found.chosen, found.chosen_digest, found.validation) == ({"rate": "3e-4"}, "0.8", 0.8)
    assert found.test["accuracy"] == Interval(mean=0.54321, low=0.54321, high=0.54321, num_items=9)
    page = (found.path / "report.html").read_text(encoding="utf-8")
    assert "0.543" in page
    assert "0.988" not in page
    assert "&lt;b&gt;1e-4" in page
    assert "0.3000 [0.2000, 0.4000]" in page
    assert "<script" not in page
    assert page.count("<svg") == 1
    assert (found.path / "extra" / "quality.svg").read_text(encoding="utf-8").startswith("<svg")


def test_seeds_are_one_choice_ranked_by_its_mean(shared_site: Site) -> None:
    lucky, steady = ({"kind": "lora"}, (0.9, 0.5)), ({"kind": "full"}, (0.75, 0.8))
    cells = [
        (settings, {"tune.seed": str(seed)}, {"validation": value, "test": seed})
        for settings, values in (lucky, steady)
        for seed, value in enumerate(values)
    ]
    found = compared(shared_site, *cells)
    assert (found.num_runs, found.chosen, found.chosen_digest) == (4, {"kind": "full"}, "0.8")
    assert found.validation == pytest.approx(0.775)
    page = (found.path / "report.html").read_text(encoding="utf-8")
    assert "0.7750 [0.7500, 0.8000]" in page
    assert "range of the seeds" in page


def test_of_equal_choices_the_one_of_fewer_weights_comes_first(shared_site: Site) -> None:
    same = {"validation": 0.5, "test": 0.5}
    cells = [({"trained": f"{trained}"}, {}, same | {"trained": trained, "seconds": trained}) for trained in (9, 3)]
    assert compared(shared_site, *cells).chosen == {"trained": "3"}


def test_a_figure_outside_its_own_interval_is_drawn_and_a_setting_is_no_formula(shared_site: Site) -> None:
    """Percentiles of a few items may leave the figure out on either side."""
    summary = toy_summary.build(ToySummarySpec(validation=1.0, test=1.0), site=shared_site)
    for low, high in ((0.9, 0.97), (1.02, 1.05)):
        interval = Interval(mean=1.0, low=low, high=high, num_items=60)
        run = Run({"kind": "$5_{ $"}, {}, summary.model_copy(update={"validation_intervals": {"accuracy": interval}}))
        assert draw_tunings(ranked([run], "accuracy", lower_is_better=False), "accuracy").startswith("<svg")


def test_a_loss_is_better_where_it_is_lower_and_an_unknown_figure_is_refused(shared_site: Site) -> None:
    cells = [({"loss": f"{loss}"}, {}, {"validation": 0.5, "test": 0.0, "loss": loss, "seconds": loss}) for loss in (0.9, 0.4)]
    assert compared(shared_site, *cells, criterion="loss").chosen == {"loss": "0.4"}
    cells[0][2]["tokenizer"] = "other"
    with pytest.raises(ContractError, match="read by different tokenizers"):
        compared(shared_site, *cells, criterion="loss")
    assert compared(shared_site, *cells).num_runs == 2, "an accuracy means the same for both"
    with pytest.raises(ContractError, match="has no pearson on validation; choose by accuracy, loss"):
        compared(shared_site, *cells, criterion="pearson")


def test_one_training_is_not_compared_with_itself(shared_site: Site) -> None:
    """Its summaries may differ where only what is asked of it does."""
    asked = ({"validation": 0.5, "test": 0.1}, {"validation": 0.5, "test": 0.2})
    for one, two in (({"k": "8"}, {"k": "16"}), ({}, {})):
        cells = [
            (settings, {"a.seed": f"{n}"}, fields) for n, (settings, fields) in enumerate(zip((one, two), asked, strict=True))
        ]
        with pytest.raises(ContractError, match=r"a\.seed=0 and .*a\.seed=1 are one training: .*leave it out of --grid"):
            compared(shared_site, *cells)


def test_figures_on_more_items_do_not_choose_but_over_seeds(shared_site: Site) -> None:
    fields = [{"validation": 0.5 + number / 10, "test": 0.5, "num_items": 40 + number} for number in (0, 1)]
    seeds = [({"k": "8"}, {"labelled.seed": f"{number}"}, one) for number, one in enumerate(fields)]
    assert compared(shared_site, *seeds).num_runs == 2
    cells = [({"k": f"{number}"}, {}, one) for number, one in enumerate(fields)]
    with pytest.raises(ContractError, match="k=0 was judged on 40 validation items, k=1 on 41"):
        compared(shared_site, *cells)
