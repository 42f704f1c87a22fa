"""Sizes, schedules and budgets by hand."""

import math

import pytest
from pydantic import ValidationError

from tasks.core.site import Site
from tasks.modeling.specs import (
    CosineSchedule,
    ModelSpec,
    PrecisionSpec,
    TrainSpec,
    WarmupStableDecaySchedule,
    learning_rate,
)


def test_sizes_follow_from_the_dial() -> None:
    sizes = ModelSpec(depth=4).sizes
    assert (sizes.width, sizes.num_heads, sizes.num_kv_heads, sizes.ffn_width, sizes.head_width) == (256, 4, 4, 704, 64)


def test_a_size_that_was_set_is_kept() -> None:
    sizes = ModelSpec(depth=4, width=192, num_heads=6, num_kv_heads=2, ffn_width=100).sizes
    assert (sizes.width, sizes.num_heads, sizes.num_kv_heads, sizes.ffn_width) == (192, 6, 2, 100)


@pytest.mark.parametrize(
    ("sizes", "message"), [({"width": 100, "num_heads": 3}, "width 100"), ({"num_heads": 4, "num_kv_heads": 3}, "num_heads 4")]
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSpec(depth=4, **sizes)


def test_a_t5_of_its_own_output_layer_is_refused() -> None:
    with pytest.raises(ValidationError, match="leave tie_embeddings out, or take bart"):
        ModelSpec(family="t5", tie_embeddings=False)


def test_cosine_by_hand() -> None:
    schedule = CosineSchedule(kind="cosine", warmup_share=0.2, final_share=0.1)
    rates = [learning_rate(1.0, schedule, step, 10) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.55)  # half-way through the eight steps after the warm-up
    assert rates[10] == pytest.approx(0.1)
    assert rates[8] == pytest.approx(0.1 + 0.45 * (1 + math.cos(0.75 * math.pi)))


def test_warmup_stable_decay_by_hand() -> None:
    schedule = WarmupStableDecaySchedule(kind="warmup_stable_decay", warmup_share=0.0, decay_share=0.5, final_share=0.0)
    rates = [learning_rate(1.0, schedule, step, 8) for step in range(9)]
    assert rates == [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_budgets() -> None:
    assert TrainSpec(batch_rows=4, num_tokens=1000).num_steps(num_rows=7, row_tokens=16) == 16
    assert TrainSpec(batch_rows=4, num_epochs=2.5).num_steps(num_rows=7, row_tokens=16) == 5
    with pytest.raises(ValidationError, match="not both"):
        TrainSpec(num_tokens=1, num_epochs=1)
    with pytest.raises(ValidationError, match="set num_tokens or num_epochs"):
        TrainSpec()


def test_what_auto_means_enters_the_identity() -> None:
    spec = PrecisionSpec(precision="auto")
    assert spec.pinned(Site(device="cuda")).identity() == {"precision": "bf16"}
    assert PrecisionSpec(precision="fp32").pinned(Site(device="cuda")).identity() == {"precision": "fp32"}
