"""Two gloo processes under torchrun tune as one does: every method, on whole and on sharded weights; labels and preferences.

Tolerance: sums of gradients in another order. Losses and norms agree to 1e-3 of their value, weights to 1e-3.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts import Checkpoint, Conversations
from tasks.core import child
from tasks.core.errors import TransientError
from tasks.core.site import Site
from tasks.modeling.specs import AdamWSpec, MuonSpec, TrainSpec
from tasks.tuning import TuneSpec, estimate_fisher, tune
from tasks.tuning.labelled import TuneLabelledSpec, tune_labelled
from tasks.tuning.prefer import PreferSpec, prefer
from tests.architectures import adopted, writer
from tests.modeling.kit import Old, ToySpec, in_process
from tests.modeling.test_parallel import assert_same_training
from tests.tuning.labelled_kit import ToyBaseSpec, ToyLabelledSpec, toy_base, toy_labelled
from tests.tuning.test_prefer import toy_preferences

pytestmark = pytest.mark.slow

run_child = child.run_child  # before any test replaces it
OPTIM = AdamWSpec(kind="adamw", learning_rate=3e-3, weight_decay=0.0)
TRAIN = TrainSpec(batch_rows=4, num_epochs=3, eval_every_steps=3, checkpoint_every_steps=3)
METHODS: dict[str, dict[str, Any]] = {
    "full": {"kind": "full"},
    "head": {"kind": "head"},
    "top_layers": {"kind": "top_layers"},
    "layer_decay": {"kind": "layer_decay"},
    "gradual": {"kind": "gradual", "period": {"kind": "steps", "steps": 2}},
    "lora": {"kind": "lora", "rank": 4},
    "dora": {"kind": "lora", "rank": 4, "variant": "dora"},
    "pissa": {"kind": "lora", "rank": 4, "variant": "pissa"},
    "ia3": {"kind": "ia3"},
    "bottleneck": {"kind": "bottleneck"},
    "prefix": {"kind": "prefix"},
    "prefix_mlp": {"kind": "prefix", "hidden_size": 16},
    "prompt": {"kind": "prompt"},
}
WHOLE, SHARDED = ("full", "gradual", "lora", "prefix", "prompt"), [name for name in METHODS if name != "prompt"]
# BART's keys have a bias, whose gradient is rounding alone: only what leaves it where it is can be compared.
OTHERS = [("gemma2", "full"), ("gemma2", "lora"), ("t5", "full"), ("t5", "lora"), ("bart", "lora")]
Tuning = Callable[[Site], Checkpoint]


def in_one_and_in_two(tuning: Tuning, folder: Path, sharding: str) -> tuple[Checkpoint, Checkpoint]:
    """Runs a tuning in this process, and in two under torchrun."""
    with in_process():
        alone = tuning(Site(state_dir=folder / "alone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.core.child.run_child", run_child)
        return alone, tuning(Site(state_dir=folder / "two", num_processes=2, num_threads=1, sharding=sharding))


@pytest.mark.parametrize(("method", "sharding"), [(name, "ddp") for name in WHOLE] + [(name, "fsdp2") for name in SHARDED])
def test_a_method_tunes_the_same_in_two_processes(
    method: str, sharding: str, base: Checkpoint, conversations: Conversations, old: Old, tmp_path: Path
) -> None:
    spec = TuneSpec.model_validate({"method": METHODS[method], "train": TRAIN, "optim": OPTIM, "precision": "fp32"})
    assert_same_training(
        *in_one_and_in_two(lambda site: tune.build(spec, base, conversations, *old, site=site), tmp_path, sharding)
    )


def test_muon_updates_matrices_of_fewer_rows_than_processes(
    base: Checkpoint, conversations: Conversations, old: Old, tmp_path: Path
) -> None:
    asked = {"method": METHODS["lora"] | {"rank": 1}, "train": TRAIN, "precision": "fp32"}
    spec = TuneSpec.model_validate(asked | {"optim": MuonSpec(kind="muon", learning_rate=3e-3, weight_decay=0.0)})
    assert_same_training(
        *in_one_and_in_two(lambda site: tune.build(spec, base, conversations, *old, site=site), tmp_path, "fsdp2")
    )


@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
@pytest.mark.parametrize(("architecture", "method"), OTHERS)
def test_a_base_of_others_is_tuned_the_same_in_two_processes(
    architecture: str, method: str, sharding: str, conversations: Conversations, old: Old, shared_site: Site, tmp_path: Path
) -> None:
    given = adopted(architecture, writer(architecture), shared_site, tmp_path / "given")
    asked = {"method": METHODS[method], "train": TRAIN, "optim": OPTIM, "precision": "fp32", "row_tokens": 64}
    spec = TuneSpec.model_validate(asked)
    assert_same_training(
        *in_one_and_in_two(lambda site: tune.build(spec, given, conversations, *old, site=site), tmp_path, sharding)
    )


@pytest.mark.parametrize(
    ("against", "sharding"),
    [
        ({"replay": {"share": 0.4}}, "ddp"),
        ({"replay": {"share": 0.4}}, "fsdp2"),
        ({"ewc": {"strength": 3e3, "num_rows": 8}}, "ddp"),
    ],
)
def test_what_is_done_against_forgetting_is_the_same_in_two_processes(
    against: dict[str, Any], sharding: str, base: Checkpoint, conversations: Conversations, old: Old, tmp_path: Path
) -> None:
    asked = {"method": {"kind": "full"}, "train": TRAIN, "optim": OPTIM, "precision": "fp32", "row_tokens": 64}
    spec = TuneSpec.model_validate(asked | against)
    with in_process():
        fisher = estimate_fisher.build(spec.fisher, base, old[0], site=Site(state_dir=tmp_path / "fisher"))
    assert_same_training(
        *in_one_and_in_two(lambda site: tune.build(spec, base, conversations, old[0], fisher, site=site), tmp_path, sharding)
    )


@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_preferences_are_learned_the_same_in_two_processes(
    method: str, sharding: str, base: Checkpoint, shared_site: Site, tmp_path: Path
) -> None:
    preferences = toy_preferences.build(ToySpec(size=80), site=shared_site)
    spec = PreferSpec.model_validate({"method": METHODS[method], "train": TRAIN, "optim": OPTIM, "precision": "fp32"})
    assert_same_training(*in_one_and_in_two(lambda site: prefer.build(spec, base, preferences, site=site), tmp_path, sharding))


@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
@pytest.mark.parametrize("method", ["lora", "gradual"])
@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_labels_are_learned_the_same_in_two_processes(
    family: str, method: str, sharding: str, shared_site: Site, tmp_path: Path
) -> None:
    base = toy_base.build(ToyBaseSpec(family=family), site=shared_site)
    labelled = toy_labelled.build(ToyLabelledSpec(), site=shared_site)
    spec = TuneLabelledSpec.model_validate({"method": METHODS[method], "train": TRAIN, "optim": OPTIM, "precision": "fp32"})
    assert_same_training(
        *in_one_and_in_two(lambda site: tune_labelled.build(spec, base, labelled, site=site), tmp_path, sharding)
    )


def test_a_training_with_a_weight_of_one_number_goes_on_from_its_shards(shared_site: Site, tmp_path: Path) -> None:
    """A head that says one value has a bias of one number, of which the second process holds nothing."""
    base = toy_base.build(ToyBaseSpec(family="bert"), site=shared_site)
    labelled = toy_labelled.build(ToyLabelledSpec(task="regression"), site=shared_site)
    spec = TuneLabelledSpec.model_validate({"method": METHODS["lora"], "train": TRAIN, "optim": OPTIM, "precision": "fp32"})

    def stopped(_: str, job: Any, ctx: Any, **how: Any) -> None:
        run_child("tests.tuning.labelled_kit:stopped_main", job, ctx, **how)

    def tuning(site: Site) -> Checkpoint:
        if site.num_processes == 2:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("tasks.core.child.run_child", stopped)
                with pytest.raises(TransientError, match="asked to stop at step 5"):
                    tune_labelled.build(spec, base, labelled, site=site)
        return tune_labelled.build(spec, base, labelled, site=site)

    assert_same_training(*in_one_and_in_two(tuning, tmp_path, "fsdp2"))


def test_weights_that_a_forward_pass_leaves_out_are_not_waited_for(shared_site: Site, tmp_path: Path) -> None:
    """Longformer's projections of tokens that see all others: of words none does."""
    given = adopted("longformer", "AutoModelForMaskedLM", shared_site, tmp_path / "given")
    labelled = toy_labelled.build(ToyLabelledSpec(task="token_classification"), site=shared_site)
    asked = {"method": METHODS["full"], "train": TRAIN, "optim": OPTIM, "precision": "fp32", "dropout": 0.0}
    spec = TuneLabelledSpec.model_validate(asked)
    alone, two = in_one_and_in_two(lambda site: tune_labelled.build(spec, given, labelled, site=site), tmp_path, "ddp")
    assert_same_training(alone, two)
