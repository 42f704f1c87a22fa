"""The cleaning filters that a recipe can name: one line each.

In: nothing. Out: the union of filter specs. Invariant: what is in the union is tested against its own examples.
"""

from typing import Annotated

from pydantic import Field

from tasks.cleaning.base import FilterBase
from tasks.cleaning.c4 import C4
from tasks.cleaning.fineweb import FineWebQuality
from tasks.cleaning.gopher_quality import GopherQuality
from tasks.cleaning.gopher_repetition import GopherRepetition

FilterSpec = Annotated[GopherRepetition | GopherQuality | C4 | FineWebQuality, Field(discriminator="kind")]
FILTERS: tuple[type[FilterBase], ...] = (GopherRepetition, GopherQuality, C4, FineWebQuality)
