"""Where a pretraining starts: from scratch, from a given base, or nowhere, because the base is taken as it is.

In: fields of a recipe. Out: specs. Invariant: earlier text that is replayed is pinned by its digest. Nothing here imports torch.
"""

from typing import Annotated, Literal, Self

from pydantic import Field

from tasks.core.artifact import MANIFEST_NAME, Spec
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.core.store import read_manifest


class FromScratch(Spec):
    """New weights, of the sizes that `pretrain.model` says."""

    kind: Literal["scratch"]


class ReplaySpec(Spec):
    """Rows of an earlier corpus among the new ones, against forgetting (Ibrahim et al., arXiv:2403.08763)."""

    corpus: Annotated[
        str,
        Field(
            pattern=r"^tokenized-corpus/[0-9a-f]{12}$",
            description="Artifact of the earlier corpus, encoded with the base's tokenizer; `textmill ls tokenized-corpus`.",
        ),
    ]
    share: Annotated[float, Field(gt=0, lt=1, description="Share of the rows that come from it; 0.01 to 0.1 are usual.")] = 0.05
    digest: Annotated[str | None, Field(description="Filled in by the pipeline: what the earlier corpus is.")] = None

    def pinned(self, site: Site) -> Self:
        """Fills in the digest.

        Raises:
            RecipeError: The store holds no such corpus.
        """
        folder = site.store_dir / self.corpus
        if not (folder / MANIFEST_NAME).exists():
            raise RecipeError(f"pretrain.start.replay.corpus: {site.store_dir} has no {self.corpus}; see `textmill ls`")
        return self.model_copy(update={"digest": read_manifest(folder).digest})


class Continued(Spec):
    """The base's weights, trained on; the learning rate warms up again, by its own schedule (Gupta et al., arXiv:2308.04014).

    Of `pretrain.model` only `context_tokens` is read: the length of a row.
    """

    kind: Literal["continued"]
    replay: Annotated[ReplaySpec | None, Field(description="Earlier text among the new; none: no replay.")] = None

    def tokens_a_pass(self, new_tokens: int) -> int:
        """Returns the tokens of a pass over so many new ones, those replayed among them."""
        return new_tokens if self.replay is None else round(new_tokens / (1 - self.replay.share))


class AsGiven(Spec):
    """The base as it is: nothing is trained, and no budget, model or optimiser is read."""

    kind: Literal["as_given"]


Start = Annotated[FromScratch | Continued | AsGiven, Field(discriminator="kind")]
