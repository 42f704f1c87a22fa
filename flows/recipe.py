"""The recipe of a model that answers: one frozen object that says everything a run makes, cut into one spec a stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from data_quality.check import CheckSpec
from deploy.rollout import DeploySpec
from flows.preference import NoPreference, Preference
from flows.recipe_paths import RECIPES_DIR, with_paths
from tasks.bases import BaseSpec
from tasks.cleaning import CleanSpec, DecontaminateSpec, DedupSpec, QualitySpec
from tasks.core.artifact import Part
from tasks.core.errors import RecipeError
from tasks.core.hub import require_commits
from tasks.core.site import Site
from tasks.evaluation import EvaluateSpec, GateSpec
from tasks.ingest import IngestSpec
from tasks.instructions import InstructionsSpec
from tasks.modeling.specs import PrecisionSpec
from tasks.pretrain import PretrainSpec
from tasks.registry import RegisterSpec
from tasks.tokenization import EncodeSpec, MixSpec, TokenizerSpec
from tasks.tuning import TuneSpec
from tasks.tuning.rates import peak_rate


class Recipe(Part):
    """From raw text to a served model: what each stage is asked to make, in the order of the chain."""

    name: Annotated[
        str,
        Field(
            description="Name of the recipe: labels its artifacts and its run in MLflow.",
            pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        ),
    ]
    ingest: Annotated[IngestSpec, Field(title="Ingest", description="Raw text to read.")]
    clean: Annotated[CleanSpec, Field(title="Clean", description="How documents are cleaned and filtered.")] = CleanSpec()
    dedup: Annotated[DedupSpec, Field(title="Deduplicate", description="Duplicates and the split.")] = DedupSpec()
    decontaminate: Annotated[DecontaminateSpec, Field(title="Decontaminate", description="Held-out items in the corpus.")]
    quality: Annotated[QualitySpec, Field(title="Quality", description="Scores of documents; off by default.")] = QualitySpec()
    check: Annotated[CheckSpec, Field(title="Check", description="Quality checks of the clean corpus.")] = CheckSpec()
    base: Annotated[BaseSpec, Field(title="Base", description="A model that others made, to start from; none: no such.")] = (
        BaseSpec()
    )
    tokenizer: Annotated[TokenizerSpec, Field(title="Tokenizer", description="Tokenizer: trained or adopted.")] = TokenizerSpec()
    encode: Annotated[EncodeSpec, Field(title="Encode", description="Token shards.")] = EncodeSpec()
    mix: Annotated[MixSpec, Field(title="Mix", description="Weights of sources and languages; off by default.")] = MixSpec()
    pretrain: Annotated[PretrainSpec, Field(title="Pretrain", description="Model and pretraining.")] = PretrainSpec()
    instructions: Annotated[InstructionsSpec, Field(title="Instructions", description="Instruction data and its held-out part.")]
    tune: Annotated[TuneSpec, Field(title="Tune", description="How the model is tuned.")] = TuneSpec()
    preference: Annotated[
        Preference, Field(title="Preference", description="What it learns from preferences; none: nothing.")
    ] = NoPreference(kind="none")
    evaluate: Annotated[EvaluateSpec, Field(title="Evaluate", description="How models are evaluated.")] = EvaluateSpec()
    gate: Annotated[GateSpec, Field(title="Gate", description="What a model must reach to become champion.")] = GateSpec()
    registry: Annotated[RegisterSpec, Field(title="Registry", description="Name of the model in the registry.")]
    deploy: Annotated[DeploySpec, Field(title="Deploy", description="How the champion is rolled out.")] = DeploySpec()

    @model_validator(mode="after")
    def _base_is_used(self) -> Self:
        is_given = self.base.source.kind != "none"
        if is_given != (self.pretrain.start.kind != "scratch"):
            raise ValueError(
                f"base.source.kind is {self.base.source.kind}, but pretrain.start.kind is {self.pretrain.start.kind}: with a "
                "base set it to continued or as_given, without one leave it at scratch"
            )
        if is_given != (self.tokenizer.source.kind == "base"):
            raise ValueError(
                f"base.source.kind is {self.base.source.kind}, but tokenizer.source.kind is {self.tokenizer.source.kind}: a base "
                "reads with its own tokenizer, so set both, or neither, to base"
            )
        return self

    def resolved(self) -> "Recipe":
        """Returns the recipe as stages need it: `package:` and `data:` paths absolute, the objective's tokens in the tokenizer.

        Raises:
            RecipeError: A path lies in the data folder, and the site names none.
        """
        tree = with_paths(self.model_dump(mode="json"), Path.cwd(), RECIPES_DIR / "data")
        source = tree["tokenizer"]["source"]
        if source["kind"] == "train":
            source["extra_special"] |= self.pretrain.objective.special_tokens()
        return type(self).model_validate(tree)

    def require_reach(self, last: str | None, stages: Sequence[str]) -> None:
        """Checks that the stages up to `last` (none: all) take the models that the objective makes, and that tuning has a rate.

        Raises:
            RecipeError: One of them does not, or neither recipe nor base says any.
        """
        # What others made records no rate to derive one from; it has that of a pretraining that goes on from it, if any.
        if self.pretrain.start.kind != "scratch" and reaches("tune", last, stages):
            peak_rate(self.tune.method, self.tune.optim.learning_rate, self.pretrain.peak)
        objective = self.pretrain.objective
        if objective.has_two_parts and reaches("tune", last, stages):
            self._require_answers_alone()
        if objective.last_stage is None:
            return
        allowed = stages[: list(stages).index(objective.last_stage) + 1]
        if last not in allowed:
            raise RecipeError(
                f"recipe {self.name!r} trains a {self.pretrain.model.family} for objective {objective.kind!r}; the stages after "
                f"{objective.last_stage} take models that write text. Add `--until {objective.last_stage}`, or set "
                "pretrain.objective.kind to causal, fill_in_the_middle, span_corruption or text_infilling"
                + (
                    "; a recipe of kind labelled tunes it on labelled text (base.kind = pretrained)"
                    if objective.takes_head
                    else ""
                )
            )

    def _require_answers_alone(self) -> None:
        """Raises RecipeError where what is asked reads text on and on, which an encoder-decoder does not."""
        asked = {
            "tune.replay": self.tune.replay is not None,
            "tune.ewc": self.tune.ewc is not None,
            "preference.kind": self.preference.kind != "none",
        }
        if found := [name for name, is_asked in asked.items() if is_asked]:
            raise RecipeError(
                f"recipe {self.name!r} tunes an encoder-decoder, which reads a question and writes an answer; {', '.join(found)} "
                "needs a model that reads on: set it to off or none, or pretrain.objective.kind to causal"
            )

    def check_site(self, site: Site) -> None:
        """Raises RecipeError where this machine cannot do it, or what it names may move; asked before any work."""
        require_commits(self)
        for name in type(self).model_fields:
            if isinstance(part := getattr(self, name), PrecisionSpec):
                part.pinned(site)
        self.pretrain.check_site(site)
        self.tune.check_site(site)
        self.tune.train.check_site(site, "tune.train")
        self.preference.check_site(site)

    def forewarnings(self, base_rate: float | None = None) -> list[str]:
        """Returns what should be known of the trainings before they run.

        Args:
            base_rate: Peak of the base's learning rate, where it was derived; none: what the recipe says.
        """
        has_two_parts = self.pretrain.objective.has_two_parts
        return [
            *self.pretrain.forewarnings(),
            *self.tune.forewarnings(base_rate or self.pretrain.peak, has_two_parts=has_two_parts),
            *self.preference.forewarnings(),
        ]


def reaches(stage: str, last: str | None, stages: Sequence[str]) -> bool:
    """Says whether a run up to `last` (none: to the end) of `stages` comes to `stage`."""
    return last is None or stages.index(stage) <= stages.index(last)
