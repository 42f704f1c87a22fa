"""The model card: what a version is, what it was made from, how good it is, and where it fails.

In: the artifacts of the chain. Out: Markdown. Invariants: the same artifacts give the same bytes; every figure comes from an
artifact; what others wrote (names, licences, warnings) is escaped.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.contracts import (
    Checkpoint,
    CleanCorpus,
    Conversations,
    EvalReport,
    FilteredCorpus,
    Preferences,
    QualityReport,
    Verdict,
)
from tasks.core.artifact import MANIFEST_NAME, Artifact
from tasks.core.store import Store, read_manifest
from tasks.core.text import one_line
from tasks.core.tracking import BASES
from tasks.modeling.adapted import BASE, is_adapted

_SHOWN_RECIPE = 60
_SCORED_ON = "Held-out documents and instructions, which select nothing; intervals by bootstrap over them."


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the chain found out about a model.

    Attributes:
        answering: What learned from preferences, where the model is one that did.
        preferences: What it learned from.
    """

    base: Checkpoint
    tuned: Checkpoint
    report: EvalReport
    verdict: Verdict
    quality: QualityReport
    corpus: CleanCorpus
    conversations: Conversations
    answering: Checkpoint | None = None
    preferences: Preferences | None = None

    @property
    def instructed(self) -> Checkpoint:
        """What came out of the tuning on instructions."""
        return self.answering or self.tuned

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        return tuple(dict.fromkeys((*self.base.warnings, *self.tuned.warnings, *self.quality.warnings)))


def model_card(name: str, purpose: str, found: Findings, *, alone: bool = False) -> str:
    """Returns the card as Markdown; `alone` says that the version holds an adapter and no more."""
    sections = [
        [f"# {name}", "", cell(purpose), "", f"Digest `{found.tuned.digest[:16]}`."],
        _model(found),
        _data(found),
        scores_section(found.report, _SCORED_ON),
        verdict_section(found.verdict),
        _warnings(found),
        _limits(found),
        _usage(name, found, alone=alone),
        recipe_section(_made(found)),
    ]
    return "\n".join("\n".join(lines) + "\n" for lines in sections)


def _made(found: Findings) -> list[Artifact]:
    made = (found.corpus, found.conversations, found.base, found.answering, found.preferences, found.tuned)
    return [one for one in made if one is not None]


def _model(found: Findings) -> list[str]:
    folder = found.tuned.path / "model"
    config = json.loads((folder / (BASE if is_adapted(folder) else "") / "config.json").read_text(encoding="utf-8"))
    rows = [
        ("architecture", config.get("model_type", "unknown")),
        ("parameters", f"{found.tuned.num_parameters:,} ({found.tuned.num_trained_parameters:,} trained in tuning)"),
        ("context", f"{config.get('max_position_embeddings', 'unknown')} tokens"),
        ("vocabulary", f"{config.get('vocab_size', 'unknown')} entries"),
        ("pretraining", pretraining(found.base)),
        ("tuning", _training(found.instructed)),
        *([] if found.answering is None else [("learning from preferences", _training(found.tuned))]),
        ("base model", f"`{found.base.digest[:16]}`"),
    ]
    return ["## What it is", "", *table(("", ""), rows)]


def _training(made: Checkpoint) -> str:
    return f"{made.method}, {made.num_tokens:,} tokens in {made.num_steps:,} steps"


def pretraining(base: Checkpoint) -> str:
    """Says how the base came to be."""
    given = f"a model that others made (licence: {base.licence})"
    if base.method == "adopted":
        return f"none here: {given}"
    trained = f"{base.num_tokens:,} tokens in {base.num_steps:,} steps, {base.precision}"
    return trained if base.licence is None else f"{trained}, from {given}"


def corpus_use(found: Findings) -> str:
    """Says what the corpus was used for."""
    if found.base.method != "adopted":
        return "pretraining"
    is_replayed = bool(read_manifest(found.instructed.path).spec.get("replay"))
    return "scoring and replay in tuning" if is_replayed else "scoring"


def _data(found: Findings) -> list[str]:
    languages = ", ".join(f"{cell(name)} {count:,}" for name, count in sorted(found.corpus.documents_by_language.items()))
    corpus, quality = found.corpus, found.quality
    kept = f"{corpus.num_documents:,} documents after cleaning and deduplication ({languages}), {corpus.num_bytes:,} bytes."
    held = f"Held-out items: {_contamination(corpus)}."
    checks = f"Quality: {quality.num_checks} checks, {len(quality.failures)} critical and {len(quality.warnings)} warnings."
    use = corpus_use(found)
    what = "Pretraining" if use == "pretraining" else f"General text, for {use}"
    return [
        "## Data",
        "",
        f"{what}: {kept} {held} {checks}",
        "",
        *table(("source", "licence", "split", "documents"), _sources(found.corpus)),
        "",
        "Tuning and held-out instructions:",
        "",
        *table(("set", "licence", "items"), _sets(found.conversations)),
        *_preference_sets(found.preferences),
    ]


def _preference_sets(preferences: Preferences | None) -> list[str]:
    if preferences is None:
        return []
    return ["", "Pairs of answers, learned from and held out:", "", *table(("set", "licence", "items"), _sets(preferences))]


def _contamination(corpus: CleanCorpus) -> str:
    """Says what became of documents that hold held-out items."""
    reasons = ", ".join(f"{cell(name)} {count:,}" for name, count in sorted(corpus.contaminated_by_reason.items()))
    marked = sum(corpus.marked_by_reason.values())
    left_out = f"{corpus.num_contaminated:,} documents that held one were left out" + (f" ({reasons})" if reasons else "")
    return left_out + (f", {marked:,} were kept" if marked else "")


