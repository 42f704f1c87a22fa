"""The card of a labelled model: what it says, what it was made from, how good it is, and where it fails.

In: the artifacts of the chain. Out: Markdown. Invariants: those of `tasks.registry.card`.
"""

import json
from dataclasses import dataclass

from tasks.contracts import Checkpoint, EvalReport, Labelled, QualityReport, Scores, Verdict
from tasks.core.store import read_manifest
from tasks.core.tables import read_rows
from tasks.registry.card import bullets, cell, pretraining, recipe_section, scores_section, table, verdict_section

_SHOWN_LABELS = 40


@dataclass(frozen=True, slots=True)
class LabelFindings:
    """Everything the chain found out about a labelled model."""

    base: Checkpoint
    tuned: Checkpoint
    scores: Scores
    report: EvalReport
    verdict: Verdict
    quality: QualityReport
    labelled: Labelled

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        return tuple(dict.fromkeys((*self.base.warnings, *self.tuned.warnings, *self.quality.warnings)))


def labelled_card(name: str, purpose: str, found: LabelFindings) -> str:
    """Returns the card as Markdown."""
    sections = [
        [f"# {name}", "", cell(purpose), "", f"Digest `{found.tuned.digest[:16]}`."],
        _model(found),
        _data(found),
        scores_section(found.report, "Test items, which select nothing; each figure made anew of every resample of them."),
        ["The base stands for the best answer without reading: the majority label, or the mean value, of the training items."],
        verdict_section(found.verdict),
        ["## Warnings", "", *(bullets(found.warnings) or ["None."])],
        _limits(found),
        _usage(name, found.labelled),
        recipe_section((found.labelled, found.base, found.tuned)),
    ]
    return "\n".join("\n".join(lines) + "\n" for lines in sections)


def are_pairs(labelled: Labelled) -> bool:
    """Whether all items are pairs of texts: what learned from them says nothing of one text."""
    return all(row["text_pair"] is not None for row in read_rows(labelled.path / "items.parquet", ("text_pair",)))


def _model(found: LabelFindings) -> list[str]:
    config = json.loads((found.tuned.path / "model" / "config.json").read_text(encoding="utf-8"))
    labelled, tuned = found.labelled, found.tuned
    names = ", ".join(labelled.label_names[:_SHOWN_LABELS]) + (" ..." if len(labelled.label_names) > _SHOWN_LABELS else "")
    says = (
        names
        if labelled.value_range is None
        else f"a value; the items have {labelled.value_range[0]:g} to {labelled.value_range[1]:g}"
    )
    rows = [
        ("task", labelled.task.replace("_", " ")),
        ("says", says or "a value"),
        ("architecture", (config.get("architectures") or ["unknown"])[0]),
        ("parameters", f"{tuned.num_parameters:,} ({tuned.num_trained_parameters:,} trained)"),
        ("vocabulary", f"{config.get('vocab_size', 'unknown')} entries"),
        ("pretraining", pretraining(found.base)),
        ("tuning", f"{tuned.method}, {tuned.num_tokens:,} items or words in {tuned.num_steps:,} steps"),
        ("base model", f"`{found.base.digest[:16]}`"),
    ]
    return ["## What it is", "", *table(("", ""), [*rows, *_folds(tuned)])]


def _folds(tuned: Checkpoint) -> list[tuple[str, str]]:
    """Returns the figures over folds of the training items, where there were any."""
    figures = tuned.figures
    names = [name for name in figures if name.startswith("folds/") and f"{name}_spread" in figures]
    return [(f"over {name}", f"{figures[name]:.3f}, standard deviation {figures[f'{name}_spread']:.3f}") for name in names]


def _data(found: LabelFindings) -> list[str]:
    labelled, quality = found.labelled, found.quality
    spec = read_manifest(labelled.path).spec
    licences = {
        one["name"]: one.get("licence", "") for part in ("train", "validation", "heldout") for one in spec.get(part) or ()
    }
    sets = [(name, licences.get(name, "not stated"), f"{count:,}") for name, count in sorted(labelled.items_by_source.items())]
    labels = [(name, f"{count:,}") for name, count in list(labelled.items_by_label.items())[:_SHOWN_LABELS]]
    splits = ", ".join(f"{count:,} {split}" for split, count in labelled.items_by_split.items())
    checks = f"Quality: {quality.num_checks} checks, {len(quality.failures)} critical and {len(quality.warnings)} warnings."
    lines = ["## Data", "", f"{splits} items. {checks}", "", *table(("set", "licence", "items"), sets)]
    return [*lines, "", *table(("label", "items or words"), labels)] if labels else lines


def _limits(found: LabelFindings) -> list[str]:
    of_value = found.labelled.task == "regression"
    return [
        "## Limits",
        "",
        *bullets(
            (
                "Scores hold for the held-out part of the same sets; on other text it is worse.",
                "It always gives a value, also for text that has none."
                if of_value
                else "It knows these labels only, and gives one to any text; its probabilities are as good as the loss and "
                "calibration above.",
                "Longer texts are read from their start, up to the tokenizer's limit.",
            )
        ),
    ]


def _usage(name: str, labelled: Labelled) -> list[str]:
    pair = ', "text_pair": "..."' if are_pairs(labelled) else ""
    record = '{"words": ["..."]}' if labelled.task == "token_classification" else '{"text": "..."' + pair + "}"
    return [
        "## Use",
        "",
        "```python",
        "import mlflow, pandas",
        f'model = mlflow.pyfunc.load_model("models:/{name}@champion")',
        f"model.predict(pandas.DataFrame([{record}]))",
        "```",
        "",
        f"Or `textmill serve {name}`, which answers POST /invocations with `"
        + '{"dataframe_records": ['
        + record
        + "]}`. The folder `artifacts/model` loads with `transformers`"
        + (
            "; values are its output times `value_spread` plus `value_mean` of its config."
            if labelled.task == "regression"
            else "."
        ),
    ]
