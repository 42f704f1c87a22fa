"""Cleaning: raw documents become clean, deduplicated, split text without held-out items. The filters: `filters.py`."""

from tasks.cleaning.decontamination import DecontaminateSpec, decontaminate
from tasks.cleaning.deduplication import DedupSpec, dedup
from tasks.cleaning.document import CleanSpec
from tasks.cleaning.filtering import clean

__all__ = ["CleanSpec", "DecontaminateSpec", "DedupSpec", "clean", "decontaminate", "dedup"]
