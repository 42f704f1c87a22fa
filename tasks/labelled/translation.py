"""Back-translation: a copy of an item that went into another language and back.

In: items, and two models of `transformers` that translate. Out: items, or the reason why there is none. Invariants: a child
process translates; nothing but safetensors is loaded; a text that is too long for the model is not cut but left out.

After Sennrich et al. 2016 (arXiv:1511.06709) and Xie et al. 2020 (UDA, arXiv:1904.12848).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tasks.core.artifact import Spec
from tasks.core.errors import RecipeError
from tasks.core.fingerprint import fingerprint
from tasks.core.hub import HubModel, hub_model
from tasks.core.inputs import check_unchanged, find_files, pin
from tasks.core.rows import Refused
from tasks.core.site import Site
from tasks.core.stage import StageContext
from tasks.core.tables import Row
from tasks.modeling.translate_job import TranslateJob, read_translations

_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".spm")


class FolderTranslator(Spec):
    """A folder of an encoder-decoder that `transformers` loads."""

    kind: Literal["folder"]
    path: Annotated[str, Field(description="Folder of the model.")]
    prefix: Annotated[str, Field(description="Put before each text, as T5 asks for, e.g. translate English to German: .")] = ""
    digest: Annotated[str | None, Field(description="Filled in by the pipeline: what the files' bytes are.")] = None

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are."""
        return self if self.digest else self.model_copy(update={"digest": pin(find_files([self.path]), site)})


class HubTranslator(HubModel):
    """An encoder-decoder of the Hugging Face hub, safetensors only, e.g. Helsinki-NLP/opus-mt-zh-en."""

    kind: Literal["hub"]
    prefix: Annotated[str, Field(description="Put before each text, as T5 asks for.")] = ""


Translator = Annotated[FolderTranslator | HubTranslator, Field(discriminator="kind")]


class BackTranslationSpec(Spec):
    """Each training item translated into another language and back."""

    kind: Literal["back_translation"]
    there: Annotated[Translator, Field(description="Model that translates into the other language.")]
    back: Annotated[Translator, Field(description="Model that translates back.")]
    copies: Annotated[int, Field(ge=1, le=16, description="Copies of each item: the best so many ways back.")] = 1
    num_beams: Annotated[int, Field(ge=1, le=16, description="Beams of the search; at least as many as copies.")] = 4
    max_tokens: Annotated[int, Field(ge=4, description="Longest text in tokens; longer ones are left out and counted.")] = 256
    batch: Annotated[int, Field(ge=1, description="Texts translated at once.")] = 16

    def pinned(self, site: Site) -> Self:
        """Fills in what local models' bytes are; a commit pins one of the hub."""
        return self.model_copy(update={"there": self.there.pinned(site), "back": self.back.pinned(site)})

    def identity(self) -> dict[str, Any]:
        """Returns contents and settings; never where models lie."""
        where = {"path": True}
        return self.model_dump(mode="json", exclude={"there": where, "back": where, "batch": True})

    @property
    def maker(self) -> str:
        """Digest of what it is made with."""
        return fingerprint(self.identity())

    def variants(self, items: Sequence[Row], ctx: StageContext) -> Iterator[tuple[Row, list[Row | Refused]]]:
        """Yields each item with its copies.

        Raises:
            RecipeError: The items are words with tags, there are fewer beams than copies, or a model cannot be had.
            ContractError: A folder holds no model that translates.
        """
        if any(item["words"] is not None for item in items):
            raise RecipeError("back_translation moves words, and these have tags; use synonyms for token_classification")
        if self.copies > self.num_beams:
            raise RecipeError(f"back_translation.num_beams is {self.num_beams}: fewer than copies ({self.copies}); raise it")
        texts = list(dict.fromkeys(text for item in items for text in (item["text"], item["text_pair"]) if text is not None))
        found = self._translated(texts, ctx)
        for item in items:
            yield item, [_copy(item, found, number) for number in range(self.copies)]

    def _translated(self, texts: list[str], ctx: StageContext) -> dict[str, list[str] | None]:
        job = TranslateJob(
            texts=texts,
            out=ctx.dir / "translations.json",
            device=ctx.site.resolved_device,
            there=_folder(self.there),
            back=_folder(self.back),
            there_prefix=self.there.prefix,
            back_prefix=self.back.prefix,
            **self.model_dump(include={"copies", "num_beams", "max_tokens", "batch"}),
        )
        ctx.run_child("tasks.modeling.translate:translate_main", job)
        for name in ("there", "back"):
            if isinstance(one := getattr(self, name), FolderTranslator):
                check_unchanged(f"back_translation.{name}", one.digest, find_files([one.path]), ctx.site)
        return dict(zip(texts, read_translations(job.out), strict=True))


def _copy(item: Row, found: dict[str, list[str] | None], number: int) -> Row | Refused:
    parts = {}
    for name in ("text", "text_pair"):
        if item[name] is not None:
            ways = found[item[name]]
            if ways is None:
                return Refused("text is too long")
            parts[name] = ways[number].strip()
    if not all(parts.values()):
        return Refused("nothing came back")
    return item | parts


def _folder(one: FolderTranslator | HubTranslator) -> Path:
    if isinstance(one, FolderTranslator):
        return Path(one.path)
    return hub_model(one, _SUFFIXES, "its kind to folder")
