"""One document through cleaning: extract, repair, mask, identify, filter.

In: a raw document and the spec. Out: a row of the clean corpus or a row of the dropped ones. Invariant: a pure function
of document and spec; a dropped text is masked too, since it is kept and shown.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field

from tasks.cleaning.base import Judge, Language
from tasks.cleaning.c4 import C4
from tasks.cleaning.extract import HtmlMode, Unextractable, extract
from tasks.cleaning.filters import FilterSpec
from tasks.cleaning.fineweb import FineWebQuality
from tasks.cleaning.gopher_quality import GopherQuality
from tasks.cleaning.gopher_repetition import GopherRepetition
from tasks.cleaning.language import identify
from tasks.cleaning.pii import mask
from tasks.cleaning.repair import GAPS, repair
from tasks.core.artifact import AS_JSON, Spec

Row = dict[str, Any]

_DEFAULT_FILTERS = (
    GopherRepetition(kind="gopher_repetition"),
    GopherQuality(kind="gopher_quality"),
    C4(kind="c4"),
    FineWebQuality(kind="fineweb_quality"),
)


class CleanSpec(Spec):
    """How raw documents become clean text."""

    html: Annotated[
        HtmlMode,
        Field(description="How text is taken from HTML: documentation keeps the page without navigation, article guesses."),
    ] = "documentation"
    languages: Annotated[tuple[Language, ...], Field(min_length=1, description="Languages that are kept.")] = ("zh", "en")
    min_language_score: Annotated[
        float, Field(ge=0, le=1, description="Smallest score of the wanted languages together; FineWeb uses 0.65 for its one.")
    ] = 0.65
    mask_personal_data: Annotated[bool, Field(description="Mask mail and IP addresses, Chinese mobile and identity numbers.")] = (
        True
    )
    filters: Annotated[
        tuple[Annotated[FilterSpec, AS_JSON], ...], Field(description="Filters, in the order in which they are asked.")
    ] = _DEFAULT_FILTERS


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a document: `reason` is set where it is dropped."""

    row: Row
    reason: str | None = None
    masked: Counter[str] = field(default_factory=Counter)


def cleaner(spec: CleanSpec) -> Callable[[Row], Cleaned]:
    """Returns the function that cleans one document; filters are built once."""
    judges: list[tuple[str, Judge]] = [(one.kind, one.build()) for one in spec.filters]
    return lambda raw: _clean(raw, spec, judges)


@lru_cache(maxsize=1)
def cleaner_of(spec_json: str) -> Callable[[Row], Cleaned]:
    """Returns the cleaner of a spec in its JSON form, built once a process."""
    return cleaner(CleanSpec.model_validate_json(spec_json))


def _clean(raw: Row, spec: CleanSpec, judges: list[tuple[str, Judge]]) -> Cleaned:
    text, masked = raw["text"], Counter[str]()
    try:
        text = repair(extract(text, raw["format"] or "plain", spec.html))
        lost = None if text else "repair:nothing_left"
    except Unextractable as error:
        lost = f"extract:{error}"
    if spec.mask_personal_data:
        text, masked = mask(text)
    if lost is not None:
        return _dropped(raw, raw["lang"], text, lost)
    lang, score = identify(text, spec.languages)
    if lang not in spec.languages:
        return _dropped(raw, lang, text, "language:not_wanted")
    if score < spec.min_language_score:
        return _dropped(raw, lang, text, "language:unsure")
    for kind, judge in judges:
        kept, reason = judge(text, lang)
        if reason is not None or not kept.strip():
            return _dropped(raw, lang, text, f"{kind}:{reason or 'nothing_left'}")
        text = kept
    text = GAPS.sub("\n\n", text).strip("\n")
    row = {"id": raw["id"], "source": raw["source"], "licence": raw["licence"], "lang": lang, "lang_score": score, "text": text}
    return Cleaned(row, masked=masked)


def _dropped(raw: Row, lang: str | None, text: str, reason: str) -> Cleaned:
    return Cleaned({"id": raw["id"], "source": raw["source"], "lang": lang, "reason": reason, "text": text}, reason)
