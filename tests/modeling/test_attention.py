"""Attention of packed rows: within documents, as the mask says it."""

from typing import Any

import pytest
import torch

from tasks.modeling import attention, block_attention
from tasks.modeling.attention import Documents, packed_mask, with_packed_attention
from tasks.modeling.model import build_model
from tasks.modeling.precision import autocast
from tasks.modeling.specs import ModelSpec
from tests.architectures import tiny_of
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


@pytest.mark.parametrize("knows_documents", [True, False])
def test_looks_are_left_out_while_training_and_are_whole_on_average(knows_documents: bool) -> None:
    model = with_packed_attention(tiny_of("gpt2", attn_pdrop=0.5, resid_pdrop=0.0, embd_pdrop=0.0))
    segments = torch.tensor([[0] * 10 + [1] * 13 + [2]])
    mask, generator = packed_mask(segments, torch.float32), torch.Generator().manual_seed(0)
    layer, states = model.transformer.h[0].attn, torch.randn(1, 24, 32, generator=generator)
    documents = Documents.of(segments) if knows_documents else None

    def mixed() -> torch.Tensor:
        found: torch.Tensor = layer(states, attention_mask=mask, documents=documents)[0]
        return found

    with torch.no_grad():
        whole = mixed()
        torch.testing.assert_close(mixed(), whole, rtol=0, atol=0)
        layer.train()
        drawn = torch.stack([mixed() for _ in range(2000)])
    assert (drawn[0] - drawn[1]).abs().max() > 0.1 * whole.abs().max()
    assert (drawn.mean(dim=0) - whole).abs().max() < 0.1 * whole.abs().max()


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("lengths", [(16, 16, 16), (1, 2, 40, 3), (33,), (5, 11, 60, 4, 4), (48, 60), (64, 1)])
def test_blocks_in_bf16_are_each_document_alone_within_rounding(
    lengths: tuple[int, ...], kv_heads: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_attention, "_BLOCK", 16)
    monkeypatch.setattr(attention, "_SHORT", 48)
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(1, heads, sum(lengths), 16, generator=generator) for heads in (4, kv_heads, kv_heads)]
    wanted = torch.randn(1, sum(lengths), 4, 16, generator=generator)

    def found(precision: str, **changed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inputs = [one.clone().requires_grad_() for one in (changed.get("query", states[0]), *states[1:])]
        options = {"documents": Documents(lengths), "sliding_window": window}
        with autocast(torch.device("cpu"), precision):
            mixed, _ = attention._packed_attention(None, *inputs, torch.zeros(1), 0.3, **options)
        return mixed, *torch.autograd.grad((mixed.float() * wanted).sum(), inputs)

    block_attention._cut.cache_clear()
    exact, rounded = found("fp32"), found("bf16")
    assert [one.dtype for one in rounded] == [torch.bfloat16, *[torch.float32] * 3]
    for one, other in zip(rounded, exact, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0.05, atol=0.05)
        assert (one.float() - other).norm() < 0.01 * other.norm()
    # What follows changes nothing, to the bit: a mask, not a small number, keeps it away.
    first = sum(lengths[:-1]) + lengths[-1] // 2
    later = found("bf16", query=torch.cat([states[0][:, :, :first], states[0][:, :, first:] + 1], dim=2))
    assert torch.equal(later[0][:, :first], rounded[0][:, :first])
    block_attention._cut.cache_clear()


def test_blocks_are_whole_rows_at_once_where_no_document_crosses_them() -> None:
    def shapes(*lengths: int) -> list[tuple[int, int, int]]:
        found = block_attention._cut(lengths, None, 2, 3)
        return [(one.num_blocks, one.queries.stop - one.queries.start, one.keys.stop - one.keys.start) for one in found]

    assert shapes(100, 156, 256, 256) == [(3, 768, 768)]
    assert shapes(512) == [(1, 256, 256), (1, 256, 512)]
    assert shapes(200, 200, 200) == [(1, 256, 256), (1, 256, 312), (1, 88, 200)]
    assert [tuple(one.mask.shape) for one in block_attention._cut((256, 256, 3), None, 2, 3)] == [(4, 768, 256), (1, 9, 3)]


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
