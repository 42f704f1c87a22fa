"""Rows of labelled items as they are read.

In: nothing. Out: the columns of `items.parquet` that models and scores read. Invariant: nothing here imports torch.
"""

from typing import Any

ITEM_COLUMNS = ("id", "source", "split", "text", "text_pair", "words", "labels", "value")
Item = dict[str, Any]
