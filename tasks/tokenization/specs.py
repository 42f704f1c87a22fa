"""What the recipe says of the tokenizer, of the token shards and of their mixture.

In: choices. Out: specs. Invariant: an adopted tokenizer is pinned by the bytes of its files or by a commit of the hub.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.artifact import MANIFEST_NAME, Spec
from tasks.core.errors import RecipeError
from tasks.core.hub import OfHub, Revision, require_commit
from tasks.core.inputs import find_files, pin
from tasks.core.site import Site
from tasks.core.tables import Row


class TrainTokenizer(Spec):
    """A byte-level BPE tokenizer trained on the training split."""

    kind: Literal["train"]
    vocab_size: Annotated[int, Field(ge=300, le=1_000_000, description="Entries, the special tokens included.")] = 8_192
    min_frequency: Annotated[int, Field(ge=1, description="Fewest times a pair must stand in the corpus to be merged.")] = 2
    split: Annotated[
        Literal["han_runs", "llama3"],
        Field(
            description="How text is split before merging: runs of Han characters apart from other letters and from marks, or as "
            "Llama 3 does, which other libraries encode fast too."
        ),
    ] = "han_runs"
    max_digits: Annotated[int, Field(ge=1, le=10, description="Digits that a token may hold at most.")] = 3
    extra_special: dict[str, str] = Field(
        default_factory=dict,
        description="Special tokens beside the four of a chat, role to text; those of the objective are added by the run.",
    )


class AdoptTokenizer(OfHub):
    """An existing tokenizer: a local folder (or tokenizer.json), or a model of the Hugging Face hub."""

    kind: Literal["adopt"]
    path: Annotated[str | None, Field(description="Folder with tokenizer.json, or that file.")] = None
    name: Annotated[str | None, Field(description="Model on the hub, where no path is given.")] = None
    revision: Revision = None
    digest: Annotated[str | None, Field(description="Filled in by the pipeline: what the files' bytes are.")] = None

    def require_commit(self) -> None:
        """Insists on one source, and on a commit where that is the hub."""
        if (self.path is None) == (self.name is None):
            raise RecipeError("tokenizer.source: an adopted tokenizer needs a path or a name, and not both")
        if self.name is not None:
            require_commit("model", self.name, self.revision)

    def pinned(self, site: Site) -> Self:
        """Fills in what the files are, or insists on a commit."""
        self.require_commit()
        if self.path is None or self.digest:
            return self
        files = [file for file in find_files([self.path]) if _is_of_tokenizer(file.path)]
        return self.model_copy(update={"digest": pin(files, site)})


class BaseTokenizer(Spec):
    """The tokenizer of the given base, byte for byte."""

    kind: Literal["base"]


class TokenizerSpec(Spec):
    """Where the tokenizer comes from."""

    source: Annotated[
        TrainTokenizer | AdoptTokenizer | BaseTokenizer,
        Field(discriminator="kind", description="Train a tokenizer, adopt one, or take the base's."),
    ] = TrainTokenizer(kind="train")
    max_unknown_share: Annotated[
        float,
        Field(ge=0, le=1, description="Share of unknown tokens above which a tokenizer is refused, on the validation text."),
    ] = 0.05

    def pinned(self, site: Site) -> Self:
        """Fills in what the files of an adopted tokenizer are, or insists on a commit."""
        return self.model_copy(update={"source": self.source.pinned(site)})

    def identity(self) -> dict[str, Any]:
        """Returns the choices and contents; never where files lie."""
        return self.model_dump(mode="json", exclude={"source": {"path"}})


def _is_of_tokenizer(path: Path) -> bool:
    """Weights beside a tokenizer do not change it, nor does the manifest of an artifact."""
    return path.suffix in (".json", ".jinja", ".txt", ".model") and path.name != MANIFEST_NAME


class EncodeSpec(Spec):
    """How the corpus becomes token shards."""

    seed: Annotated[int, Field(ge=0, description="Seed of the order of documents.")] = 0
    shard_tokens: Annotated[int, Field(ge=1_000, description="Tokens of a shard at which a new one is begun.")] = 50_000_000
    max_interval_bits: Annotated[
        float,
        Field(
            gt=0,
            description="Half width in bits per byte that the 95% interval of a validation figure may have; a smaller "
            "validation part is a warning that marks the model. Estimated with a unigram model of the training tokens.",
        ),
    ] = 0.1
    max_share_gap: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Difference between validation and training (total variation of the token shares by language, and "
            "by source) above which there is a warning.",
        ),
    ] = 0.1


class Weight(Spec):
    """Which share of the training tokens a part of the corpus gets; a document belongs to the first part that it fits."""

    source: Annotated[str | None, Field(description="Name of a source; off: any.")] = None
    language: Annotated[str | None, Field(description="Language code; off: any.")] = None
    weight: Annotated[float, Field(ge=0, description="Share of the training tokens, relative to the other weights; 0: none.")]

    @property
    def name(self) -> str:
        """What it is called in figures."""
        if self.source is None and self.language is None:
            return "the rest"
        return f"{self.source or 'any'} {self.language or 'any'}"

    def fits(self, row: Row) -> bool:
        """Whether a document belongs to it."""
        return self.source in (None, row["source"]) and self.language in (None, row["lang"])


class NoMix(Spec):
    """Training tokens are those of the corpus, each once."""

    kind: Literal["skip"]


class WeightedMix(Spec):
    """Training tokens follow weights."""

    kind: Literal["weights"]
    weights: Annotated[tuple[Weight, ...], Field(min_length=1, description="Parts of the corpus and their weights.")]
    num_tokens: Annotated[
        int | None, Field(ge=1, description="Training tokens of the mixture; off: as many as the corpus has.")
    ] = None
    max_epochs: Annotated[
        float,
        Field(gt=0, description="Passes over a part above which it is warned; up to 4 are worth about as much as new text."),
    ] = 4.0  # Muennighoff et al. 2023, arXiv:2305.16264
    seed: Annotated[int, Field(ge=0, description="Seed of the order, and of the documents in a last, partial pass.")] = 0

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [one.name for one in self.weights]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{twice[0]} has two weights; give it one")
        if not sum(one.weight for one in self.weights):
            raise ValueError("all weights are 0: nothing would be left")
        return self


class MixSpec(Spec):
    """Whether and how training tokens are mixed."""

    method: Annotated[NoMix | WeightedMix, Field(discriminator="kind", description="skip, or weights.")] = NoMix(kind="skip")


def tokenizer_folder(source: AdoptTokenizer) -> tuple[str, str | None]:
    """Returns what to load the adopted tokenizer from: a folder or a name, and the revision."""
    if source.path is None:
        return str(source.name), source.revision
    path = Path(source.path)
    return str(path.parent if path.is_file() else path), None
