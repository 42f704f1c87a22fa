"""Every registered metric against its own examples."""

import pytest

from tasks.evaluation.metrics import METRICS, Metric, measure_units, metric_named

EXAMPLES = [(metric, row, expected) for metric in METRICS for row, expected in metric.examples]


@pytest.mark.parametrize(("metric", "row", "expected"), EXAMPLES, ids=lambda value: getattr(value, "name", ""))
def test_a_metric_gives_what_its_examples_say(
    metric: Metric, row: dict[str, object], expected: tuple[float, float] | None
) -> None:
    assert metric.of(row) == (expected if expected is None else pytest.approx(expected))


def test_every_metric_has_an_example() -> None:
    assert all(any(expected for _, expected in metric.examples) for metric in METRICS)


def test_units_by_language_and_nothing_for_nothing() -> None:
    documents = [
        {"id": name, "lang": lang, "nats": 1.0, "num_bytes": 2} for name, lang in (("a", "zh"), ("b", "en"), ("c", "zh"))
    ]
    item = {"id": "i", "nats": 1.0, "foreign_nats": None, "num_bytes": 3, "num_tokens": 4, "is_matched": True, "copied": False}
    units = measure_units(documents, [item])
    assert list(units["bits_per_byte/zh"]) == ["a", "c"]
    assert list(units["bits_per_byte"]) == ["a", "b", "c"]
    assert "prompt_gain" not in units
    assert "keyword_accuracy/copied" not in units
    assert metric_named("bits_per_byte/zh") is metric_named("bits_per_byte")
