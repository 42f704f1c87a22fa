"""Data quality: a corpus as small tables of numbers, rules over them, a report, and the gate that may stop a run."""
