"""Labelled data as small tables of numbers, rules over them, labels that look wrong, a report."""

from data_quality.labelled.check import check_labelled
from data_quality.labelled.suites import CheckLabelledSpec, SuspectsSpec

__all__ = ["CheckLabelledSpec", "SuspectsSpec", "check_labelled"]
