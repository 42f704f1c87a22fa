"""The corpus behind the last registered model: kept with the version, found by digest, compared with."""

import dataclasses
import shutil

import pytest

from data_quality.baseline import BaselineSpec, resolve_baseline
from data_quality.check import CheckSpec
from data_quality.drift import measured, read_profile
from tasks.core.errors import TransientError
from tasks.core.run import Run, running
from tasks.core.site import Site
from tests.registry.kit import document, make_chain, register

SPEC = BaselineSpec(name="toy", check=CheckSpec(suite="drift"))


def test_the_last_registered_corpus_is_resolved_to_a_digest_and_a_rerun_keeps_its_answer(site: Site) -> None:
    first, second = (make_chain(site, seed) for seed in (1, 2))
    nothing = resolve_baseline.build(SPEC, first.corpus, site=site)
    assert (nothing.has_profile, nothing.corpus_digest, nothing.version) == (False, None, None)
    register(site, first)
    with running(Run(site)):
        assert resolve_baseline.outcome(SPEC, first.corpus).result == "reused", "it is the registered corpus by now"
        found = resolve_baseline.outcome(SPEC, second.corpus).artifact
    assert (found.corpus_digest, found.version, found.has_profile) == (first.corpus.digest, 1, True)
    documents = [document(place, 2) for place in range(20)]
    shutil.rmtree(first.quality.path)  # the version keeps a copy of its own
    assert measured("num_chars", "ks", documents, read_profile(found.path)) == 1
    assert measured("lang", "psi", documents, read_profile(found.path)) == 0
    register(site, second)
    with running(Run(site)):
        again = resolve_baseline.outcome(SPEC, first.corpus)
    assert (again.result, again.artifact.corpus_digest) == ("built", second.corpus.digest)


def test_a_known_model_with_another_corpus_keeps_the_one_whose_profile_it_holds(site: Site) -> None:
    first, second = (make_chain(site, seed) for seed in (1, 2))
    register(site, first)
    register(site, dataclasses.replace(first, corpus=second.corpus, quality=second.quality))
    found = resolve_baseline.build(SPEC, make_chain(site, 3).corpus, site=site)
    assert (found.version, found.corpus_digest) == (1, first.corpus.digest)
    assert read_profile(found.path) == read_profile(first.quality.path / "profile")


def test_a_suite_that_measures_no_drift_does_not_ask_the_registry(site: Site) -> None:
    down = site.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    corpus = make_chain(site, 1).corpus
    default = BaselineSpec(name="toy", check=CheckSpec())
    assert resolve_baseline.build(default, corpus, site=down).model_name is None
    with pytest.raises(TransientError):
        resolve_baseline.build(SPEC, corpus, site=down)
