"""Any filter block of datatrove as a filter of a recipe.

In: the name of a class in `datatrove.pipeline.filters` and its settings. Out: its judgement. Invariant: the block sees the
text as it is; what it takes out of the text is taken out.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from tasks.cleaning.base import Example, FilterBase, Judge, Language, ask
from tasks.core.errors import RecipeError

_PARAGRAPHS = "\n".join([f"Paragraph {number} goes on and on" + " and on" * 30 + "." for number in range(3)])


class DatatroveBlock(FilterBase):
    """A filter of datatrove, by name."""

    kind: Literal["datatrove"]
    block: Annotated[str, Field(description="Class in datatrove.pipeline.filters.")] = "C4ParagraphFilter"
    settings: dict[str, JsonValue] = Field(default_factory=dict, description="Arguments of the class.")

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example(_PARAGRAPHS, "en", None),
        Example("A single short paragraph.", "en", "< 3 paragraphs"),
    )

    def build(self) -> Judge:
        """Returns the judge, the same for every language.

        Raises:
            RecipeError: datatrove has no such filter, or it does not take these settings.
        """
        block = self._made()

        def judge(text: str, lang: Language) -> tuple[str, str | None]:
            return ask(block, text)

        return judge

    def _made(self) -> Any:
        from datatrove.pipeline import filters
        from datatrove.pipeline.filters.base_filter import BaseFilter

        found = getattr(filters, self.block, None)
        if not (isinstance(found, type) and issubclass(found, BaseFilter)):
            names = ", ".join(name for name in vars(filters) if name.endswith("Filter"))
            raise RecipeError(f"datatrove has no filter {self.block!r}; there are: {names}")
        try:
            return found(**self.settings)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"datatrove's {self.block} does not take the settings {self.settings}: {error}") from error
