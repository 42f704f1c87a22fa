"""Attention of packed rows: within documents, as the mask says it."""

from typing import Any

import pytest
import torch

from tasks.modeling import attention
from tasks.modeling.attention import Documents, packed_mask
from tasks.modeling.model import build_model
from tasks.modeling.precision import autocast
from tasks.modeling.specs import ModelSpec
from tests.modeling.training import SPECIAL


@pytest.mark.parametrize(
    ("segments", "lengths"),
    [
        ([[0, 0, 1, 1, 1]], (2, 3)),
        ([[0, 0, 1], [0, 1, 1]], (2, 1, 1, 2)),
        ([[0, 0, 0], [0, 0, 0]], (3, 3)),
        ([[0, 1, 1], [1, 1, 2]], (1, 2, 2, 1)),
    ],
)
def test_documents_are_runs_of_a_row_s_segments(segments: list[list[int]], lengths: tuple[int, ...]) -> None:
    assert Documents.of(torch.tensor(segments)) == Documents(lengths)


def test_on_a_device_documents_are_not_read() -> None:
    assert Documents.of(torch.zeros(1, 4, dtype=torch.long, device="meta")) is None


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_within_documents_is_what_the_mask_says_and_so_are_gradients(kv_heads: int) -> None:
    spec = ModelSpec(family="llama", depth=2, width=32, num_heads=4, num_kv_heads=kv_heads, ffn_width=64, context_tokens=32)
    model = build_model(spec, 64, SPECIAL, 0)
    ids = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(0))
    segments = torch.tensor([[0] * 10 + [1] * 13 + [2], [0] * 24])

    def found(**documents: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
        states = model.base_model(
            input_ids=ids, attention_mask=packed_mask(segments, torch.float32), use_cache=False, **documents
        ).last_hidden_state
        return states, list(torch.autograd.grad(states.square().sum(), list(model.base_model.parameters())))

    (by_mask, slopes), (within, own_slopes) = found(), found(documents=Documents.of(segments))
    torch.testing.assert_close(within, by_mask, rtol=1e-5, atol=1e-5)
    assert not torch.equal(within, by_mask)  # another kernel
    for one, other in zip(own_slopes, slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("length", [12, 24, 40])
def test_products_in_bf16_are_the_fused_kernel_s_within_rounding(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_SQUARES", range(16, 33))
    states = [torch.randn(4, length, 16, generator=torch.Generator().manual_seed(seed), requires_grad=True) for seed in range(3)]

    def found(precision: str) -> tuple[torch.Tensor, ...]:
        with autocast(torch.device("cpu"), precision):
            mixed = attention._causal(0.3, *states)
        return mixed, *torch.autograd.grad(mixed.float().square().sum(), states)

    exact, rounded = found("fp32"), found("bf16")
    assert rounded[0].dtype == torch.bfloat16
    fused = [made.grad_fn.next_functions[0][0].name().startswith("ScaledDotProductFlash") for made in (exact[0], rounded[0])]
    assert fused == [True, length != 24]
    for one, other in zip(rounded, exact, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0.05, atol=0.05)
    with autocast(torch.device("cpu"), "bf16"):
        changed = attention._causal(0.3, *(torch.cat([part[:, :-1], part[:, -1:] + 1], dim=1) for part in states))
    assert torch.equal(changed[:, :-1], rounded[0][:, :-1])  # the last position is seen by itself only


def test_compiled_layers_take_the_mask_and_are_not_compiled_anew_for_other_documents() -> None:
    import torch._dynamo

    spec = ModelSpec(family="llama", depth=2, width=32, num_heads=4, ffn_width=64, context_tokens=32)
    model, found = build_model(spec, 64, SPECIAL, 0), []
    for layer in model.base_model.layers:
        layer.compile(backend="eager", dynamic=False)
    ids = torch.randint(0, 64, (1, 16), generator=torch.Generator().manual_seed(0))
    for lengths in ([10, 6], [4, 4, 8], [16]):
        segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
        packed = {"input_ids": ids, "attention_mask": packed_mask(segments, torch.float32), "use_cache": False}
        with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=bool(found)):
            found.append(model.base_model(**packed, documents=Documents.of(segments)).last_hidden_state)
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            assert torch.equal(found[-1], model.base_model(**packed).last_hidden_state)
