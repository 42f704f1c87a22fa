"""The objectives a model can be trained for: one file each, one line here.

In: nothing. Out: `ObjectiveSpec`. Invariant: each one is an `Objective`; the loop knows none of them.
"""

from typing import Annotated

from pydantic import Field

from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.objectives.fill_in_the_middle import FillInTheMiddleSpec
from tasks.modeling.objectives.masked import MaskedSpec
from tasks.modeling.objectives.masked_next_sentence import MaskedNextSentenceSpec
from tasks.modeling.objectives.span_corruption import SpanCorruptionSpec
from tasks.modeling.objectives.text_infilling import TextInfillingSpec

ObjectiveSpec = Annotated[
    CausalSpec | MaskedSpec | MaskedNextSentenceSpec | SpanCorruptionSpec | TextInfillingSpec | FillInTheMiddleSpec,
    Field(discriminator="kind"),
]
