"""Suites: the quality rules of a corpus, each one a function of the settings with its severity, in one list.

In: settings. Out: rules, each an expectation of Great Expectations over one table. Invariant: a rule names its table, its
bound and what to do when it fails; adding one is one function and one line in `RULES`.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from data_quality.rules import Rule, at_least, at_most, mostly
from tasks.core.artifact import Spec

Share = Annotated[float, Field(ge=0, le=1)]


class CheckSpec(Spec):
    """Bounds of the quality checks. Critical ones stop the run, warnings mark the model."""

    min_documents: Annotated[int, Field(ge=1, description="Critical: fewest documents of the clean corpus.")] = 50
    min_bytes: Annotated[int, Field(ge=1, description="Critical: fewest bytes of clean text.")] = 10_000
    min_validation_documents: Annotated[int, Field(ge=1, description="Warning: fewest documents to validate on.")] = 20
    min_language_share: Annotated[Share, Field(description="Warning: smallest share of bytes of each language.")] = 0.05
    max_source_share: Annotated[Share, Field(description="Warning: largest share of bytes of one source.")] = 0.9
    max_quarantined_share: Annotated[Share, Field(description="Critical: largest share of records set aside.")] = 0.1
    max_dropped_share: Annotated[Share, Field(description="Warning: largest share of documents dropped by filters.")] = 0.6
    min_source_kept_share: Annotated[Share, Field(description="Warning: smallest share kept of each source.")] = 0.1
    max_duplicate_share: Annotated[Share, Field(description="Warning: largest share removed as duplicates.")] = 0.5
    max_broken_documents: Annotated[
        Share, Field(description="Critical: largest share of documents with replacement or control characters.")
    ] = 0.02
    min_letter_share: Annotated[
        Share, Field(description="Warning: a document's smallest share of letters; 1% of documents may lie below.")
    ] = 0.2
    max_masked_per_mb: Annotated[float, Field(ge=0, description="Info: most pieces of personal data masked a megabyte.")] = 200.0


def enough_documents(spec: CheckSpec) -> Rule:
    """The clean corpus has enough documents."""
    return at_least("enough documents", "corpus", "critical", "num_documents", spec.min_documents, "add sources")


def enough_text(spec: CheckSpec) -> Rule:
    """The clean corpus has enough text."""
    return at_least("enough text", "corpus", "critical", "num_bytes", spec.min_bytes, "add sources")


def quarantine_small(spec: CheckSpec) -> Rule:
    """Few records could not be read."""
    remedy = "read quarantine.parquet of the raw corpus and mend the source"
    return at_most("few records quarantined", "corpus", "critical", "quarantined_share", spec.max_quarantined_share, remedy)


def ids_unique(spec: CheckSpec) -> Rule:
    """No id stands twice."""
    return Rule(
        "ids unique", "documents", "critical", "ExpectColumnValuesToBeUnique", {"column": "id_key"}, "no id twice", "report this"
    )


def documents_not_empty(spec: CheckSpec) -> Rule:
    """No document is empty."""
    return at_least("no empty document", "documents", "critical", "num_chars", 1, "report this")


def no_same_texts(spec: CheckSpec) -> Rule:
    """Dedup left no two equal texts."""
    return at_most("no text twice", "corpus", "critical", "num_same_texts", 0, "report this: dedup failed")


def no_leak(spec: CheckSpec) -> Rule:
    """No cluster of duplicates lies in two splits."""
    return at_most("no cluster in two splits", "corpus", "critical", "num_clusters_in_two_splits", 0, "report this")


def splits_filled(spec: CheckSpec) -> Rule:
    """Each split has documents."""
    return at_least("each split filled", "splits", "critical", "num_documents", 1, "raise the shares of dedup")


def text_unbroken(spec: CheckSpec) -> Rule:
    """Few documents hold replacement or control characters."""
    rule = at_most("text unbroken", "documents", "critical", "broken_share", 0, "look for a source in a wrong encoding")
    return mostly(rule, 1 - spec.max_broken_documents)


def enough_validation(spec: CheckSpec) -> Rule:
    """The smallest split has enough documents to tell models apart."""
    remedy = "raise dedup.validation_share and test_share"
    return at_least("enough held out", "splits", "warning", "num_documents", spec.min_validation_documents, remedy)


def languages_balanced(spec: CheckSpec) -> Rule:
    """No language has nearly vanished."""
    remedy = "look at the drops of that language, or leave it out of clean.languages"
    return at_least("each language has its share", "languages", "warning", "byte_share", spec.min_language_share, remedy)


def sources_balanced(spec: CheckSpec) -> Rule:
    """No source is nearly everything."""
    return at_most("no source dominates", "sources", "warning", "byte_share", spec.max_source_share, "add other sources")


def filters_moderate(spec: CheckSpec) -> Rule:
    """The filters leave enough."""
    return at_most("filters moderate", "corpus", "warning", "dropped_share", spec.max_dropped_share, "look at dropped/")


def sources_survive(spec: CheckSpec) -> Rule:
    """No source is nearly all lost."""
    remedy = "look at the drops of that source: its format or language may need other settings"
    return at_least("each source survives", "sources", "warning", "kept_share", spec.min_source_kept_share, remedy)


def duplicates_few(spec: CheckSpec) -> Rule:
    """Duplicates are not most of the corpus."""
    remedy = "look at clusters.json: the same source may be read twice"
    return at_most("few duplicates", "corpus", "warning", "duplicate_share", spec.max_duplicate_share, remedy)


def mostly_letters(spec: CheckSpec) -> Rule:
    """Documents are text, not tables of numbers."""
    rule = at_least("mostly letters", "documents", "warning", "letter_share", spec.min_letter_share, "raise the filters' bounds")
    return mostly(rule, 0.99)


def little_masked(spec: CheckSpec) -> Rule:
    """Personal data is rare."""
    remedy = "look at the sources: much personal data was masked"
    return at_most("little personal data", "corpus", "info", "masked_per_mb", spec.max_masked_per_mb, remedy)


RULES: tuple[Callable[[CheckSpec], Rule], ...] = (
    enough_documents,
    enough_text,
    quarantine_small,
    ids_unique,
    documents_not_empty,
    no_same_texts,
    no_leak,
    splits_filled,
    text_unbroken,
    enough_validation,
    languages_balanced,
    sources_balanced,
    filters_moderate,
    sources_survive,
    duplicates_few,
    mostly_letters,
    little_masked,
)
