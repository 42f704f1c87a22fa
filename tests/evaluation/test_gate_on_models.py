"""The gate on models that were really trained: yes to a good one, no to each kind of bad one."""

import pytest

from tasks.contracts import Checkpoint, CleanCorpus, Scores, Verdict
from tasks.core.site import Site
from tasks.evaluation import CompareSpec, GateSpec, ScoreSpec, compare, judge, score_champion, score_model
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning import FullSpec, TuneSpec, tune
from tests.evaluation.conftest import SETTINGS
from tests.evaluation.kit import ToyChampionSpec, toy_champion
from tests.modeling.kit import ToySpec, old_text, toy_conversations

LARGE = ToySpec(size=480)
# Only 17 words: what a shuffle leaves by accident is worth 0.01 to 0.03 bits a byte, the right answers are worth 1.8.
GATE = GateSpec(min_items=16, forgetting=10.0, prompt_gain=0.1)


def verdict(
    base: Checkpoint, corpus: CleanCorpus, site: Site, gate: GateSpec = GATE, rate: float = 1e-2, data: ToySpec = LARGE
) -> Verdict:
    train = TrainSpec(batch_rows=8, num_epochs=12, eval_every_steps=1000, checkpoint_every_steps=1000)
    spec = TuneSpec(
        method=FullSpec(kind="full"), train=train, optim=AdamWSpec(kind="adamw", learning_rate=rate), precision="fp32"
    )
    tuned = tune.build(spec, base, toy_conversations.build(data, site=site), *old_text(base, site), site=site)
    held_out = toy_conversations.build(LARGE, site=site)
    nobody = toy_champion.build(ToyChampionSpec(digest=None), site=site)
    settings = SETTINGS.model_copy(update={"max_new_tokens": 4})
    scores: list[Scores] = [
        score_model.build(ScoreSpec(role=role, settings=settings), model, corpus, held_out, site=site)
        for role, model in (("base", base), ("tuned", tuned))
    ]
    scores.append(score_champion.build(ScoreSpec(role="champion", settings=settings), nobody, corpus, held_out, site=site))
    return judge.build(gate, compare.build(CompareSpec(), *scores, site=site), nobody, site=site)


def answers(found: Verdict) -> list[str]:
    return [reason.rpartition(": ")[2] for reason in found.reasons]


def test_a_model_that_learned_its_task_passes(base: Checkpoint, corpus: CleanCorpus, shared_site: Site) -> None:
    assert answers(verdict(base, corpus, shared_site)) == ["yes"] * 4


@pytest.mark.slow
def test_a_learning_rate_of_0_is_refused(base: Checkpoint, corpus: CleanCorpus, shared_site: Site) -> None:
    found = verdict(base, corpus, shared_site, rate=0.0)
    assert (found.passed, answers(found)[0]) == (False, "no")


def test_shuffled_answers_are_refused_though_loss_is_lower(base: Checkpoint, corpus: CleanCorpus, shared_site: Site) -> None:
    """The form of an answer is learned from any answer; that it depends on the question only from the right ones."""
    found = verdict(base, corpus, shared_site, data=LARGE.model_copy(update={"shuffled": True}))
    assert (found.passed, answers(found)[:2]) == (False, ["yes", "no"])


def test_too_much_forgetting_is_refused(base: Checkpoint, corpus: CleanCorpus, shared_site: Site) -> None:
    found = verdict(base, corpus, shared_site, gate=GATE.model_copy(update={"forgetting": 0.01}))
    assert answers(found) == ["yes", "yes", "yes", "no"]
    assert "asked at most 0.01 bits a byte" in found.reasons[3]
