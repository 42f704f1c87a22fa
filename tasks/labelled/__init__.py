"""Labelled: text with classes, tags or scores, in the forms users have it, as one table; what is made of it and of task text."""

from tasks.labelled.augment import AugmentSpec, augment
from tasks.labelled.pseudo import PseudoSpec, pseudo_label
from tasks.labelled.sets import LabelledSet, LabelledSpec
from tasks.labelled.stage import read_labelled
from tasks.labelled.task_text import TaskTextSpec, read_task_text

__all__ = [
    "AugmentSpec",
    "LabelledSet",
    "LabelledSpec",
    "PseudoSpec",
    "TaskTextSpec",
    "augment",
    "pseudo_label",
    "read_labelled",
    "read_task_text",
]
