"""Word list: drops documents of adult advertising and abuse, or puts a mark in the place of each such word.

In: one text. Out: kept, the reason, or the text with marks, which are counted with what is masked. Invariant: the list
(`word_list.toml`, ours) and the words of the recipe decide, nothing else; words of medicine, law and news are not on it.
"""

import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, Language

_LIST = Path(__file__).with_name("word_list.toml")
_MARK = "<word>"


class WordList(FilterBase):
    """Adult and abusive words."""

    kind: Literal["word_list"]
    action: Annotated[
        Literal["drop", "mark"], Field(description="drop: the document goes; mark: each word becomes <word>, and is counted.")
    ] = "drop"
    topics: Annotated[
        tuple[Literal["adult", "abuse"], ...], Field(min_length=1, description="Parts of the list that are asked.")
    ] = ("adult", "abuse")
    min_different: Annotated[
        int,
        Field(
            ge=1,
            description="Fewest different words of one topic that drop a document. 2: one stands in reports and novels too, "
            "while advertising lists many.",
        ),
    ] = 2
    more_words: dict[Literal["adult", "abuse"], tuple[str, ...]] = Field(
        default_factory=dict, description="Words of your own, by topic, for both languages."
    )

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("Free porn and live sex cams, xxx videos every day.", "en", "adult"),
        Example("The court heard a case about porn on the network.", "en", None),
        Example("You asshole, go to hell.", "en", "abuse"),
        Example("The cockpit and the scunthorpe road.", "en", None),
        Example("同城约炮，裸聊视频，点击进入。", "zh", "adult"),
        Example("警方通报一起利用裸聊敲诈的案件。", "zh", None),
        Example("傻逼，去死吧！", "zh", "abuse"),
    )
    MARKS: ClassVar[dict[str, str]] = {_MARK: "listed_word"}

    def build(self) -> Judge:
        """Returns the judge of both languages."""
        patterns = {lang: {topic: self._pattern(topic, lang) for topic in self.topics} for lang in ("en", "zh")}

        def judge(text: str, lang: Language) -> tuple[str, str | None]:
            for topic, pattern in patterns[lang].items():
                if self.action == "mark":
                    text = pattern.sub(_MARK, text)
                elif len({found.lower() for found in pattern.findall(text)}) >= self.min_different:
                    return text, topic
            return text, None

        return judge

    def _pattern(self, topic: Literal["adult", "abuse"], lang: Language) -> re.Pattern[str]:
        words = sorted((*_words()[topic][lang], *self.more_words.get(topic, ())), key=len, reverse=True)
        either = "|".join(map(re.escape, words))
        return re.compile(rf"(?<!\w)(?:{either})(?!\w)" if lang == "en" else either, re.IGNORECASE)


@lru_cache
def _words() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(_LIST.read_text(encoding="utf-8"))
