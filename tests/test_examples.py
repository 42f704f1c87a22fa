"""Every registered thing is run against its own examples."""

import pytest

from tasks.cleaning.base import Example
from tasks.cleaning.filters import FILTERS

CASES = [(one, example) for one in FILTERS for example in one.EXAMPLES]


def kind_of(one) -> str:
    return str(one.model_fields["kind"].annotation.__args__[0])


@pytest.mark.parametrize(("one", "example"), CASES, ids=[f"{kind_of(one)}-{number}" for number, (one, _) in enumerate(CASES)])
def test_a_filter_says_of_its_examples_what_it_promises(one, example: Example):
    judge = one(kind=kind_of(one)).build()
    text, reason = judge(example.text, example.lang)
    assert reason == example.reason
    if reason is None:
        assert text.split() == (example.text if example.becomes is None else example.becomes).split()


@pytest.mark.parametrize("one", FILTERS, ids=kind_of)
def test_a_filter_shows_what_it_keeps_and_what_it_drops(one):
    results = {(example.reason, example.becomes) for example in one.EXAMPLES}
    assert (None, None) in results
    assert len(results) > 1
