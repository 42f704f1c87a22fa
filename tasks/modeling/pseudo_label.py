"""The child that guesses the labels of texts that have none.

In: a `PseudoJob`. Out: its guesses, in the order of the texts. Invariant: a guess is what the model would say
when served.
"""

from tasks.core.child import report
from tasks.core.tables import read_rows
from tasks.modeling.heads import head_facts
from tasks.modeling.labelled_items import Prediction
from tasks.modeling.labelled_predict import predict
from tasks.modeling.pseudo_job import GUESSES, Guess, PseudoJob


def pseudo_label_main(job: PseudoJob) -> None:
    """Guesses the labels of every text."""
    facts = head_facts(job.model_dir)
    anything = list(facts.label_names[:1])  # rows have labels; what they are is not looked at
    rows = read_rows(job.texts, ("id", "text"))
    items = [row | {"text_pair": None, "words": None, "labels": anything, "value": None} for row in rows]

    def tell(done: int, total: int) -> None:
        report(done=done, total=total, unit="texts")

    said, _ = predict(job.model_dir, items, job.device, tell)
    job.out.write_bytes(GUESSES.dump_json([_guess(one, facts.task == "multi_label") for one in said]))


def _guess(said: Prediction, is_many: bool) -> Guess:
    labels = tuple(label for label in said.labels if label is not None)
    sure = min(max(score, 1 - score) for score in said.scores) if is_many else max(said.scores)
    return Guess(labels=labels, confidence=sure)
