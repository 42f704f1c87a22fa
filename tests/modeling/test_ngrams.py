"""Cross entropies of counting, by hand."""

import tracemalloc
from math import log

import numpy as np
import pytest

from tasks.modeling import ngrams
from tasks.modeling.ngrams import ngram_nats


def test_by_hand() -> None:
    """Vocabulary 0 (separator) to 3. Training: a b end a b end. Asked: a end."""
    train = [np.array([1, 2, 0]), np.array([1, 2, 0])]
    found = ngram_nats(train, [np.array([1, 0])], vocab_size=4, separator=0)
    one = {0: 3 / 10, 1: 3 / 10, 2: 3 / 10, 3: 1 / 10}  # add one to 2, 2, 2, 0
    assert found.unigram == pytest.approx(-(log(one[1]) + log(one[0])) / 2)
    # 0 was seen twice (the separator in front included), always before 1; 1 twice, always before 2
    after_0, after_1 = (2 + 1 * one[1]) / (2 + 1), (0 + 1 * one[0]) / (2 + 1)
    assert found.bigram == pytest.approx(-(log(after_0) + log(after_1)) / 2)


def test_probabilities_after_a_history_add_up_to_1() -> None:
    train = [np.random.default_rng(0).integers(0, 6, 50)]
    for history in range(7):  # 6 was never seen
        total = sum(
            np.exp(-2 * ngram_nats(train, [np.array([history, token])], 7, 0).bigram)
            / np.exp(-ngram_nats(train, [np.array([history])], 7, 0).bigram)
            for token in range(7)
        )
        assert total == pytest.approx(1)


def test_bigrams_are_better_where_order_tells() -> None:
    tokens = [np.tile([1, 2, 3, 0], 50)]
    found = ngram_nats(tokens, tokens, 4, 0)
    assert found.bigram < 0.1 < 1.3 < found.unigram


def test_of_a_long_text_only_the_tokens_that_are_counted_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "_MAX_TOKENS", 1500)
    long = [np.random.default_rng(seed).integers(0, 50, length).astype(np.uint16) for seed, length in enumerate((1000, 1 << 22))]
    tracemalloc.start()
    found = ngram_nats(long, long, 50, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == ngram_nats([np.concatenate(long)[:1500]], [np.concatenate(long)[:1500]], 50, 0)
    assert peak < 1 << 20
