"""Adapters through peft: no change at first, the base never moves, as many weights as the formula says, merged as trained."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.modeling.adapted import bind, check_bound
from tasks.modeling.model import num_parameters
from tasks.tuning.ia3 import Ia3Spec
from tasks.tuning.lora import LoraSpec
from tasks.tuning.qlora import QloraSpec
from tasks.tuning.through_peft import MERGE_TOLERANCE
from tests.tuning.kit import logits, snapshot, tiny, train

ALL = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
PLAIN = LoraSpec(kind="lora", rank=2)
VARIANTS = {
    "plain": PLAIN,
    "rslora": PLAIN.model_copy(update={"rank_stabilized": True}),
    "dora": PLAIN.model_copy(update={"variant": "dora"}),
    "pissa": PLAIN.model_copy(update={"variant": "pissa"}),
    "pissa-rslora": PLAIN.model_copy(update={"variant": "pissa", "rank_stabilized": True}),
}


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference as a share of the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def frozen(model: Any) -> dict[str, torch.Tensor]:
    """The base's weights inside an adapted model, by their names in the base."""
    return {
        name.replace(".base_layer", ""): weight.detach().clone()
        for name, weight in model.named_parameters()
        if "lora_" not in name and "ia3_" not in name
    }


@pytest.mark.parametrize("name", ["plain", "rslora", "dora"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_nothing_changes_at_first_and_the_base_never_moves(family: str, name: str, tmp_path: Path) -> None:
    model = tiny(family)
    before, start = logits(model), snapshot(model)
    prepared = VARIANTS[name].prepare(model, 0)
    assert far(logits(prepared.model), before) == 0.0 if name != "dora" else far(logits(prepared.model), before) < 1e-6
    train(prepared, 3)
    trained = logits(prepared.model)
    assert far(trained, before) > 1e-3
    inside = frozen(prepared.model)
    assert inside.keys() == start.keys()
    assert all(torch.equal(inside[key], start[key]) for key in start)
    assert far(logits(prepared.finish(tmp_path / "adapter")), trained) < MERGE_TOLERANCE


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_fewer_passes_give_the_logits_and_gradients_of_peft(family: str, dropout: float) -> None:
    from tasks.tuning.fewer_passes import as_peft_does, use_fewer_passes

    model = LoraSpec(kind="lora", rank=2, dropout=dropout).prepare(tiny(family), 0).model.train()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)

    def found() -> tuple[torch.Tensor, list[torch.Tensor]]:
        torch.manual_seed(0)  # what dropout leaves out
        said = model(input_ids=torch.arange(24).view(2, 12)).logits
        wanted = [weight for weight in model.parameters() if weight.requires_grad]
        return said.detach(), list(torch.autograd.grad(said.square().mean(), wanted))

    changed = [module for module in model.modules() if "forward" in vars(module)]
    few, few_gradients = found()
    as_peft_does(model)
    assert not [module for module in model.modules() if "forward" in vars(module)]
    plain, gradients = found()
    torch.testing.assert_close(few, plain)
    torch.testing.assert_close(few_gradients, gradients, rtol=1e-4, atol=1e-7)
    use_fewer_passes(model)
    assert len(changed) == len([module for module in model.modules() if "forward" in vars(module)])
    # GPT-2's layers are no nn.Linear, its norms no root mean squares; norms of Qwen 3 are those of Llama.
    assert bool(changed) is (family != "gpt2")


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_fewer_passes_under_autocast_are_as_near_to_fp32_as_those_of_peft(family: str) -> None:
    from tasks.modeling.precision import autocast
    from tasks.tuning.fewer_passes import as_peft_does, use_fewer_passes

    model = LoraSpec(kind="lora", rank=2).prepare(tiny(family), 0).model.train()
    layer = model.model.layers[0]
    with torch.no_grad():
        for weight in (layer.mlp.down_proj.lora_B["default"].weight, layer.self_attn.q_proj.lora_B["default"].weight):
            weight.normal_(std=0.1)

    def found(read: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, wanted: list[torch.Tensor], precision: str) -> Any:
        with autocast(torch.device("cpu"), precision):
            made = read(x)
        along = torch.randn(made.shape, generator=torch.Generator().manual_seed(1))
        slopes = torch.autograd.grad((made.float() * along).sum(), [x, *wanted])
        assert [slope.dtype for slope in slopes] == [torch.float32] * len(slopes)
        return made, torch.cat([slope.flatten() for slope in slopes])

    def read_norm(x: torch.Tensor) -> torch.Tensor:
        return layer.self_attn.q_proj(layer.input_layernorm(x))

    for read, reader in ((layer.mlp.down_proj, layer.mlp.down_proj), (read_norm, layer.self_attn.q_proj)):
        x = torch.randn(2, 12, reader.in_features, requires_grad=True)
        wanted = [reader.lora_A["default"].weight, reader.lora_B["default"].weight]
        made, exact = found(read, x, wanted, "fp32")
        few, few_slopes = found(read, x, wanted, "bf16")
        as_peft_does(model)
        plain, plain_slopes = found(read, x, wanted, "bf16")
        use_fewer_passes(model)
        assert few.grad_fn.name() == "_UpdatedBackward" != plain.grad_fn.name()
        assert few.dtype == plain.dtype == torch.bfloat16
        assert (few - made).norm() < 1.1 * (plain - made).norm() < 0.01 * made.norm()
        assert (few_slopes - exact).norm() < 1.1 * (plain_slopes - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("name", ["pissa", "pissa-rslora"])
def test_pissa_starts_at_the_base_within_rounding_and_is_kept_as_plain_lora(name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = tiny("llama")
    before = logits(model)
    prepared = VARIANTS[name].prepare(model, 0)
    assert far(logits(prepared.model), before) < 1e-5
    assert not torch.equal(
        frozen(prepared.model)["model.layers.0.mlp.up_proj.weight"], tiny("llama").model.layers[0].mlp.up_proj.weight
    )
    train(prepared, 3)
    trained = logits(prepared.model)
    merged = prepared.finish(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (4, True)  # the update and, with a minus, where it started
    again = PeftModel.from_pretrained(tiny("llama"), tmp_path / "adapter").get_base_model()
    assert far(trained, before) > 1e-3
    assert far(logits(again), trained) < 1e-5
    assert far(logits(merged), trained) < MERGE_TOLERANCE


@pytest.mark.parametrize("name", VARIANTS)
def test_preparing_twice_gives_the_same_bits(name: str) -> None:
    """A resumed training prepares anew: what the checkpoint does not hold (PiSSA's rest of the weights) must be the same."""
    one, other = (snapshot(VARIANTS[name].prepare(tiny("llama"), 5).model) for _ in range(2))
    assert all(torch.equal(weight, other[key]) for key, weight in one.items())
    different = snapshot(VARIANTS[name].prepare(tiny("llama"), 6).model)
    assert any(not torch.equal(weight, different[key]) for key, weight in one.items()) == (not name.startswith("pissa"))


def test_it_trains_r_times_inputs_and_outputs() -> None:
    # Width 16, feed-forward 24, one key-value head of 8: q, k, v, o, gate, up, down in each of 4 layers.
    sizes = [(16, 16), (16, 8), (16, 8), (16, 16), (16, 24), (16, 24), (24, 16)]
    expected = 4 * 2 * sum(inputs + outputs for inputs, outputs in sizes)
    assert num_parameters(PLAIN.prepare(tiny("llama"), 0).model, trained_only=True) == expected
    dora = num_parameters(VARIANTS["dora"].prepare(tiny("llama"), 0).model, trained_only=True)
    assert dora == expected + 4 * sum(outputs for _, outputs in sizes)  # and a length for each output


def test_the_scale_is_alpha_over_rank_or_its_root() -> None:
    def scale(spec: LoraSpec) -> float:
        return float(spec.prepare(tiny("llama"), 0).model.model.layers[0].mlp.up_proj.scaling["default"])

    assert scale(LoraSpec(kind="lora", rank=4, alpha=6.0)) == 1.5
    assert scale(LoraSpec(kind="lora", rank=4, alpha=6.0, rank_stabilized=True)) == 3.0


def test_only_the_targets_get_adapters() -> None:
    model = LoraSpec(kind="lora", targets=("q_proj", "mlp.down_proj")).prepare(tiny("llama"), 0).model
    trained = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {"q_proj", "down_proj"}


@pytest.mark.parametrize("spec", [LoraSpec, Ia3Spec, QloraSpec])
def test_an_unknown_target_is_refused_with_those_there_are(spec: Any) -> None:
    kind = spec.model_fields["kind"].annotation.__args__[0]
    with pytest.raises(RecipeError, match=r"no linear layer named w_proj; it has down_proj, gate_proj, k_proj, o_proj, q_proj"):
        spec(kind=kind, targets=("q_proj", "w_proj")).prepare(tiny("llama"), 0)


def test_a_rank_pissa_cannot_have_is_refused() -> None:
    with pytest.raises(RecipeError, match="rank is 16, but pissa takes at most the smallest size, 8"):
        LoraSpec(kind="lora", variant="pissa").prepare(tiny("llama"), 0)
    LoraSpec(kind="lora", variant="pissa", targets=("q_proj",)).prepare(tiny("llama"), 0)  # of 16 by 16


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_ia3_starts_at_the_base_leaves_it_alone_and_merges(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    before, start = logits(model), snapshot(model)
    prepared = Ia3Spec(kind="ia3").prepare(model, 0)
    assert far(logits(prepared.model), before) == 0.0
    train(prepared, 3)
    trained = logits(prepared.model)
    assert far(trained, before) > 1e-4
    inside = frozen(prepared.model)
    assert all(torch.equal(inside[key], start[key]) for key in start)
    assert far(logits(prepared.finish(tmp_path / "adapter")), trained) < MERGE_TOLERANCE


def test_ia3_trains_a_scale_a_channel() -> None:
    # Keys and values of 8 by output, the input of the feed-forward's last matrix of 24, in each of 4 layers.
    assert num_parameters(Ia3Spec(kind="ia3").prepare(tiny("llama"), 0).model, trained_only=True) == 4 * (8 + 8 + 24)
    chosen = Ia3Spec(kind="ia3", targets=("k_proj", "down_proj"), feedforward=("down_proj",))
    assert num_parameters(chosen.prepare(tiny("llama"), 0).model, trained_only=True) == 4 * (8 + 24)
    outputs = Ia3Spec(kind="ia3", targets=("k_proj", "down_proj"))
    assert num_parameters(outputs.prepare(tiny("llama"), 0).model, trained_only=True) == 4 * (8 + 16)


def test_ia3_takes_the_usual_names_or_says_what_it_needs_where_peft_knows_no_targets() -> None:
    model = tiny("llama")
    model.config.model_type = "somebody"
    assert num_parameters(Ia3Spec(kind="ia3").prepare(model, 0).model, trained_only=True) == 4 * (8 + 8 + 24)
    model = tiny("gpt2")
    model.config.model_type = "somebody"
    with pytest.raises(RecipeError, match=r"none are known for somebody; choose among c_attn, c_fc, c_proj"):
        Ia3Spec(kind="ia3").prepare(model, 0)
    with pytest.raises(RecipeError, match=r"feedforward: down_proj must be among"):
        Ia3Spec(kind="ia3", targets=("k_proj",), feedforward=("down_proj",)).prepare(tiny("llama"), 0)


def test_qlora_is_refused_before_any_work_without_cuda() -> None:
    with pytest.raises(RecipeError, match=r"needs a CUDA device \(this site trains on cpu\).*set tune\.method\.kind to lora"):
        QloraSpec(kind="qlora").check_site(Site(device="cpu"))


def test_qlora_is_refused_where_weights_are_cut_over_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    QloraSpec(kind="qlora").check_site(Site(device="cuda", num_processes=2, sharding="ddp"))
    with pytest.raises(RecipeError, match=r"qlora needs whole weights in each process; set TEXTMILL_SHARDING to ddp"):
        QloraSpec(kind="qlora").check_site(Site(device="cuda", num_processes=2, sharding="fsdp2"))


def test_each_process_reads_a_base_in_four_bits_onto_its_own_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import transformers

    asked: dict[str, Any] = {}

    def read(folder: Path, **options: Any) -> Any:
        asked.update(options)
        return tiny("llama")

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(transformers, "BitsAndBytesConfig", dict)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", read)
    QloraSpec(kind="qlora").load(tmp_path)
    assert asked["device_map"] == {"": torch.device("cuda", 1)}


def test_an_adapter_knows_its_base(tmp_path: Path) -> None:
    base, other, adapter = tmp_path / "base", tmp_path / "other", tmp_path / "adapter"
    PLAIN.prepare(tiny("llama"), 0).finish(adapter)
    tiny("llama").save_pretrained(base)
    tiny("qwen3").save_pretrained(other)
    bind(adapter, base, "5" * 64)
    check_bound(adapter, base)
    with pytest.raises(ContractError, match=r"was trained on checkpoint 555555555555, and .*other holds other weights"):
        check_bound(adapter, other)


@pytest.mark.gpu
def test_qlora_trains_beside_four_bits_and_merges_into_the_exact_base(tmp_path: Path) -> None:
    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("needs CUDA and bitsandbytes")
    tiny("llama").save_pretrained(tmp_path / "base")
    spec = QloraSpec(kind="qlora", rank=2)
    prepared = spec.prepare(spec.load(tmp_path / "base"), 0)
    assert any(weight.dtype == torch.uint8 for weight in prepared.model.parameters())
    assert all("lora_" in name for name, weight in prepared.model.named_parameters() if weight.requires_grad)
    merged = prepared.finish(tmp_path / "adapter")
    assert all(torch.equal(weight.cpu(), snapshot(tiny("llama"))[name]) for name, weight in merged.named_parameters())
