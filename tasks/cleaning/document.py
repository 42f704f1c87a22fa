"""One document through cleaning: extract, repair, mask, identify, filter.

In: a raw document and the spec. Out: a row of the clean corpus or a row of the dropped ones. Invariant: a pure function
of document and spec; a dropped text is masked too, since it is kept and shown.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field, field_validator

from tasks.cleaning.base import Judge, Language
from tasks.cleaning.extract import HtmlMode, Unextractable, extract
from tasks.cleaning.filters import FilterSpec
from tasks.cleaning.language import identify
from tasks.cleaning.pii import KINDS, PersonalData, mask
from tasks.cleaning.presets import DEFAULT, PRESETS
from tasks.cleaning.repair import GAPS, repair
from tasks.core.artifact import AS_JSON, Spec

Row = dict[str, Any]


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
    mask_personal_data: Annotated[
        tuple[PersonalData, ...],
        Field(
            description="Kinds that are masked: mail and IP addresses, Chinese mobile and identity numbers, bank cards (Luhn), "
            "phone numbers with a country code, keys and tokens; [] masks nothing."
        ),
    ] = KINDS
    filters: Annotated[
        tuple[Annotated[FilterSpec, AS_JSON], ...],
        Field(
            description="Filters, in the order in which they are asked, or the name of a set: default, english_web, chinese_web."
        ),
    ] = DEFAULT

    @field_validator("filters", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in PRESETS:
            raise ValueError(f"no set of filters is called {value!r}; there are: {', '.join(PRESETS)}")
        return PRESETS[value] if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a document: `reason` is set where it is dropped."""

    row: Row
    reason: str | None = None
    masked: Counter[str] = field(default_factory=Counter)


def cleaner(spec: CleanSpec) -> Callable[[Row], Cleaned]:
    """Returns the function that cleans one document; filters are built once."""
    judges = [(one, one.build()) for one in spec.filters]
    return lambda raw: _clean(raw, spec, judges)


@lru_cache(maxsize=1)
def cleaner_of(spec_json: str) -> Callable[[Row], Cleaned]:
    """Returns the cleaner of a spec in its JSON form, built once a process."""
    return cleaner(CleanSpec.model_validate_json(spec_json))


def _clean(raw: Row, spec: CleanSpec, judges: list[tuple[FilterSpec, Judge]]) -> Cleaned:
    text = raw["text"]
    try:
        text = repair(extract(text, raw["format"] or "plain", spec.html))
        lost = None if text else "repair:nothing_left"
    except Unextractable as error:
        lost = f"extract:{error}"
    text, masked = mask(text, spec.mask_personal_data)
    if lost is not None:
        return _dropped(raw, raw["lang"], text, lost)
    lang, score = identify(text, spec.languages)
    if lang not in spec.languages:
        return _dropped(raw, lang, text, "language:not_wanted")
    if score < spec.min_language_score:
        return _dropped(raw, lang, text, "language:unsure")
    for one, judge in judges:
        kept, reason = judge(text, lang)
        if reason is not None or not kept.strip():
            return _dropped(raw, lang, text, f"{one.kind}:{reason or 'nothing_left'}")
        masked.update({kind: kept.count(mark) - text.count(mark) for mark, kind in one.MARKS.items()})
        text = kept
    text = GAPS.sub("\n\n", text).strip("\n")
    row = {"id": raw["id"], "source": raw["source"], "licence": raw["licence"], "lang": lang, "lang_score": score, "text": text}
    return Cleaned(row, masked=+masked)


def _dropped(raw: Row, lang: str | None, text: str, reason: str) -> Cleaned:
    return Cleaned({"id": raw["id"], "source": raw["source"], "lang": lang, "reason": reason, "text": text}, reason)
