"""What is said of a model, from its figures to the verdict."""

from tasks.contracts.shared import LABEL_METRICS, Interval, Role
from tasks.core.artifact import Artifact


class Champion(Artifact):
    """The registered model a new one is compared with, or nothing: `model/` is its folder where there is one.

    Attributes:
        model_name: Registered name.
        version: Version the alias `champion` pointed at, none where there is none.
        model_digest: Digest of the checkpoint that was registered as that version.
    """

    model_name: str
    version: int | None = None
    model_digest: str | None = None

    def summary(self) -> str:
        """One line for a person."""
        return f"{self.model_name} version {self.version}" if self.version else f"{self.model_name} has no champion yet"


class Scores(Artifact):
    """Figures of one model: `documents.parquet`, `items.parquet` (one row a document or item), `samples.json`.

    On labelled text: `predictions.parquet` (id, source, split, truth, said, scores, true_value, said_value, nats), `scored.json`.
    A role without a model (no champion yet) has `model_digest` none and no metrics.

    Attributes:
        metrics: Interval of each metric, e.g. `bits_per_byte/zh`, `answer_loss`, `keyword_accuracy`, `macro_f1`, `pearson`.
        tokens_per_s: Of a model that answers, tokens of greedy answers (up to 64 at once); of one that labels, tokens read.
    """

    role: Role
    model_digest: str | None
    metrics: dict[str, Interval]
    tokens_per_s: float | None = None

    def summary(self) -> str:
        """One line for a person."""
        shown = ("bits_per_byte", "answer_loss", "keyword_accuracy", *LABEL_METRICS)
        figures = ", ".join(f"{name} {self.metrics[name].mean:.3f}" for name in shown if name in self.metrics)
        return f"{self.role}: {figures or 'no model'}"


class EvalReport(Artifact):
    """Base, tuned model and champion side by side: `report.html`, `comparison.json`.

    Attributes:
        differences: Paired interval of `tuned - other` by `<other>/<metric>`.
        metrics: Interval by `<role>/<metric>`.
    """

    base_digest: str
    tuned_digest: str
    champion_digest: str | None
    metrics: dict[str, Interval]
    differences: dict[str, Interval]

    def summary(self) -> str:
        """One line for a person."""
        shown = (f"base/{name}" for name in ("answer_loss", "bits_per_byte", *LABEL_METRICS))
        parts = [f"{name} {self.differences[name]}" for name in shown if name in self.differences]
        return "tuned - base: " + ", ".join(parts)


class Verdict(Artifact):
    """Whether the tuned model may be champion: `verdict.json`.

    Attributes:
        reasons: One line for each rule: what was asked, what was seen, yes, no or undecided.
    """

    passed: bool
    tuned_digest: str
    reasons: tuple[str, ...]

    def summary(self) -> str:
        """One line for a person."""
        return ("yes: " if self.passed else "NO: ") + "; ".join(self.reasons)
