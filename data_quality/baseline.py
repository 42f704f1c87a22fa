"""Baseline: the small profile of the corpus behind the last registered model, made an artifact before anything is compared.

In: the registered name, the suite, and the corpus that is to be checked. Out: `quantiles.parquet` and `shares.parquet` as they
are kept with the registered version, or nothing. Invariants: what is compared with is known by digest; a corpus that is the
registered one by now keeps the report it got; where a suite measures no drift the registry is not asked.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field

from data_quality.drift import Profile, read_profile, write_profile
from data_quality.suite import CheckSpec, asks_for_drift
from tasks.contracts import Baseline, CleanCorpus
from tasks.core.artifact import Spec
from tasks.core.site import Site
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tracking import corpus_profile, last_with_corpus

_NOTHING: Profile = {"quantiles": [], "shares": []}


class BaselineSpec(Spec):
    """Whose corpus is compared with."""

    name: Annotated[str, Field(description="Registered name of the model.")]
    check: Annotated[CheckSpec, Field(description="The suite, which says whether anything is compared.")]
    is_asked: Annotated[bool | None, Field(description="Filled in by the pipeline: whether the suite measures drift.")] = None

    def pinned(self, site: Site) -> Self:
        """Fills in whether the registry is asked."""
        if self.is_asked is not None:
            return self
        return self.model_copy(update={"is_asked": asks_for_drift(self.check.pinned(site).checks or ())})

    def identity(self) -> dict[str, Any]:
        """Returns the name, where it is asked for."""
        return {"name": self.name if self.is_asked else None, "is_asked": self.is_asked}


def still_last(artifact: Baseline, spec: BaselineSpec, corpus: CleanCorpus, *, site: Site) -> bool:
    """Whether the stored answer is still right, or the corpus itself is the registered one by now."""
    if not spec.pinned(site).is_asked:
        return True
    last = last_with_corpus(site, spec.name)
    return (last.corpus_digest if last else None) in (artifact.corpus_digest, corpus.digest)


@stage(version=1, name="baseline", retry=NETWORK, holds=still_last)
def resolve_baseline(spec: BaselineSpec, corpus: CleanCorpus, *, ctx: StageContext) -> Baseline:
    """Copies the profile that is kept with the last registered version.

    Raises:
        TransientError: MLflow does not answer.
    """
    last = last_with_corpus(ctx.site, spec.name) if spec.is_asked else None
    folder = corpus_profile(ctx.site, last) if last is not None else None
    if last is not None and folder is None:
        ctx.log.warning("%s was registered without a profile of its corpus: drift cannot be measured against it", last)
    facts = {
        "model_name": spec.name if spec.is_asked else None,
        "version": last.version if last else None,
        "corpus_digest": last.corpus_digest if last else None,
        "has_profile": folder is not None,
    }
    _write(ctx.dir, folder, facts)
    return ctx.commit(Baseline, **facts)


def _write(target: Path, folder: Path | None, facts: dict[str, Any]) -> None:
    write_profile(target, read_profile(folder) if folder is not None else _NOTHING)
    (target / "baseline.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
