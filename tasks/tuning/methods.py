"""The tuning methods: one file each, one line here.

In: nothing. Out: `MethodSpec`. Invariant: each one offers `prepare(model) -> Prepared`; the loop knows none of them.
"""

from typing import Annotated

from pydantic import Field

from tasks.tuning.full import FullSpec
from tasks.tuning.lora import LoraSpec

MethodSpec = Annotated[FullSpec | LoraSpec, Field(discriminator="kind")]
