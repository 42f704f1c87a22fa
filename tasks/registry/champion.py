"""The champion of a registered name, copied into an artifact of its own before anything is compared with it.

In: a name, and the model that may replace the champion. Out: `model/` of the champion, or nothing where there is none, and
`champion.json`. Invariants: what is compared with is known by digest; a model that is champion already keeps the verdict it
got when it became so.
"""

import json
import shutil
from pathlib import Path

from tasks.contracts import Champion, Checkpoint
from tasks.core.artifact import Spec
from tasks.core.links import link_tree
from tasks.core.site import Site
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tracking import RegisteredVersion, base_folder, served_folder
from tasks.core.tracking import champion as registered_champion
from tasks.modeling.adapted import is_adapter, put_together
from tasks.registry.names import ModelName


class ChampionSpec(Spec):
    """Whose champion."""

    name: ModelName = "textmill-demo"


def still_champion(artifact: Champion, spec: ChampionSpec, tuned: Checkpoint, *, site: Site) -> bool:
    """Whether the stored answer is still right, or the model itself is champion by now."""
    current = registered_champion(site, spec.name)
    return (current.digest if current else None) in (artifact.model_digest, tuned.digest)


@stage(version=1, name="champion", retry=NETWORK, holds=still_champion)
def resolve_champion(spec: ChampionSpec, tuned: Checkpoint, *, ctx: StageContext) -> Champion:
    """Copies the registered champion.

    Raises:
        TransientError: MLflow does not answer.
    """
    current = registered_champion(ctx.site, spec.name)
    folder = ctx.dir / "model"
    shutil.rmtree(folder, ignore_errors=True)
    if current is not None:
        _copy(ctx.site, current, folder)
    facts = {"model_name": spec.name, "model_digest": current.digest if current else None}
    (ctx.dir / "champion.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return ctx.commit(Champion, **facts, version=current.version if current else None)


def _copy(site: Site, version: RegisteredVersion, folder: Path) -> None:
    """Copies a version's model, beside its base where the version is an adapter."""
    served = served_folder(site, version)
    if is_adapter(served):
        put_together(base_folder(site, version), served, folder)
    else:
        link_tree(served, folder)
