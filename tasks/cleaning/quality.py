"""Quality: each document gets a score by a small linear model; those that score low may be dropped.

In: `CleanCorpus`. Out: `CleanCorpus` with a column `quality`, or the corpus itself where nothing is scored. Invariants: only the
training split teaches; a document that taught is scored by a model that did not see it; in = kept + dropped by reason; the
number of workers changes no byte.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field

from tasks.cleaning.base import Language
from tasks.cleaning.decontamination import MARKED
from tasks.cleaning.deduplication import DOCUMENTS
from tasks.cleaning.examples import Example, Examples, fold_of, read_examples
from tasks.cleaning.reliability import area_under_curve, bins_of, calibration_error, draw
from tasks.cleaning.scorer import WHOLE, Scorer, load_scorer, train
from tasks.contracts import SPLITS, CleanCorpus
from tasks.core.artifact import EXTRA_DIR, Spec
from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.store import write_durably
from tasks.core.tables import Row, TableWriter, read_group, read_rows, row_groups, write_table
from tasks.core.workers import run_jobs, workers_for

LOW = dict.fromkeys(("id", "source", "lang", "split", "reason"), "string") | {"quality": "float64"}

_WORK = "work"
_SCORERS = "quality"
_MIN_EXAMPLES = 20  # of each class; fewer teach nothing that would hold for other texts
_DIGITS = 6


class NoScore(Spec):
    """Documents are not scored: the corpus passes as it is."""

    kind: Literal["skip"]


class BelowScore(Spec):
    """Documents that score below a number are dropped."""

    kind: Literal["threshold"]
    min_score: Annotated[float, Field(gt=0, lt=1, description="Smallest score that is kept.")]


class BelowPercentile(Spec):
    """The lowest share of each language is dropped, as measured on its training split."""

    kind: Literal["percentile"]
    share: Annotated[float, Field(gt=0, lt=1, description="Share of documents of each language that goes.")]


Drop = Annotated[BelowScore | BelowPercentile, Field(discriminator="kind")]


class LinearScorer(Spec):
    """A linear model of hashed n-grams tells good examples from others, one a language."""

    kind: Literal["linear"]
    positive: Annotated[Examples, Field(description="Good text: trusted sources, or files.")]
    negative: Annotated[Examples, Field(description="The other text, e.g. a crawl.")]
    drop: Annotated[Drop | None, Field(description="Which documents are dropped; off: none, the score is a column only.")] = None
    max_examples: Annotated[int, Field(ge=20, le=1_000_000, description="Examples of each class and language at most.")] = 5_000
    seed: Annotated[int, Field(ge=0, description="Seed of the choice of examples and of their folds.")] = 0


class QualitySpec(Spec):
    """Whether and how documents are scored."""

    method: Annotated[NoScore | LinearScorer, Field(discriminator="kind", description="skip, or a scorer.")] = NoScore(
        kind="skip"
    )

    def pinned(self, site: Site) -> Self:
        """Fills in what the files of examples are."""
        if not isinstance(self.method, LinearScorer):
            return self
        sides = {name: getattr(self.method, name).pinned(site) for name in ("positive", "negative")}
        return self.model_copy(update={"method": self.method.model_copy(update=sides)})

    def identity(self) -> dict[str, Any]:
        """Returns names, contents and settings; never where files lie."""
        found = self.model_dump(mode="json")
        if isinstance(self.method, LinearScorer):
            found["method"] |= {"positive": self.method.positive.identity(), "negative": self.method.negative.identity()}
        return found


class _Piece(NamedTuple):
    """One row group to score; its results carry its number."""

    number: int
    path: Path
    group: int
    work: Path
    teachers: frozenset[str]
    seed: int

    @property
    def scored(self) -> Path:
        return self.work / f"{self.number:06d}.json"


def _is_off(spec: Any) -> bool:
    return isinstance(spec.method, NoScore)


@stage(version=3, name="score_quality", retry=DISK, packages=("scikit-learn", "numpy", "pyarrow"), passes=_is_off)
def score_quality(spec: QualitySpec, corpus: CleanCorpus, *, ctx: StageContext) -> CleanCorpus:
    """Trains the scorers, scores every document and drops the low ones where that is asked for.

    Raises:
        ContractError: No language has enough examples of both classes, or a split has no document left.
    """
    method = spec.method
    assert isinstance(method, LinearScorer)
    work = ctx.dir / _WORK
    work.mkdir(exist_ok=True)
    examples = read_examples(corpus, method.positive, method.negative, method.max_examples, method.seed, ctx.site)
    scorers = _scorers(examples, method.seed, work, ctx)
    teachers = frozenset({*method.positive.sources, *method.negative.sources})
    groups = row_groups(corpus.path / "documents")
    pieces = [_Piece(number, path, group, work, teachers, method.seed) for number, (path, group) in enumerate(groups)]
    waiting = [piece for piece in pieces if not piece.scored.exists()]
    for done in run_jobs(score_piece, waiting, workers_for(corpus.num_bytes, ctx.site.data_workers)):
        ctx.progress(len(pieces) - len(waiting) + done, len(pieces), "pieces")
    facts = _write(method.drop, corpus, pieces, ctx.dir)
    facts["quality"] = _report(examples, scorers, ctx.dir) | facts["quality"]
    shutil.rmtree(work)
    return ctx.commit(CleanCorpus, **facts)


def _scorers(examples: Mapping[Language, Sequence[Example]], seed: int, work: Path, ctx: StageContext) -> dict[Language, Scorer]:
    """Trains a scorer for each language with enough examples; the work folder keeps all folds, the artifact the whole."""
    scorers: dict[Language, Scorer] = {}
    for lang, found in examples.items():
        teaching = [one for one in found if not one.is_held_out]
        counts = Counter(one.is_good for one in teaching)
        if min(counts[True], counts[False]) < _MIN_EXAMPLES:
            ctx.log.warning(
                "quality: %s has %d good and %d other examples, %d of each are needed: its documents are not scored",
                *(lang, counts[True], counts[False], _MIN_EXAMPLES),
            )
            continue
        folds = [fold_of(one.id, seed) for one in teaching]
        scorers[lang] = train(lang, [one.text for one in teaching], [one.is_good for one in teaching], folds)
        for folder, scorer in ((work / _SCORERS, scorers[lang]), (ctx.dir / _SCORERS, scorers[lang].whole())):
            folder.mkdir(exist_ok=True)
            scorer.save(folder / f"{lang}.npz")
    if not scorers:
        raise ContractError("quality: no language has enough examples of both classes; name more sources or files")
    return scorers


def score_piece(piece: _Piece) -> None:
    """Scores one row group; the file with its scores comes last and says that it is done."""
    rows = read_group(piece.path, piece.group, ["id", "source", "lang", "split", "text"])
    scores: list[float | None] = [None] * len(rows)
    for path in sorted((piece.work / _SCORERS).glob("*.npz")):
        own = [number for number, row in enumerate(rows) if row["lang"] == path.stem]
        folds = [_fold(rows[number], piece) for number in own]
        found = load_scorer(path).scores([rows[number]["text"] for number in own], folds)
        for number, score in zip(own, found, strict=True):
            scores[number] = round(float(score), _DIGITS)
    write_durably(piece.scored, json.dumps(scores))


def _fold(row: Row, piece: _Piece) -> int:
    """Returns the fold whose model did not see the document; one that did not teach may be scored by the whole model."""
    return fold_of(row["id"], piece.seed) if row["split"] == "train" and row["source"] in piece.teachers else WHOLE


def thresholds(drop: Drop | None, scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the smallest score that is kept of each language, given those of its training split."""
    if drop is None:
        return {}
    if isinstance(drop, BelowScore):
        return dict.fromkeys(scores, drop.min_score)
    return {lang: sorted(found)[int(drop.share * len(found))] for lang, found in scores.items() if found}


