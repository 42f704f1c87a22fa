"""Models that are a base and an adapter: put together, and only with the base the adapter was trained on.

In: a base folder and an adapter folder (peft's, or bottlenecks). Out: one model. Invariants: the adapter names its base by
the digest of the artifact and of each weight file; beside any other weights it is refused. A folder of a model without a
plain form holds `base/`, `adapter/` and the tokenizer, and no `config.json`: no server takes the base alone for the model.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tasks.contracts import Checkpoint
from tasks.core.errors import ContractError
from tasks.core.fingerprint import file_digest
from tasks.core.links import link_tree

BASE, ADAPTER = "base", "adapter"
_BOUND_TO = "base.json"


def is_adapted(folder: Path) -> bool:
    """Whether a model folder is a base with an adapter beside it."""
    return (folder / ADAPTER).is_dir()


def require_plain(base: Checkpoint) -> None:
    """Checks that a checkpoint can be trained on.

    Raises:
        ContractError: It is a base with an adapter beside it.
    """
    if is_adapted(base.path / "model"):
        raise ContractError(
            f"{base.address} ({base.method}) has no plain form to tune further; give the checkpoint it was tuned from"
        )


def adapter_of(checkpoint: Path) -> Path:
    """Returns where a checkpoint keeps its adapter: in the model, or beside the merged one; it may not be there."""
    model = checkpoint / "model"
    return (model if is_adapted(model) else checkpoint) / ADAPTER


def is_adapter(folder: Path) -> bool:
    """Whether a folder is an adapter that names its base."""
    return (folder / _BOUND_TO).exists()


def bind(adapter: Path, base: Path, base_digest: str) -> None:
    """Notes in an adapter folder which base it belongs to."""
    about = {"base_digest": base_digest, "weights": _digests(base)}
    (adapter / _BOUND_TO).write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")


def check_bound(adapter: Path, base: Path) -> None:
    """Compares the base's weight files with those the adapter was trained on.

    Raises:
        ContractError: They are others.
    """
    about = json.loads((adapter / _BOUND_TO).read_text(encoding="utf-8"))
    if about["weights"] != _digests(base):
        raise ContractError(
            f"the adapter {adapter} was trained on checkpoint {about['base_digest'][:12]}, and {base} holds other weights; "
            "give it that checkpoint's model/ (`textmill ls` shows digests), or tune again"
        )


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}


def load_adapted(base: Path, adapter: Path) -> Any:
    """Loads a base with an adapter in it.

    Raises:
        ContractError: The adapter belongs to another base.
    """
    from tasks.modeling.model import load_model

    check_bound(adapter, base)
    model = load_model(base)
    if (adapter / "adapter_config.json").exists():
        return _through_peft(model, adapter)
    from tasks.modeling.bottleneck import load_bottlenecks

    load_bottlenecks(model, adapter)
    return model


def _through_peft(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    from tasks.modeling.virtual import put_before

    adapted = PeftModel.from_pretrained(model, adapter)
    return put_before(model, adapted) if adapted.active_peft_config.is_prompt_learning else adapted.get_base_model()


def bound_digest(adapter: Path) -> str:
    """Returns the digest of the checkpoint an adapter belongs to."""
    return str(json.loads((adapter / _BOUND_TO).read_text(encoding="utf-8"))["base_digest"])


def put_together(base: Path, adapter: Path, folder: Path) -> None:
    """Makes a model folder of a base and an adapter, with hard links to both where the file system allows them."""
    from tasks.modeling.words import copy_tokenizer

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    link_tree(base, folder / BASE)
    link_tree(adapter, folder / ADAPTER)
    copy_tokenizer(base, folder)
