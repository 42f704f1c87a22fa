"""Named sets of filters for a recipe: `filters = "english_web"` or `filters = "chinese_web"`.

In: a name. Out: the filters, which are what enters the fingerprint. Invariant: cuts come before rules, so that a page is not
dropped for its menu; the cheapest rule comes first. Why each threshold is what it is stands with its field.
"""

from tasks.cleaning.c4 import C4
from tasks.cleaning.chinese_text import ChineseText
from tasks.cleaning.filters import FilterSpec
from tasks.cleaning.fineweb import FineWebQuality
from tasks.cleaning.formulas import Formulas
from tasks.cleaning.garbled import Garbled
from tasks.cleaning.gopher_quality import CHINESE, GopherQuality
from tasks.cleaning.gopher_repetition import GopherRepetition
from tasks.cleaning.line_numbers import LineNumbers
from tasks.cleaning.menus import Menus
from tasks.cleaning.share_lines import ShareLines
from tasks.cleaning.word_list import WordList

_CUTS: tuple[FilterSpec, ...] = (
    LineNumbers(kind="line_numbers"),
    Menus(kind="menus"),
    ShareLines(kind="share_lines"),
    Formulas(kind="formulas"),
)
# Both languages of mixed sources: the rules that manuals, articles and poems pass.
DEFAULT: tuple[FilterSpec, ...] = (
    GopherQuality(kind="gopher_quality"),
    GopherRepetition(kind="gopher_repetition"),
    C4(kind="c4"),
    FineWebQuality(kind="fineweb_quality"),
)
# FineWeb's: Gopher, C4 without the rule of the closing mark, its own; C4's list of bad words is ours. Gopher's quality comes
# before its repetition: both see the same text, so the same documents stay, and most that go have too few words with a letter,
# which is quickly seen.
ENGLISH_WEB: tuple[FilterSpec, ...] = (*_CUTS, Garbled(kind="garbled"), WordList(kind="word_list"), *DEFAULT)
# Dialogue puts four marks around a single word (“坐。”): the share of words with a letter falls to 0.35, that of symbols
# drawn with characters stays below 0.2; what is no Chinese is told by chinese_text.
_CHINESE_QUALITY = CHINESE.model_copy(update={"min_alphabetic_words": 0.3})
# FineWeb-2 has no C4 for Chinese; what stands in its place asks for running Chinese by script and pauses.
CHINESE_WEB: tuple[FilterSpec, ...] = (
    *_CUTS,
    Garbled(kind="garbled"),
    WordList(kind="word_list"),
    ChineseText(kind="chinese_text"),
    GopherQuality(kind="gopher_quality", zh=_CHINESE_QUALITY),
    GopherRepetition(kind="gopher_repetition"),
    FineWebQuality(kind="fineweb_quality"),
)
PRESETS: dict[str, tuple[FilterSpec, ...]] = {"default": DEFAULT, "english_web": ENGLISH_WEB, "chinese_web": CHINESE_WEB}
