"""The artifact types: the map of the whole pipeline on one page.

    RawCorpus -> FilteredCorpus -> CleanCorpus -> CleanCorpus (decontaminated) -> QualityReport
                                                   ^           |-> Tokenizer -> TokenizedCorpus -> Checkpoint (base)
    Conversations ---------------------------------+----------------------------------------------> Checkpoint (tuned)
    Preferences, Labelled (QualityReport) --------------------------------------------------------> Checkpoint (tuned)
    Baseline -> QualityReport
    Champion, Checkpoint, Checkpoint -> Scores -> EvalReport -> Verdict -> ModelVersion -> Deployment

In: what stages measured. Out: frozen values whose facts the next stage checks. Invariant: counts add up wherever
documents or items pass through: in = kept + dropped by reason (+ quarantined).
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.core.artifact import Artifact

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Count = Annotated[int, Field(ge=0)]
Counts = dict[str, Count]
Role = Literal["base", "tuned", "champion"]
LabelledTask = Literal["classification", "multi_label", "regression", "token_classification"]


def _check_conserved(what: str, num_in: int, kept: int, lost: Counts) -> None:
    if num_in != kept + sum(lost.values()):
        raise ValueError(f"{what}: {num_in} in, but {kept} kept + {sum(lost.values())} accounted for: {lost}")


class RawCorpus(Artifact):
    """Documents as they came: `documents/*.parquet` (id, source, licence, lang, format, text), `quarantine.parquet`.

    Attributes:
        num_records: Records seen in all sources.
        num_documents: Records that became documents.
        quarantined: Records set aside, by reason.
        documents_by_source: Documents of each source.
        licences: Licence of each source.
    """

    num_records: Count
    num_documents: Count
    num_bytes: Count
    quarantined: Counts
    documents_by_source: Counts
    licences: dict[str, str]

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        _check_conserved("ingest", self.num_records, self.num_documents, self.quarantined)
        return self

    def summary(self) -> str:
        """One line for a person."""
        lost = f", {sum(self.quarantined.values())} quarantined" if self.quarantined else ""
        return f"{self.num_documents:,} documents, {self.num_bytes / 1e6:.1f} MB{lost}"


class FilteredCorpus(Artifact):
    """Documents that passed the filters: `documents/*.parquet` (id, source, licence, lang, lang_score, text).

    `dropped/*.parquet` (id, source, lang, reason, text) keeps every other document.

    Attributes:
        drops_by_reason: Documents dropped, by the filter and its reason.
        masked: Pieces of personal data masked, by kind.
    """

    num_documents_in: Count
    num_documents: Count
    num_bytes: Count
    drops_by_reason: Counts
    documents_by_language: Counts
    masked: Counts

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        _check_conserved("clean", self.num_documents_in, self.num_documents, self.drops_by_reason)
        return self

    def summary(self) -> str:
        """One line for a person."""
        languages = ", ".join(f"{count:,} {name}" for name, count in self.documents_by_language.items())
        return f"{self.num_documents:,} of {self.num_documents_in:,} kept ({languages}), {_reasons(self.drops_by_reason)}"


class CleanCorpus(Artifact):
    """Deduplicated documents with their split: `documents/*.parquet` (id, source, licence, lang, text, cluster, split).

    `removed.parquet` (id, source, reason, cluster, kept_id) names the survivor of each removed duplicate, `clusters.json` and
    `repeated_lines.json` hold examples. A cluster lies in one split. Once decontaminated, `contamination.parquet` (id, source,
    split, item, reason, excerpt, num_ngrams) names each held-out item found; marked documents have a column `contamination`.
    Scored documents have a column `quality`; `low_quality.parquet` names those dropped, `quality/<lang>.npz` is the scorer.

    Attributes:
        removed_by_reason: Documents removed as `exact` or `near` duplicates.
        repeated_lines: Lines taken out because they stand in many documents, by source.
        contaminated_by_reason: Documents dropped because they hold a held-out item: its `answer`, or an `ngram` of it.
        marked_by_reason: Such documents that were kept and marked.
        num_heldout_items: Held-out items that were looked for; none before decontamination.
        low_quality_by_reason: Documents dropped because they scored low, by the rule and the language.
        quality: Figures of the scorers, `<language>/<figure>`: on held-out examples, and the smallest score kept.
        documents_by_split: Documents of each split.
    """

    num_documents_in: Count
    num_documents: Count
    num_bytes: Count
    removed_by_reason: Counts
    repeated_lines: Counts = Field(default_factory=dict)
    contaminated_by_reason: Counts = Field(default_factory=dict)
    marked_by_reason: Counts = Field(default_factory=dict)
    num_heldout_items: Count | None = None
    low_quality_by_reason: Counts = Field(default_factory=dict)
    quality: dict[str, float] = Field(default_factory=dict)
    documents_by_split: Counts
    documents_by_language: Counts
    documents_by_source: Counts

    @property
    def num_contaminated(self) -> int:
        """Documents dropped because they hold a held-out item."""
        return sum(self.contaminated_by_reason.values())

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        lost = self.removed_by_reason | self.low_quality_by_reason
        _check_conserved("dedup", self.num_documents_in, self.num_documents + self.num_contaminated, lost)
        _check_conserved("split", self.num_documents, 0, self.documents_by_split)
        return self

    def summary(self) -> str:
        """One line for a person."""
        if self.num_heldout_items is None:
            return f"{self.num_documents:,} of {self.num_documents_in:,} kept, {_reasons(self.removed_by_reason)}"
        marked = f", {sum(self.marked_by_reason.values()):,} marked" if self.marked_by_reason else ""
        low = {f"low quality ({reason})": count for reason, count in self.low_quality_by_reason.items()}
        num_before = self.num_documents + self.num_contaminated + sum(low.values())
        return (
            f"{self.num_documents:,} of {num_before:,} kept, {_reasons(self.contaminated_by_reason | low)}{marked}; "
            f"looked for {self.num_heldout_items:,} held-out items"
        )


class Baseline(Artifact):
    """Small profile of the corpus behind the last registered model, or nothing: `quantiles.parquet`, `shares.parquet`.

    Attributes:
        model_name: Registered name; none where no check compares with it.
        version: Version that keeps the profile, none where there is none.
        corpus_digest: Digest of the corpus it was registered with.
        has_profile: Whether there is something to compare with.
    """

    model_name: str | None
    version: int | None
    corpus_digest: str | None
    has_profile: bool

    def summary(self) -> str:
        """One line for a person."""
        if self.model_name is None:
            return "no check compares with a registered corpus"
        if not self.has_profile:
            return f"{self.model_name} has no corpus to compare with yet"
        return f"corpus {str(self.corpus_digest)[:12]} of {self.model_name} version {self.version}"


class QualityReport(Artifact):
    """Verdict on a corpus: `report.html`, `results.json` (every check), `tables/*.parquet` (what was checked), `profile/`.

    `profile/` is what a registered model keeps of its corpus, for later ones to be compared with.

    Attributes:
        passed: No critical check failed.
        num_checks: Checks that were decided; never 0.
        failures: One line for each failed critical check: expectation, value seen, bound.
        warnings: The same for warnings; they mark the model.
    """

    corpus_digest: str
    passed: bool
    num_checks: Annotated[int, Field(ge=1)]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]

    def summary(self) -> str:
        """One line for a person."""
        verdict = "passed" if self.passed else "FAILED"
        return f"{verdict}: {self.num_checks} checks, {len(self.failures)} critical, {len(self.warnings)} warnings"


class Tokenizer(Artifact):
    """A `transformers` tokenizer folder: `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`.

    Attributes:
        vocab_size: Entries, special tokens included.
        bytes_per_token: UTF-8 bytes a token of clean text, by language.
        special_tokens: Role of each special token (bos, eos, pad, ...) and its text.
    """

    vocab_size: Annotated[int, Field(ge=1)]
    bytes_per_token: dict[str, float]
    special_tokens: dict[str, str]
    has_chat_template: bool

    def summary(self) -> str:
        """One line for a person."""
        rates = ", ".join(f"{rate:.2f} {name}" for name, rate in self.bytes_per_token.items())
        return f"{self.vocab_size:,} entries, bytes per token: {rates}"


class TokenizedCorpus(Artifact):
    """Memory-mapped token shards `<split>-00000.tokens` with a checked header, and `documents-<split>.parquet`.

    The table (id, lang, source, num_tokens, num_bytes) is in the order of the tokens.

    Attributes:
        tokens_by_split: Tokens of each split, the end-of-text of each document included; of a mixture with repeats.
        bytes_by_split: UTF-8 bytes of each split's text.
        warnings: Why figures on the validation part may mislead.
        mixture: Of a mixture, `<part>/<figure>`: share of the training tokens before, asked for and reached, tokens, epochs.
        diversity: Of a mixture, `before/<figure>` and `mixed/<figure>`: distinct n-grams, entropy over sources.
    """

    tokenizer_digest: str
    vocab_size: Annotated[int, Field(ge=1)]
    tokens_by_split: Counts
    bytes_by_split: Counts
    documents_by_split: Counts
    tokens_by_language: Counts
    warnings: tuple[str, ...] = ()
    mixture: dict[str, float] = Field(default_factory=dict)
    diversity: dict[str, float] = Field(default_factory=dict)

    def summary(self) -> str:
        """One line for a person."""
        return ", ".join(f"{count:,} {split}" for split, count in self.tokens_by_split.items()) + " tokens"


class Conversations(Artifact):
    """Instruction data in one form: `conversations.jsonl` (id, group, source, split, messages, keywords, match, copied).

    Attributes:
        num_items_in: Items seen.
        dropped_by_reason: Items refused, by reason.
        items_by_split: Items of each split; `test` is the held-out set, which selects nothing.
    """

    num_items_in: Count
    num_items: Count
    dropped_by_reason: Counts
    items_by_split: Counts
    items_by_source: Counts

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        _check_conserved("instructions", self.num_items_in, self.num_items, self.dropped_by_reason)
        _check_conserved("instruction split", self.num_items, 0, self.items_by_split)
        return self

    def summary(self) -> str:
        """One line for a person."""
        return ", ".join(f"{count:,} {split}" for split, count in self.items_by_split.items()) + " conversations"


class Preferences(Artifact):
    """Preference data in one form: `preferences.jsonl`, whose rows begin with id, group, source and split.

    Paired rows go on with `prompt` (messages, the last one a user's), `chosen` and `rejected` (texts of the answer), unpaired
    ones with `messages` (the last one the answer) and `is_good`. Rows of one prompt are one group, unless they name another.

    Attributes:
        num_items_in: Items seen.
        dropped_by_reason: Items refused, by reason.
        items_by_split: Items of each split; `test` is the held-out set, which selects nothing.
        num_good: Unpaired items whose answer is good.
    """

    form: Literal["paired", "unpaired"]
    num_items_in: Count
    num_items: Count
    dropped_by_reason: Counts
    items_by_split: Counts
    items_by_source: Counts
    num_good: Count | None = None

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        _check_conserved("preferences", self.num_items_in, self.num_items, self.dropped_by_reason)
        _check_conserved("preference split", self.num_items, 0, self.items_by_split)
        return self

    def summary(self) -> str:
        """One line for a person."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.items_by_split.items())
        return f"{self.form}: {splits} items, {_reasons(self.dropped_by_reason)}"


class Labelled(Artifact):
    """Labelled text in one form: `items.parquet` (id, group, source, split, text, text_pair, words, labels, value).

    What a task does not use is null: `text_pair` of single texts, `words` of all but token classification, `value` (a number) of
    all but regression, whose `labels` are null. `labels` are names: one of a class, any number of a multi-label item, one a word.

    Attributes:
        label_names: Names in the order of their numbers, which a model's head keeps; none for regression.
        value_range: Smallest and largest value of a regression.
        num_items_in: Items seen.
        dropped_by_reason: Items refused, by reason.
        items_by_split: Items of each split; `test` is the held-out set, which selects nothing.
        items_by_label: Items, or words, of each label over all splits.
    """

    task: LabelledTask
    label_names: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None
    num_items_in: Count
    num_items: Count
    dropped_by_reason: Counts
    items_by_split: Counts
    items_by_source: Counts
    items_by_label: Counts = Field(default_factory=dict)

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        _check_conserved("labelled items", self.num_items_in, self.num_items, self.dropped_by_reason)
        _check_conserved("split of labelled items", self.num_items, 0, self.items_by_split)
        return self

    def summary(self) -> str:
        """One line for a person."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.items_by_split.items())
        return f"{self.task.replace('_', ' ')}: {splits} items, {_reasons(self.dropped_by_reason)}"


class Checkpoint(Artifact):
    """A model: `model/` is a `transformers` folder (safetensors, tokenizer and chat template included).

    `adapter/` holds the unmerged adapter of a run that made one; `extra/` the curves, the log and the kept checkpoints. Where
    a method has no plain form, `model/` holds `base/`, `adapter/` and the tokenizer: scored, but neither registered nor served.

    Attributes:
        method: `pretrain`, the tuning method, `adopted` for a model that others made, or `none` for no model at all.
        base_digest: Digest of the checkpoint that the training started from; learning from preferences keeps that of the tuning.
        num_steps, num_tokens: Of the training that made it, not of its base.
        train_loss, validation_loss: Mean cross entropy in nats per target token at the end; none where nothing was trained.
        validation_bits_per_byte: The validation loss in a unit that does not depend on the tokenizer.
        held_out: Figures on the validation split. Of a model tuned on labelled text those of its task (`accuracy`, `pearson`);
            of a pretrained model `<figure>` and `<figure>/<language>`: `loss` (nats a
            predicted token), `accuracy`, `bits_per_byte` (causal models), those of the objective; `unigram_nats` and
            `bigram_nats` are the cross entropies of the same text under counts of the training split.
        context_tokens: Positions of the model; none where it counts none.
        licence: Licence of the weights that others made and this model holds or started from.
        warnings: What a reader of this model's figures must know; they travel to the model card.
        figures: Of a pretraining: peak learning rate, rows of a batch, budget in tokens, FLOPs of the hidden layers, medians of
            targets a second and of the device's utilisation (MFU). Of a tuning: peak learning rate, share of the weights
            trained, bytes kept, seconds, peak memory in bytes, targets a second, validation minus training loss;
            `folds/<figure>` and its `_spread` (standard deviation) over folds.
    """

    method: str
    tokenizer_digest: str
    base_digest: str | None = None
    num_parameters: Count
    num_trained_parameters: Count = 0
    num_steps: Count = 0
    num_tokens: Count = 0
    precision: str
    context_tokens: Count | None = None
    licence: str | None = None
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_bits_per_byte: float | None = None
    held_out: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    figures: dict[str, float] = Field(default_factory=dict)

    def summary(self) -> str:
        """One line for a person."""
        if self.method == "none":
            return "no base is given"
        size = f"{self.num_parameters / 1e6:.2f} M parameters"
        if self.validation_loss is None:
            return f"{size}, as it was given ({self.licence})"
        bits = f", {self.validation_bits_per_byte:.3f} bits per byte" if self.validation_bits_per_byte else ""
        trained = f"({self.num_trained_parameters / 1e6:.2f} M trained), {self.num_tokens:,} tokens"
        return f"{size} {trained}, validation loss {self.validation_loss:.3f}{bits}"


class Fisher(Artifact):
    """Which weights of a base its old text hangs on: `fisher.safetensors`, by name and shape of the weight; or nothing.

    Attributes:
        base_digest: Digest of the checkpoint whose weights these are.
        num_rows: Rows of text it is a mean of; 0 where the tuning asks for none.
        num_weights: Weights it has a value of.
        trace: Sum of all values.
    """

    base_digest: str
    num_rows: Count = 0
    num_weights: Count = 0
    trace: float = 0.0

    def summary(self) -> str:
        """One line for a person."""
        if not self.num_rows:
            return "not asked for"
        return f"{self.num_weights / 1e6:.2f} M weights over {self.num_rows:,} rows, trace {self.trace:.4g}"


class Champion(Artifact):
    """The registered model a new one is compared with, or nothing: `model/` is its folder where there is one.

    Attributes:
        model_name: Registered name.
        version: Version the alias `champion` pointed at, none where there is none.
        model_digest: Digest of the checkpoint that was registered as that version.
    """

    model_name: str
    version: int | None = None
    model_digest: str | None = None

    def summary(self) -> str:
        """One line for a person."""
        return f"{self.model_name} version {self.version}" if self.version else f"{self.model_name} has no champion yet"


class Interval(BaseModel):
    """A figure with its 95% bootstrap interval over `num_items` items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float
    high: float
    num_items: Count

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Scores(Artifact):
    """Figures of one model: `documents.parquet`, `items.parquet` (one row a document or item), `samples.json`.

    On labelled text: `predictions.parquet` (id, source, split, truth, said, scores, true_value, said_value, nats), `scored.json`.
    A role without a model (no champion yet) has `model_digest` none and no metrics.

    Attributes:
        metrics: Interval of each metric, e.g. `bits_per_byte/zh`, `answer_loss`, `keyword_accuracy`, `macro_f1`, `pearson`.
    """

    role: Role
    model_digest: str | None
    metrics: dict[str, Interval]

    def summary(self) -> str:
        """One line for a person."""
        shown = ("bits_per_byte", "answer_loss", "keyword_accuracy", *_LABEL_METRICS)
        figures = ", ".join(f"{name} {self.metrics[name].mean:.3f}" for name in shown if name in self.metrics)
        return f"{self.role}: {figures or 'no model'}"


class EvalReport(Artifact):
    """Base, tuned model and champion side by side: `report.html`, `comparison.json`.

    Attributes:
        differences: Paired interval of `tuned - other` by `<other>/<metric>`.
        metrics: Interval by `<role>/<metric>`.
    """

    base_digest: str
    tuned_digest: str
    champion_digest: str | None
    metrics: dict[str, Interval]
    differences: dict[str, Interval]

    def summary(self) -> str:
        """One line for a person."""
        shown = (f"base/{name}" for name in ("answer_loss", "bits_per_byte", *_LABEL_METRICS))
        parts = [f"{name} {self.differences[name]}" for name in shown if name in self.differences]
        return "tuned - base: " + ", ".join(parts)


class Verdict(Artifact):
    """Whether the tuned model may be champion: `verdict.json`.

    Attributes:
        reasons: One line for each rule: what was asked, what was seen, yes, no or undecided.
    """

    passed: bool
    tuned_digest: str
    reasons: tuple[str, ...]

    def summary(self) -> str:
        """One line for a person."""
        return ("yes: " if self.passed else "NO: ") + "; ".join(self.reasons)


class ModelVersion(Artifact):
    """A registered version: `version.json`, `card.md`.

    Attributes:
        is_champion: The alias `champion` points at it.
        run_id: MLflow run that holds its reports.
    """

    name: str
    version: Annotated[int, Field(ge=1)]
    model_digest: str
    is_champion: bool
    run_id: str

    def summary(self) -> str:
        """One line for a person."""
        return f"{self.name} version {self.version}" + (" (champion)" if self.is_champion else " (candidate)")


class Deployment(Artifact):
    """What was rolled out: `answers.json` (prompts and the served model's greedy answers), `deployment.json`.

    Attributes:
        engine: Program that served it.
    """

    name: str
    version: Annotated[int, Field(ge=1)]
    model_digest: str
    engine: str
    num_checks: Annotated[int, Field(ge=1)]

    def summary(self) -> str:
        """One line for a person."""
        return f"{self.name} version {self.version} is live ({self.engine}, {self.num_checks} checks)"


_SHOWN_REASONS = 4
_LABEL_METRICS = ("accuracy", "macro_f1", "pearson", "rmse")


def _reasons(counts: Counts) -> str:
    """Says what was lost, the most frequent reasons first, the rest as one number."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{count:,} {name}" for name, count in ordered[:_SHOWN_REASONS]]
    if rest := sum(count for _, count in ordered[_SHOWN_REASONS:]):
        shown.append(f"{rest:,} for other reasons")
    return "dropped: " + ", ".join(shown) if shown else "none dropped"