def _write(drop: Drop | None, corpus: CleanCorpus, pieces: Sequence[_Piece], folder: Path) -> dict[str, Any]:
    """Writes the documents that stay and the list of those that go, and counts what is written."""
    scores = [score for piece in pieces for score in json.loads(piece.scored.read_text(encoding="utf-8"))]
    columns = MARKED if corpus.marked_by_reason else DOCUMENTS
    about = list(read_rows(corpus.path / "documents", ["lang", "split"]))
    training: dict[str, list[float]] = {}
    for row, score in zip(about, scores, strict=True):
        if score is not None and row["split"] == "train":
            training.setdefault(row["lang"], []).append(score)
    least = thresholds(drop, training)
    low: list[Row] = []
    counts = {name: Counter[str]() for name in ("split", "lang", "source")}
    num_bytes = 0
    with TableWriter(folder / "documents", columns | {"quality": "float64"}) as kept:
        for row, score in zip(read_rows(corpus.path / "documents", list(columns)), scores, strict=True):
            if score is not None and drop is not None and score < least.get(row["lang"], 0.0):
                low.append({name: row.get(name) for name in LOW} | {"reason": f"{drop.kind}:{row['lang']}", "quality": score})
                continue
            kept.write(row | {"quality": score})
            num_bytes += len(row["text"].encode("utf-8"))
            for name, count in counts.items():
                count[row[name]] += 1
    _require_splits(counts["split"], len(low))
    write_table(folder / "low_quality.parquet", LOW, low)
    for path in corpus.path.glob("*.*"):
        if path.name in ("removed.parquet", "clusters.json", "repeated_lines.json", "contamination.parquet"):
            shutil.copyfile(path, folder / path.name)
    return corpus.facts() | {
        "num_documents": kept.num_rows,
        "num_bytes": num_bytes,
        "low_quality_by_reason": dict(sorted(Counter(row["reason"] for row in low).items())),
        "documents_by_split": {split: counts["split"][split] for split in SPLITS},
        "documents_by_language": dict(sorted(counts["lang"].items())),
        "documents_by_source": dict(sorted(counts["source"].items())),
        "quality": {f"{lang}/smallest_kept": value for lang, value in sorted(least.items())}
        | {f"{lang}/median": float(np.median(found)) for lang, found in sorted(training.items())},
    }


