"""Bases in the registry: what the version of an adapter names, so that the adapter is all it holds.

In: the checkpoint an adapter was trained on. Out: a version of `textmill-bases`, one a digest, which answers by itself.
Invariants: a base lies in the registry once, however many adapters name it; no clean-up of the store can take it away.
"""

from pathlib import Path
from typing import Any

from tasks.contracts import Checkpoint
from tasks.core.errors import ContractError
from tasks.core.stage import StageContext
from tasks.core.tracking import BASES, RegisteredVersion, version_by_digest
from tasks.modeling.adapted import BASE, adapter_of, bound_digest, is_adapted, is_adapter
from tasks.modeling.architecture import is_encoder_decoder
from tasks.registry.upload import Package, describe, upload

SCRIPT = Path(__file__).with_name("served_model.py")
_ANSWER_TOKENS = 128


def register_base(base: Checkpoint, tuned: Checkpoint, ctx: StageContext) -> RegisteredVersion:
    """Returns the version that holds the base of an adapter, made where there is none.

    Raises:
        ContractError: There is no adapter, or it was trained on another checkpoint than the one the model was judged against.
        TransientError: MLflow does not answer.
    """
    adapter = adapter_of(tuned.path)
    if not is_adapter(adapter):
        raise ContractError(f"{tuned.address} ({tuned.method}) keeps no adapter: set registry.holds to model")
    if (digest := bound_digest(adapter)) != base.digest:
        raise ContractError(
            f"the adapter of {tuned.address} was trained on {digest[:12]}, the model was judged against {base.digest[:12]}; only "
            "an adapter on the judged base is registered by itself: set the method that was trained last to lora or full"
        )
    if (known := version_by_digest(ctx.site, BASES, base.digest)) is not None:
        return known
    card = (
        f"# A base of adapters\n\n{base.method}, {base.num_parameters:,} parameters. Licence: {base.licence or 'not stated'}.\n"
    )
    version = upload(BASES, _package(base), card, ctx)
    describe(version, card, ctx)
    return version


def _package(base: Checkpoint) -> Package:
    return Package(
        base=base,
        tuned=base,
        used=(),
        script=SCRIPT,
        model_type=kind_of(base),
        signature=lambda: chat_signature(_ANSWER_TOKENS),
        requirements=("jinja2",),
    )


def kind_of(model: Checkpoint) -> str:
    """Returns what MLflow shows as the kind of a model that writes text."""
    folder = model.path / "model"
    plain = folder / BASE if is_adapted(folder) else folder
    return "seq2seq-lm" if is_encoder_decoder(plain) else "causal-lm"


def chat_signature(answer_tokens: int) -> Any:
    """Returns what a model that answers takes and gives, as MLflow notes it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    text = Schema([ColSpec("string")])  # without a name it takes a list as well as a table
    return ModelSignature(text, text, ParamSchema([ParamSpec("max_new_tokens", "long", answer_tokens)]))
