"""Rows, packing and order, by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.modeling.batches import IGNORED, Example, ExampleRows, SpreadRows, StreamRows, make_batch, pack, step_rows

END = 0


def test_rows_of_a_stream_exactly() -> None:
    rows = StreamRows([np.array([5, 6, END, 7, END], dtype=np.uint16), np.array([8, 9], dtype=np.uint16)], 4, END)
    assert (rows.num_tokens, rows.num_rows) == (7, 2)
    first, last = rows.row(0), rows.row(1)
    assert first.ids_T.tolist() == [END, 5, 6, END]
    assert first.targets_T.tolist() == [5, 6, END, 7]
    assert first.positions_T.tolist() == [0, 1, 2, 0]
    assert first.segments_T.tolist() == [1, 1, 1, 2]
    assert last.ids_T.tolist() == [7, END, 8, END]  # the last place is padding
    assert last.targets_T.tolist() == [END, 8, 9, IGNORED]
    assert last.positions_T.tolist() == [0, 0, 1, 0]
    assert rows.num_targets(np.array([0])) == 4
    assert rows.num_targets(np.array([0, 1])) == 7
    assert rows.num_split_documents() == 1  # 7 opens row 1 without its separator


@given(
    documents=st.lists(st.lists(st.integers(1, 50), min_size=0, max_size=9), min_size=1, max_size=12),
    context=st.integers(2, 8),
    cut=st.integers(0, 40),
)
def test_every_token_of_a_stream_is_a_target_once(documents: list[list[int]], context: int, cut: int) -> None:
    stream = np.array([token for document in documents for token in [*document, END]], dtype=np.uint16)
    rows = StreamRows([stream[:cut], stream[cut:]], context, END)
    targets = np.concatenate([rows.row(number).targets_T for number in range(rows.num_rows)])
    assert targets[targets != IGNORED].tolist() == stream.tolist()
    assert rows.num_targets(np.arange(rows.num_rows)) == len(stream)
    opens_inside = [rows.row(number).ids_T[0] != END for number in range(1, rows.num_rows)]
    assert rows.num_split_documents() == sum(opens_inside)


def test_examples_side_by_side_exactly() -> None:
    one = Example.of([3, 4, 5, 6], [False, False, True, True])
    two = Example.of([7, 8], [True, True])
    rows = ExampleRows([two, one], context_tokens=5, pad=9)
    assert rows.members == [[1, 0]]
    row = rows.row(0)
    assert row.ids_T.tolist() == [3, 4, 5, 7, 9]
    assert row.targets_T.tolist() == [IGNORED, 5, 6, 8, IGNORED]
    assert row.positions_T.tolist() == [0, 1, 2, 0, 0]
    assert row.segments_T.tolist() == [0, 0, 0, 1, 2]
    assert rows.num_targets(np.array([0])) == 3
    assert rows.notes == {}
    assert make_batch(rows, np.array([0, 0]), torch.device("cpu")).num_targets == 6


def test_spread_rows_are_the_first_the_last_and_some_between_on_every_pass() -> None:
    rows = StreamRows([np.arange(1, 16, dtype=np.uint16)], 2, END)
    some = SpreadRows(rows, 3)
    assert (rows.num_rows, some.num_rows, some.row_tokens) == (8, 3, 2)
    assert [some.row(number).targets_T.tolist() for number in range(4)] == [[1, 2], [9, 10], [15, IGNORED], [1, 2]]
    assert some.num_targets(np.arange(6)) == 2 * 5
    assert SpreadRows(rows, 99).num_rows == 8


def test_best_fit_takes_the_fullest_row() -> None:
    assert pack([5, 6, 3, 2, 4], capacity=8) == [[1, 3], [0, 2], [4]]


def test_without_masks_a_row_is_the_same_on_each_pass() -> None:
    stream = StreamRows([np.array([5, 6, END, 7, END], dtype=np.uint16)], 4, END)
    examples = ExampleRows([Example.of([3, 4], [True, True]), Example.of([5, 6, 7], [True, True, True])], 2, pad=9)
    for rows in (stream, examples):
        assert rows.num_rows == 2
        for index in range(2):
            assert rows.row(index).ids_T.tolist() == rows.row(index + 4).ids_T.tolist()
            assert rows.num_targets(np.array([index])) == rows.num_targets(np.array([index + 4]))


def test_an_item_that_fits_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="item 1 has 9 tokens, a row holds 8"):
        pack([3, 9], capacity=8)


@given(lengths=st.lists(st.integers(1, 16), max_size=60))
def test_packing_keeps_every_item_once_and_overfills_nothing(lengths: list[int]) -> None:
    rows = pack(lengths, capacity=16)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in row) <= 16 for row in rows)


def test_each_pass_shows_every_row_once_in_an_order_of_its_own() -> None:
    steps = [step_rows(seed=1, step=step, batch_rows=4, num_rows=10) for step in range(5)]
    first, second = np.concatenate(steps)[:10], np.concatenate(steps)[10:] - 10  # numbers count on over the passes
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    assert step_rows(1, 3, 4, 10).tolist() == steps[3].tolist()
    assert step_rows(2, 3, 4, 10).tolist() != steps[3].tolist()


def test_a_token_of_its_own_may_open_each_document() -> None:
    stream = np.array([5, 6, END, 7, END], dtype=np.uint16)
    plain, opened = StreamRows([stream], 3, END), StreamRows([stream], 3, END, opening=40)
    for number in range(plain.num_rows):
        one, other = plain.row(number), opened.row(number)
        assert other.ids_T.tolist() == [40 if token == END else token for token in one.ids_T.tolist()]
        assert all(
            np.array_equal(getattr(one, name), getattr(other, name)) for name in ("targets_T", "positions_T", "segments_T")
        )
    assert opened.row(0).ids_T.tolist() == [40, 5, 6]