def _sources(corpus: CleanCorpus) -> list[tuple[str, str, str, str]]:
    """Returns documents by source, licence and split, counted from the rows."""
    import pyarrow.dataset as pads

    rows = pads.dataset(corpus.path / "documents", format="parquet").to_table(columns=["source", "licence", "split"])
    keys = ["source", "licence", "split"]
    counted = rows.group_by(keys).aggregate([([], "count_all")]).to_pylist()
    return sorted((*(str(row[key]) for key in keys), f"{row['count_all']:,}") for row in counted)  # type: ignore[misc]


def _sets(items: Conversations | Preferences) -> list[tuple[str, str, str]]:
    spec = read_manifest(items.path).spec
    licences = {one["name"]: one.get("licence", "") for part in ("train", "heldout") for one in spec.get(part) or ()}
    return [(name, licences.get(name, "not stated"), f"{count:,}") for name, count in sorted(items.items_by_source.items())]


def scores_section(report: EvalReport, note: str) -> list[str]:
    """Returns the section of figures and differences."""
    metrics = [(name, str(value), f"{value.num_items:,}") for name, value in sorted(report.metrics.items())]
    differences = [(f"tuned - {name}", str(value), f"{value.num_items:,}") for name, value in sorted(report.differences.items())]
    confidence = read_manifest(report.path).spec["bootstrap"]["confidence"]
    head = ("figure", f"mean [{100 * confidence:g}% interval]", "items")
    return ["## Scores", "", note, "", *table(head, metrics), "", *table(head, differences)]


def verdict_section(verdict: Verdict) -> list[str]:
    """Returns the section of the verdict."""
    answer = "passed" if verdict.passed else "did not pass"
    return ["## Verdict", "", f"Judged last: it {answer}.", "", *bullets(verdict.reasons)]


def _warnings(found: Findings) -> list[str]:
    return ["## Warnings", "", *(bullets(found.warnings) or ["None."])]


def _limits(found: Findings) -> list[str]:
    languages = " and ".join(cell(name) for name in sorted(found.corpus.documents_by_language))
    return [
        "## Limits",
        "",
        *bullets(
            (
                _knowledge(found.base, languages),
                f"Not tuned for safety. {_personal_data(found.corpus)}",
                "Scores hold for the held-out part of the same sources; on other text it is worse.",
                "Scores and the roll-out check are for greedy answers.",
            )
        ),
    ]


def _personal_data(corpus: CleanCorpus) -> str:
    masked = _masked_kinds(corpus)
    if masked is None:
        return "Whether personal data was masked in the corpus is not known; in the instruction data it was not."
    if not masked:
        return "Personal data was not masked."
    kinds = ", ".join(kind.replace("_", " ") for kind in masked)
    return f"Personal data ({kinds}) was masked in the corpus by rules, which miss some; not in the instruction data."


def _masked_kinds(corpus: CleanCorpus) -> Sequence[str] | None:
    """Returns what was masked when the corpus was cleaned; none where that is not in the store any more."""
    store, folder = Store(corpus.path.parent.parent), corpus.path
    while (folder / MANIFEST_NAME).exists():
        manifest = read_manifest(folder)
        if manifest.kind == FilteredCorpus.kind():
            return tuple(manifest.spec["mask_personal_data"])
        made_from = [one for one in manifest.inputs.values() if one.kind in (CleanCorpus.kind(), FilteredCorpus.kind())]
        if not made_from:
            return None
        folder = store.folder(made_from[0].kind, made_from[0].fingerprint)
    return None


def _knowledge(base: Checkpoint, languages: str) -> str:
    if base.licence is not None:
        return "What the model it started from was trained on is for its makers to say; it states wrong things fluently."
    return (
        f"Trained from scratch on {base.num_tokens:,} tokens of {languages}: it knows that text and little else, "
        "and states wrong things fluently."
    )


def _usage(name: str, found: Findings, *, alone: bool) -> list[str]:
    plain = "The folder `artifacts/model` loads with `transformers`."
    adapter = f"It is an adapter: its base is the version of `{BASES}` with digest `{found.base.digest[:16]}`."
    return [
        "## Use",
        "",
        "```python",
        "import mlflow",
        f'model = mlflow.pyfunc.load_model("models:/{name}@champion")',
        'model.predict(["..."], params={"max_new_tokens": 64})',
        "```",
        "",
        f"Or `textmill serve {name}` and `textmill chat {name}`. {adapter if alone else plain}",
    ]


def recipe_section(artifacts: Iterable[Artifact]) -> list[str]:
    """Returns the settings of the stages that made these artifacts."""
    lines: list[tuple[str, str]] = []
    for artifact in artifacts:
        manifest = read_manifest(artifact.path)
        lines += [(f"{manifest.stage}.{key}", value) for key, value in _flat(manifest.spec)]
    shown = [(f"`{cell(key)}`", value) for key, value in lines[:_SHOWN_RECIPE]]
    rest = [f"and {len(lines) - _SHOWN_RECIPE} more settings in the run's parameters."] if len(lines) > _SHOWN_RECIPE else []
    return ["## Recipe", "", *table(("setting", "value"), shown), *rest]


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _flat(value[key], f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, "off" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(value if value == "---" else cell(str(value)) for value in map(str, line)) + " |" for line in lines]


def bullets(texts: Iterable[str]) -> list[str]:
    """Returns the lines of a Markdown list."""
    return [f"- {cell(text)}" for text in texts]


def cell(text: str) -> str:
    """Returns text on one line that is no Markdown table border, no link and no HTML."""
    return one_line(text, 500).replace("|", "\\|").replace("](", "]\\(").replace("<", "&lt;")
