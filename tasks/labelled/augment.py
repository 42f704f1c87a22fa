"""Augmentation: copies of the training items of a small labelled set, their labels kept.

In: `Labelled`. Out: `Labelled` with copies, or, where the recipe names no way, the same. Invariants: only items that were read
are copied, and only training items; a copy names its original and lies in its group, so folds keep them together.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field

from tasks.contracts import Labelled
from tasks.core.artifact import AS_JSON, Spec
from tasks.core.errors import ContractError
from tasks.core.rows import Refused
from tasks.core.site import Site
from tasks.core.stage import CHILD, StageContext, stage
from tasks.labelled.made import Made, rows_of, train_originals
from tasks.labelled.synonyms import SynonymsSpec
from tasks.labelled.translation import BackTranslationSpec

Way = Annotated[SynonymsSpec | BackTranslationSpec, Field(discriminator="kind")]


class AugmentSpec(Spec):
    """Copies of training items; off by default."""

    ways: Annotated[
        tuple[Annotated[Way, AS_JSON], ...], Field(description="Ways to make copies of each training item; none: no copies.")
    ] = ()

    def pinned(self, site: Site) -> Self:
        """Fills in what files and models are."""
        return self.model_copy(update={"ways": tuple(way.pinned(site) for way in self.ways)})

    def identity(self) -> dict[str, Any]:
        """Returns contents and settings; never where things lie."""
        return {"ways": [way.identity() for way in self.ways]}


@stage(version=3, retry=CHILD, packages=("jieba", "transformers", "torch"), passes=lambda spec: not spec.ways)
def augment(spec: AugmentSpec, labelled: Labelled, *, ctx: StageContext) -> Labelled:
    """Adds copies of the training items.

    Raises:
        RecipeError: A way does not fit the task, or what it needs cannot be had.
        ContractError: Not a single copy came about.
    """
    made, originals = Made(labelled), train_originals(rows_of(labelled))
    for way, name in zip(spec.ways, _names(spec.ways), strict=True):
        for item, copies in way.variants(originals, ctx):
            for number, copy in enumerate(copies, 1):
                about = {"id": f"{item['id']}#{name}-{number}", "origin": item["id"], "maker": way.maker}
                made.add(copy if isinstance(copy, Refused) else copy | about, way.kind)
    if not made.rows:
        raise ContractError(f"not a single copy came about: {dict(made.not_made)}; name other ways in augment, or take them out")
    ctx.log.info("%d copies of %d items", len(made.rows), len(originals))
    return made.commit(ctx)


def _names(ways: Sequence[Way]) -> list[str]:
    """Returns what ids call each way: its kind, with its place where there are several of the kind."""
    times = Counter(way.kind for way in ways)
    return [way.kind if times[way.kind] == 1 else f"{way.kind}-{place}" for place, way in enumerate(ways, 1)]
