# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""The number format of products; weights stay in fp32.

In: a precision by name. Out: the context in which it holds, and the format that holds at this moment.
"""

from typing import Any

import torch


def autocast(device: torch.device, precision: str) -> Any:
    """Returns the context in which products run in `precision`; weights stay fp32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def product_dtype(device: torch.device) -> torch.dtype:
    """Returns the number format of products at this moment."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
