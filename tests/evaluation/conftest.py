"""A base and a tuned model, scored."""

import pytest

from tasks.contracts import Checkpoint, CleanCorpus, Conversations, Scores
from tasks.core.site import Site
from tasks.evaluation import EvaluateSpec, ScoreSpec, score_model
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning import FullSpec, TuneSpec, tune
from tests.modeling.fixtures import base, conversations, no_children, old, shared_site
from tests.modeling.kit import Old, ToySpec, toy_corpus

__all__ = ["base", "conversations", "no_children", "old", "shared_site"]

SETTINGS = EvaluateSpec(
    documents_per_language=8, document_chars=120, max_new_tokens=12, precision="fp32", sample_prompts=("about <b>files</b>",)
)


@pytest.fixture(scope="package")
def corpus(shared_site: Site) -> CleanCorpus:
    return toy_corpus.build(ToySpec(size=60), site=shared_site)


@pytest.fixture(scope="package")
def tuned(base: Checkpoint, conversations: Conversations, old: Old, shared_site: Site) -> Checkpoint:
    train = TrainSpec(batch_rows=4, num_epochs=8, eval_every_steps=100, checkpoint_every_steps=100)
    spec = TuneSpec(
        method=FullSpec(kind="full"), train=train, optim=AdamWSpec(kind="adamw", learning_rate=1e-2), precision="fp32"
    )
    return tune.build(spec, base, conversations, *old, site=shared_site)


@pytest.fixture(scope="package")
def base_scores(base: Checkpoint, corpus: CleanCorpus, conversations: Conversations, shared_site: Site) -> Scores:
    return score_model.build(ScoreSpec(role="base", settings=SETTINGS), base, corpus, conversations, site=shared_site)


@pytest.fixture(scope="package")
def tuned_scores(tuned: Checkpoint, corpus: CleanCorpus, conversations: Conversations, shared_site: Site) -> Scores:
    return score_model.build(ScoreSpec(role="tuned", settings=SETTINGS), tuned, corpus, conversations, site=shared_site)
