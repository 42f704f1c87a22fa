"""The recipe of a model that labels text: where its base comes from, the labelled data, and what each stage is asked to make.

In: a TOML preset of kind `labelled`, see `flows.presets.load_recipe`. Out: a validated `LabelledRecipe`, cut into one spec a
stage.
Invariants: those of `flows.recipe`; a base of one's own comes out of the very chain its recipe runs alone, so it is reused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data_quality.labelled import CheckLabelledSpec
from deploy.rollout import DeployLabelledSpec
from flows.corpus import build_corpus
from flows.recipe import Recipe, reaches
from flows.recipe_paths import RECIPES_DIR, with_paths
from flows.unlabelled import NoUnlabelled, Unlabelled
from tasks.bases import BaseSpec, adopt_base
from tasks.contracts import Checkpoint
from tasks.core.artifact import Part
from tasks.core.hub import require_commits
from tasks.core.site import Site
from tasks.evaluation import EvaluateLabelledSpec, LabelGateSpec
from tasks.labelled import AugmentSpec, LabelledSpec
from tasks.pretrain import pretrain
from tasks.registry import RegisterLabelledSpec
from tasks.tuning.labelled import TuneLabelledSpec
from tasks.tuning.rates import peak_rate


class AdoptedBase(Part):
    """A model that others made."""

    kind: Literal["adopted"]
    spec: Annotated[BaseSpec, Field(description="Where it comes from.")]

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if self.spec.source.kind == "none":
            raise ValueError(
                "base.spec.source.kind is none: name a folder, a package or a model of the hub, or set base.kind pretrained"
            )
        return self

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that make it."""
        return ("base",)

    @property
    def peak(self) -> float | None:
        """Its peak learning rate, as far as that is known."""
        return None

    def forewarnings(self) -> list[str]:
        """Returns what should be known before it runs."""
        return []

    def build(self) -> Checkpoint:
        """Adopts it."""
        return adopt_base(self.spec)

    def resolved(self) -> Self:
        """Returns it as stages need it."""
        return self


class PretrainedBase(Part):
    """A model pretrained here, by a recipe of its own."""

    kind: Literal["pretrained"]
    recipe: Annotated[Recipe, Field(description="Recipe whose pretrained model it is; in TOML `extends` names a preset.")]

    @model_validator(mode="after")
    def _takes_a_head(self) -> Self:
        objective = self.recipe.pretrain.objective
        if not objective.takes_head:
            raise ValueError(f"a model of objective {objective.kind!r} takes no head for labels; use causal or masked")
        return self

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that make it."""
        from flows.pipeline import STAGES

        return STAGES[: STAGES.index("pretrain") + 1]

    @property
    def peak(self) -> float | None:
        """Its peak learning rate, as far as that is known."""
        return self.recipe.pretrain.peak

    def forewarnings(self) -> list[str]:
        """Returns what should be known before it runs."""
        return self.recipe.pretrain.forewarnings("base.recipe.pretrain")

    def build(self) -> Checkpoint:
        """Makes its corpus and pretrains it."""
        corpus = build_corpus(self.recipe)
        return pretrain(self.recipe.pretrain, corpus.tokens, corpus.tokenizer, corpus.given)

    def resolved(self) -> Self:
        """Returns it as stages need it."""
        return self.model_copy(update={"recipe": self.recipe.resolved()})


LabelBase = Annotated[AdoptedBase | PretrainedBase, Field(discriminator="kind")]


class LabelledRecipe(Part):
    """From a base and labelled text to a served model that labels: what each stage is asked to make, in the chain's order."""

    kind: Literal["labelled"]
    name: Annotated[
        str,
        Field(
            description="Name of the recipe: labels its artifacts and its run in MLflow.",
            pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        ),
    ]
    base: Annotated[LabelBase, Field(title="Base", description="The model that is tuned: pretrained here, or adopted.")]
    labelled: Annotated[LabelledSpec, Field(title="Labelled", description="Labelled data and its held-out part.")]
    check: Annotated[CheckLabelledSpec, Field(title="Check", description="Quality checks of the labelled data.")] = (
        CheckLabelledSpec()
    )
    unlabelled: Annotated[
        Unlabelled,
        Field(title="Unlabelled", description="Task text without labels: pretrained on, or labelled; none by default."),
    ] = NoUnlabelled(kind="none")
    augment: Annotated[AugmentSpec, Field(title="Augment", description="Copies of training items; off by default.")] = (
        AugmentSpec()
    )
    tune: Annotated[TuneLabelledSpec, Field(title="Tune", description="How the model is tuned.")] = TuneLabelledSpec()
    evaluate: Annotated[EvaluateLabelledSpec, Field(title="Evaluate", description="How models are evaluated.")] = (
        EvaluateLabelledSpec()
    )
    gate: Annotated[LabelGateSpec, Field(title="Gate", description="What a model must reach to become champion.")] = (
        LabelGateSpec()
    )
    registry: Annotated[RegisterLabelledSpec, Field(title="Registry", description="Name of the model in the registry.")]
    deploy: Annotated[DeployLabelledSpec, Field(title="Deploy", description="How the champion is rolled out.")] = (
        DeployLabelledSpec()
    )

    @property
    def asked(self) -> LabelGateSpec:
        """The gate; of a task of GLUE about GLUE's own metric, where none is named."""
        if self.labelled.glue is None or self.gate.metric is not None:
            return self.gate
        return self.gate.model_copy(update={"metric": self.labelled.glue.metric})

    def resolved(self) -> "LabelledRecipe":
        """Returns the recipe as stages need it: `package:` and `data:` paths absolute.

        Raises:
            RecipeError: A path lies in the data folder, and the site names none.
        """
        tree = with_paths(self.model_dump(mode="json"), Path.cwd(), RECIPES_DIR / "data")
        found = type(self).model_validate(tree)
        return found.model_copy(update={"base": found.base.resolved()})

    def check_site(self, site: Site) -> None:
        """Raises RecipeError where this machine cannot do it, or what it names may move; asked before any work."""
        require_commits(self)
        self.tune.check_site(site)
        self.tune.pinned(site)
        self.tune.train.check_site(site, "tune.train")
        self.unlabelled.check_site(site)
        if isinstance(self.base, PretrainedBase):
            self.base.recipe.pretrain.check_site(site, "base.recipe.pretrain")

    def forewarnings(self) -> list[str]:
        """Returns what should be known of the trainings before they run."""
        return [
            *self.base.forewarnings(),
            *self.unlabelled.forewarnings(),
            *self.tune.forewarnings(self.base.peak),
        ]

    def require_reach(self, last: str | None, stages: Sequence[str]) -> None:
        """Checks that a rate is known for the tuning, where the run gets there.

        Raises:
            RecipeError: Neither recipe nor base says any.
        """
        # New weights have a peak to record, even where it depends on text that nobody has encoded yet.
        is_new = isinstance(self.base, PretrainedBase) and self.base.recipe.pretrain.start.kind == "scratch"
        if not is_new and reaches("tune_labelled", last, stages):
            peak_rate(self.tune.method, self.tune.optim.learning_rate, self.base.peak)
