"""Text on its way from a source to a mixture of tokens, and the verdict on it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tasks.contracts.shared import Count, Counts, check_conserved, reasons
from tasks.core.artifact import Artifact


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
        check_conserved("ingest", self.num_records, self.num_documents, self.quarantined)
        return self

    def summary(self) -> str:
        """One line for a person."""
        lost = f", {reasons(self.quarantined, 'quarantined')}" if self.quarantined else ""
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
        check_conserved("clean", self.num_documents_in, self.num_documents, self.drops_by_reason)
        return self

    def summary(self) -> str:
        """One line for a person."""
        languages = ", ".join(f"{count:,} {name}" for name, count in self.documents_by_language.items())
        return f"{self.num_documents:,} of {self.num_documents_in:,} kept ({languages}), {reasons(self.drops_by_reason)}"


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
        check_conserved("dedup", self.num_documents_in, self.num_documents + self.num_contaminated, lost)
        check_conserved("split", self.num_documents, 0, self.documents_by_split)
        return self

    def summary(self) -> str:
        """One line for a person."""
        low = {f"low quality ({reason})": count for reason, count in self.low_quality_by_reason.items()}
        lost = reasons(self.removed_by_reason | self.contaminated_by_reason | low)
        marked = f", {sum(self.marked_by_reason.values()):,} marked" if self.marked_by_reason else ""
        looked = "" if self.num_heldout_items is None else f"; looked for {self.num_heldout_items:,} held-out items"
        return f"{self.num_documents:,} of {self.num_documents_in:,} kept, {lost}{marked}{looked}"


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
