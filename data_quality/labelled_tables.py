"""The tables that labelled data are measured in; see `data_quality.labelled.profile`, which fills them.

In: nothing. Out: columns and their types, by table. Invariant: numbers and names only; no text of an item ever enters a table.
"""

from tasks.core.tables import Schema

_INT, _FLOAT, _STRING = "int64", "float64", "string"

TABLES: dict[str, Schema] = {
    "items": {"split": _STRING} | dict.fromkeys(("id_key", "num_chars", "num_broken"), _INT),
    "splits": {"split": _STRING, "num_items": _INT, "share": _FLOAT, "outside_share": _FLOAT},
    "labels": {"label": _STRING}
    | dict.fromkeys(("num_items", "num_train", "num_validation", "num_test", "num_fewest_heldout"), _INT)
    | {"share": _FLOAT},
    "scores": {"from": _FLOAT, "to": _FLOAT, "num_items": _INT, "share": _FLOAT},
    "reasons": {"stage": _STRING, "reason": _STRING, "num_documents": _INT, "share": _FLOAT},
    "data": dict.fromkeys(("num_items_in", "num_items", "num_same_items"), _INT)
    | dict.fromkeys(("num_inputs_in_two_splits", "num_groups_in_two_splits", "num_scores", "num_judged", "num_suspect"), _INT)
    | dict.fromkeys(
        ("dropped_share", "duplicate_share", "conflict_share", "equal_scores_share", "suspect_share", "agreement_gain"), _FLOAT
    )
    | dict.fromkeys(("chars_p50", "chars_p90", "chars_p99", "chars_max"), _FLOAT),
}
