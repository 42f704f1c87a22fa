"""The cleaning filters that a recipe can name: one line each.

In: nothing. Out: the union of filter specs. Invariant: what is in the union is tested against its own examples.
"""

from typing import Annotated

from pydantic import Field

from tasks.cleaning.base import FilterBase
from tasks.cleaning.c4 import C4
from tasks.cleaning.chinese_text import ChineseText
from tasks.cleaning.datatrove_block import DatatroveBlock
from tasks.cleaning.fineweb import FineWebQuality
from tasks.cleaning.formulas import Formulas
from tasks.cleaning.garbled import Garbled
from tasks.cleaning.gopher_quality import GopherQuality
from tasks.cleaning.gopher_repetition import GopherRepetition
from tasks.cleaning.line_numbers import LineNumbers
from tasks.cleaning.menus import Menus
from tasks.cleaning.share_lines import ShareLines
from tasks.cleaning.word_list import WordList

_Rules = GopherRepetition | GopherQuality | C4 | FineWebQuality | ChineseText | Garbled | WordList | DatatroveBlock
_Cuts = LineNumbers | Menus | ShareLines | Formulas
FilterSpec = Annotated[_Rules | _Cuts, Field(discriminator="kind")]
FILTERS: tuple[type[FilterBase], ...] = (*_Rules.__args__, *_Cuts.__args__)
