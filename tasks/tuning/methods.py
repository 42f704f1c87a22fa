"""The tuning methods: one file each, one line here.

In: nothing. Out: `MethodSpec`. Invariant: each one is a `Method`; the loop knows none of them.
"""

from typing import Annotated

from pydantic import Field

from tasks.tuning.bottleneck import BottleneckSpec
from tasks.tuning.full import FullSpec
from tasks.tuning.gradual import GradualSpec
from tasks.tuning.head import HeadSpec
from tasks.tuning.ia3 import Ia3Spec
from tasks.tuning.layer_decay import LayerDecaySpec
from tasks.tuning.lora import LoraSpec
from tasks.tuning.qlora import QloraSpec
from tasks.tuning.some_layers import FreezeSpec, TopLayersSpec
from tasks.tuning.virtual_tokens import PrefixSpec, PromptSpec

MethodSpec = Annotated[
    FullSpec
    | HeadSpec
    | TopLayersSpec
    | FreezeSpec
    | LayerDecaySpec
    | GradualSpec
    | LoraSpec
    | QloraSpec
    | Ia3Spec
    | BottleneckSpec
    | PrefixSpec
    | PromptSpec,
    Field(discriminator="kind"),
]