def _require_splits(by_split: Counter[str], num_low: int) -> None:
    if empty := [split for split in SPLITS if not by_split[split]]:
        raise ContractError(f"quality drops {num_low} documents and leaves none for {' and '.join(empty)}; drop fewer")


def _report(examples: Mapping[Language, Sequence[Example]], scorers: Mapping[Language, Scorer], folder: Path) -> dict[str, float]:
    """Measures the scorers on held-out examples, draws the diagram and returns the figures."""
    figures: dict[str, float] = {}
    drawn: dict[str, tuple[Any, Any]] = {}
    documents = list(read_rows(folder / "documents", ["lang", "quality"]))
    for lang, scorer in scorers.items():
        held = [one for one in examples[lang] if one.is_held_out]
        truth = [one.is_good for one in held]
        found = scorer.scores([one.text for one in held], [WHOLE] * len(held)).tolist() if held else []
        bins = bins_of(found, truth) if held else []
        figures |= {f"{lang}/held_out_examples": len(held)}
        if held:
            figures[f"{lang}/calibration_error"] = round(calibration_error(bins), _DIGITS)
        if len(set(truth)) == 2:
            figures[f"{lang}/auc"] = round(area_under_curve(found, truth), _DIGITS)
        drawn[lang] = (bins, [row["quality"] for row in documents if row["lang"] == lang])
    draw(drawn, folder / EXTRA_DIR / "reliability.svg")
    return figures
