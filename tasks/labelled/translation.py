"""Back-translation: a copy of an item that went into another language and back.

In: items, and two models of `transformers` that translate. Out: items, or the reason why there is none. Invariants: a child
process translates; nothing but safetensors is loaded; a text that is too long, or whose translation is, is not cut but left out.

After Sennrich et al. 2016 (arXiv:1511.06709) and Xie et al. 2020 (UDA, arXiv:1904.12848).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.artifact import Spec
from tasks.core.errors import RecipeError
from tasks.core.fingerprint import fingerprint
from tasks.core.hub import HubModel, hub_model
from tasks.core.inputs import check_unchanged, find_files, pin
from tasks.core.rows import Refused
from tasks.core.site import Site
from tasks.core.stage import StageContext
from tasks.core.tables import Row
from tasks.modeling.translate_job import TranslateJob, TranslatorJob, read_translations

_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".spm")


class _Told(Spec):
    """How a model is told what to do."""

    prefix: Annotated[
        str, Field(description="Put before each text: what T5 asks for (translate English to German: ), or a chat model's task.")
    ] = ""
    is_chat: Annotated[
        bool, Field(description="A chat model, asked in its template; else an encoder-decoder, such as Marian or T5.")
    ] = False

    @model_validator(mode="after")
    def _chat_models_have_a_task(self) -> Self:
        if self.is_chat and not self.prefix.strip():
            example = '"Translate this text into Chinese. Answer with the translation only.\\n\\n"'
            raise ValueError(f"a chat model does what it is told: set prefix, e.g. {example}")
        return self


class FolderTranslator(_Told):
    """A folder of a model that `transformers` loads."""

    kind: Literal["folder"]
    path: Annotated[str, Field(description="Folder of the model.")]
    digest: Annotated[str | None, Field(description="Filled in by the pipeline: what the files' bytes are.")] = None

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are."""
        return self if self.digest else self.model_copy(update={"digest": pin(find_files([self.path]), site)})


class HubTranslator(_Told, HubModel):
    """A model of the Hugging Face hub, safetensors only, e.g. Helsinki-NLP/opus-mt-zh-en."""

    kind: Literal["hub"]


Translator = Annotated[FolderTranslator | HubTranslator, Field(discriminator="kind")]


class BackTranslationSpec(Spec):
    """Each training item translated into another language and back."""

    kind: Literal["back_translation"]
    there: Annotated[Translator, Field(description="Model that translates into the other language.")]
    back: Annotated[Translator, Field(description="Model that translates back.")]
    copies: Annotated[int, Field(ge=1, le=16, description="Copies of each item: the best so many ways back.")] = 1
    num_beams: Annotated[int, Field(ge=1, le=16, description="Beams of the search; at least as many as copies.")] = 4
    max_tokens: Annotated[
        int, Field(ge=4, description="Longest text in tokens, on the way too; longer ones are left out and counted.")
    ] = 256
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
        texts = {text for item in items for text in (item["text"], item["text_pair"]) if text is not None}
        found = self._translated(sorted(texts, key=lambda text: (len(text), text)), ctx)  # batches of like length
        for item in items:
            yield item, [_copy(item, found, number) for number in range(self.copies)]

    def _translated(self, texts: list[str], ctx: StageContext) -> dict[str, list[str | None]]:
        """Returns the ways back of each text."""
        job = TranslateJob(
            texts=texts,
            out=ctx.dir / "translations.json",
            device=ctx.site.resolved_device,
            there=_told(self.there),
            back=_told(self.back),
            **self.model_dump(include={"copies", "num_beams", "max_tokens", "batch"}),
        )
        ctx.run_child("tasks.modeling.translate:translate_main", job)
        for name in ("there", "back"):
            if isinstance(one := getattr(self, name), FolderTranslator):
                check_unchanged(f"back_translation.{name}", one.digest, find_files([one.path]), ctx.site)
        return dict(zip(texts, read_translations(job.out), strict=True))


def _copy(item: Row, found: dict[str, list[str | None]], number: int) -> Row | Refused:
    parts = {}
    for name in ("text", "text_pair"):
        if item[name] is not None:
            way = found[item[name]][number]
            if way is None:
                return Refused("text is too long")
            parts[name] = way.strip()
    if not all(parts.values()):
        return Refused("nothing came back")
    return item | parts


def _told(one: FolderTranslator | HubTranslator) -> TranslatorJob:
    folder = Path(one.path) if isinstance(one, FolderTranslator) else hub_model(one, _SUFFIXES, "its kind to folder")
    return TranslatorJob(folder=folder, prefix=one.prefix, is_chat=one.is_chat)
