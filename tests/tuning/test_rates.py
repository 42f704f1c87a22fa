"""The learning rate where none is set, warnings about those that are, and the figures a tuning leaves."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from flows.__main__ import main
from flows.presets import load_recipe
from tasks.contracts import Checkpoint, Conversations, Split
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.core.store import Manifest, read_manifest
from tasks.modeling.batches import Example, ExampleRows, Ids, make_batch
from tasks.modeling.chat import fit, mark_answers
from tasks.modeling.infer import Reader
from tasks.modeling.model import token_losses
from tasks.modeling.scaling import peak_of
from tasks.modeling.specs import AdamWSpec, BudgetSpec, MuonSpec, TrainSpec
from tasks.tuning import FullSpec, LoraSpec, TuneSpec, tune
from tasks.tuning.conversation_rows import read_messages
from tasks.tuning.labelled import TuneLabelledSpec
from tasks.tuning.prefer import PreferSpec
from tasks.tuning.prepared import Method
from tasks.tuning.rates import peak_rate, rate_warning
from tests.modeling.kit import Old

FULL, LORA = FullSpec(kind="full"), LoraSpec(kind="lora")
SHORT = TrainSpec(batch_rows=4, num_epochs=0.5, eval_every_steps=4, checkpoint_every_steps=4)


@pytest.mark.parametrize(
    ("method", "set_rate", "base_rate", "expected"),
    [
        (FULL, None, 2e-3, 3e-4),  # 0.15 of the base's
        (FULL, 1e-5, 2e-3, 1e-5),
        (FULL, 0.0, None, 0.0),
        (LORA, None, 2e-3, 2e-3),  # its own
        (LORA, None, None, 2e-3),
    ],
)
def test_the_rate_is_the_recipe_s_or_the_method_s_or_a_share_of_the_base_s(
    method: Method, set_rate: float | None, base_rate: float | None, expected: float
) -> None:
    assert peak_rate(method, set_rate, base_rate) == pytest.approx(expected)


def test_a_base_that_records_no_rate_asks_for_one() -> None:
    with pytest.raises(RecipeError, match=r"records no peak learning rate.*set tune\.optim\.learning_rate"):
        peak_rate(FULL, None, None)


@pytest.mark.parametrize(("rate", "warned"), [(1.9e-4, True), (2e-4, False), (4e-4, False), (4.1e-4, True), (None, False)])
def test_a_rate_outside_of_a_tenth_to_a_fifth_is_warned_of(rate: float | None, warned: bool) -> None:
    assert (rate_warning(FULL, rate, 2e-3) is not None) == warned
    assert rate_warning(LORA, rate, 2e-3) is None


@pytest.mark.parametrize(("rate", "warned"), [({}, True), ({"matrix_learning_rate": 2e-3}, False)])
def test_matrices_that_muon_tunes_at_a_rate_of_pretraining_are_warned_of(rate: dict[str, float], warned: bool) -> None:
    muon = MuonSpec(kind="muon", **rate)
    for spec in (TuneSpec(method=FULL, optim=muon), TuneLabelledSpec(method=FULL, optim=muon)):
        found = spec.forewarnings(2e-3)
        assert ["matrix_learning_rate 0.01 is a rate of pretraining" in text for text in found] == [True] * warned
    found = PreferSpec(method=FULL, optim=muon).forewarnings()
    assert ["preference.learn.optim.matrix_learning_rate 0.01 is a rate" in text for text in found] == [True] * warned
    assert (
        TuneLabelledSpec(method=LORA, optim=muon).forewarnings(2e-3) == PreferSpec(method=LORA, optim=muon).forewarnings() == []
    )


def test_the_base_s_rate_is_in_its_manifest(base: Checkpoint) -> None:
    manifest = read_manifest(base.path)
    assert peak_of(manifest) == 1e-2
    derived = {"facts": {"figures": {"learning_rate": 3e-4}}, "spec": {"optim": {"learning_rate": None}}}
    assert peak_of(Manifest.model_construct(**derived)) == 3e-4
    assert peak_of(Manifest.model_construct(facts={}, spec={})) is None


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_base_that_was_trained_on_counts_by_its_first_peak(kind: str) -> None:
    facts = {"method": "pretrain", "figures": {"learning_rate": 1e-4, "base_learning_rate": 2e-3}}
    assert peak_of(Manifest.model_construct(facts=facts, spec={"optim": {"kind": kind, "learning_rate": 1e-4}})) == 2e-3


def test_a_base_of_muon_counts_by_the_peak_that_adamw_would_have_had() -> None:
    def recorded(**figures: float) -> Manifest:
        facts = {"figures": {"learning_rate": 1.6e-2} | figures}
        return Manifest.model_construct(facts=facts, spec={"optim": {"kind": "muon", "learning_rate": 1.6e-2}})

    assert peak_of(recorded(hidden_flops=1e18)) == pytest.approx(0.3118 * 1e18**-0.125)
    assert peak_of(recorded()) is None  # of a tuning by Muon nothing says what AdamW's would have been
    muon = load_recipe("demo").pretrain
    assert muon.peak == pytest.approx(0.3118 * 1e17**-0.125)
    assert muon.model_copy(update={"train": BudgetSpec()}).peak is None  # the budget depends on text nobody has encoded
    adamw = AdamWSpec(kind="adamw", learning_rate=4e-3)
    assert muon.model_copy(update={"optim": adamw}).peak == 4e-3


@pytest.fixture(scope="module")
def tuned(base: Checkpoint, conversations: Conversations, old: Old, shared_site: Site) -> Checkpoint:
    spec = TuneSpec(method=FULL, optim=AdamWSpec(kind="adamw", learning_rate=None), train=SHORT, precision="fp32")
    return tune.build(spec, base, conversations, *old, site=shared_site)


def test_a_tuning_leaves_its_figures_as_facts(tuned: Checkpoint) -> None:
    figures = tuned.figures
    assert figures["learning_rate"] == pytest.approx(1.5e-3)
    assert figures["trained_share"] == 1.0
    assert figures["kept_bytes"] == 4 * tuned.num_parameters
    assert figures["seconds"] > 0
    assert figures["tokens_per_s"] > 0
    assert 1e8 < figures["peak_memory_bytes"] < 1e11


def test_the_gap_is_of_the_kept_weights_on_rows_of_both_splits(tuned: Checkpoint, conversations: Conversations) -> None:
    reader = Reader.load(tuned.path / "model", "cpu", "fp32")
    rows = {split: answer_rows(reader, conversations, split) for split in ("train", "validation")}
    most = rows["validation"].num_rows
    assert rows["train"].num_rows > most
    spread = np.linspace(0, rows["train"].num_rows - 1, most).round().astype(np.int64)
    learned, held_out = mean_loss(reader, rows["train"], spread), mean_loss(reader, rows["validation"], np.arange(most))
    assert held_out == pytest.approx(tuned.validation_loss, rel=1e-4)
    assert tuned.figures["train_validation_gap"] == pytest.approx(held_out - learned, abs=1e-3)


def answer_rows(reader: Reader, conversations: Conversations, split: Split) -> ExampleRows:
    room = reader.model.config.max_position_embeddings
    marked = [
        fit(mark_answers(reader.tokenizer, messages, reader.special.turn_end), room + 1, "drop")
        for messages in read_messages(conversations.path, split)
    ]
    return ExampleRows([Example.of(one.ids, one.is_target) for one in marked if one is not None], room, reader.special.pad)


def mean_loss(reader: Reader, rows: ExampleRows, chosen: Ids) -> float:
    with torch.no_grad():
        parts = [token_losses(reader.model, make_batch(rows, chosen[n : n + 8], reader.device)) for n in range(0, len(chosen), 8)]
    return float(torch.cat(parts).mean())


def test_show_prints_them(tuned: Checkpoint, shared_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.core.site import current_site

    monkeypatch.setenv("TEXTMILL_STATE_DIR", str(shared_site.state_dir))
    current_site.cache_clear()
    shown = CliRunner().invoke(main, ["show", tuned.address]).output
    current_site.cache_clear()
    for name in ("learning_rate", "trained_share", "kept_bytes", "seconds", "peak_memory_bytes", "tokens_per_s"):
        assert f"figures.{name}" in shown


def test_plan_warns_of_a_rate_and_of_a_method_without_a_plain_form(site: Site) -> None:
    def planned(*overrides: str) -> str:
        base = "pretrain.optim={kind='adamw',learning_rate=0.002}"
        options = [part for override in (base, *overrides) for part in ("--set", override)]
        return CliRunner().invoke(main, ["plan", "demo", *options]).output

    warning = "0.0005 is 0.25 of the base's peak by AdamW, 0.002; usual is 0.1 to 0.2 (0.0002 to 0.0004), and off takes 0.0003"
    assert warning in planned("tune.optim.learning_rate=0.0005")
    assert "warning" not in planned("tune.optim.learning_rate=off")
    assert "tune.method prefix does not merge" in planned("tune.method.kind=prefix")


def test_plan_refuses_what_this_machine_cannot_do(site: Site) -> None:
    result = CliRunner().invoke(main, ["plan", "demo", "--set", "tune.method.kind=qlora"])
    assert result.exit_code == 2
    assert "qlora needs a CUDA device" in result.output


def test_every_method_can_be_named_in_a_recipe() -> None:
    kinds = [
        "full",
        "head",
        "top_layers",
        "freeze",
        "layer_decay",
        "gradual",
        "lora",
        "qlora",
        "ia3",
        "bottleneck",
        "prefix",
        "prompt",
    ]
    assert [load_recipe("demo", [f"tune.method.kind={kind}"]).tune.method.kind for kind in kinds] == kinds
