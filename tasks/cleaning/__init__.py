"""Cleaning: raw documents become clean, deduplicated, split and scored text without held-out items. The filters: `filters.py`."""

from tasks.cleaning.decontamination import DecontaminateSpec, decontaminate
from tasks.cleaning.deduplication import DedupSpec, dedup
from tasks.cleaning.document import CleanSpec
from tasks.cleaning.filtering import clean
from tasks.cleaning.quality import QualitySpec, score_quality

__all__ = ["CleanSpec", "DecontaminateSpec", "DedupSpec", "QualitySpec", "clean", "decontaminate", "dedup", "score_quality"]
