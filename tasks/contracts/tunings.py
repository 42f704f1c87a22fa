"""What is known of tunings: one summed up, several side by side."""

from typing import Annotated

from pydantic import Field

from tasks.contracts.shared import Count, Interval
from tasks.core.artifact import Artifact


class TuningSummary(Artifact):
    """What one tuning cost, what it brought and what it took: `summary.json`.

    Attributes:
        tokenizer_digest: Of the tokenizer whose tokens its losses are counted in.
        trained_share: Share of the weights that were trained.
        kept_bytes: Of the adapter, or of the weights that were trained where there is none.
        seconds, peak_memory_bytes: Of the training.
        tokens_per_s: Of the tuned model as it was scored, see `Scores`.
        train_validation_gap: Validation minus training loss, nats a target.
        validation: Figures on the validation split; a choice among tunings is made by these alone.
        validation_intervals: Those that are made of single items, with their intervals.
        test: Figures on the test split.
        forgetting: Bits a byte that the general text costs more than it cost the base, paired; none of a model that labels.
    """

    model_digest: str
    tokenizer_digest: str = ""
    method: str
    num_parameters: Count
    num_trained_parameters: Count
    trained_share: float
    kept_bytes: Count
    seconds: float
    peak_memory_bytes: Count
    tokens_per_s: float | None
    train_validation_gap: float
    validation: dict[str, float]
    validation_intervals: dict[str, Interval]
    test: dict[str, Interval]
    forgetting: Interval | None

    def summary(self) -> str:
        """One line for a person."""
        speed = "" if self.tokens_per_s is None else f", {self.tokens_per_s:,.0f} tokens/s when asked"
        lost = "" if self.forgetting is None else f", forgetting {self.forgetting} bits a byte"
        return (
            f"{self.method}: {self.num_trained_parameters:,} weights trained ({self.trained_share:.2%}), "
            f"{self.kept_bytes / 1e6:.2f} MB kept, {self.seconds:.0f} s, {self.peak_memory_bytes / 1e9:.2f} GB{speed}; "
            f"gap to training {self.train_validation_gap:.3f} nats{lost}"
        )


class TuningComparison(Artifact):
    """Several tunings side by side: `report.html`, `comparison.json`, pictures in `extra/`.

    Attributes:
        criterion: Figure on the validation split that chose.
        num_runs: Tunings compared; those that differ in their seed alone are one choice.
        chosen: Settings of the best choice, by field of the recipe.
        chosen_digest: Checkpoint of the chosen run.
        validation: Its figure, mean over seeds.
        test: Figures of the chosen run on the test split, which had no part in the choice.
    """

    criterion: str
    num_runs: Annotated[int, Field(ge=1)]
    chosen: dict[str, str]
    chosen_digest: str
    validation: float
    test: dict[str, Interval]

    def summary(self) -> str:
        """One line for a person."""
        settings = ", ".join(f"{name}={value}" for name, value in self.chosen.items())
        return f"of {self.num_runs} runs {settings} is best: {self.criterion} {self.validation:.4f} on validation"
