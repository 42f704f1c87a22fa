"""Cleaning: raw documents become clean, deduplicated, split text. The filters are listed in `filters.py`."""

from tasks.cleaning.deduplication import DedupSpec, dedup
from tasks.cleaning.document import CleanSpec
from tasks.cleaning.filtering import clean

__all__ = ["CleanSpec", "DedupSpec", "clean", "dedup"]
