"""Labelled: text with classes, tags or scores, in the forms users have it, as one table."""

from tasks.labelled.sets import LabelledSet, LabelledSpec
from tasks.labelled.stage import read_labelled

__all__ = ["LabelledSet", "LabelledSpec", "read_labelled"]
