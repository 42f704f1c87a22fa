"""Labelled: text with classes, tags or scores, in the forms users have it, as one table; copies of its training items."""

from tasks.labelled.augment import AugmentSpec, augment
from tasks.labelled.sets import LabelledSet, LabelledSpec
from tasks.labelled.stage import read_labelled

__all__ = ["AugmentSpec", "LabelledSet", "LabelledSpec", "augment", "read_labelled"]
