"""Several instruction sets at once: their shares of a pass, and the validation loss of each."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.contracts import Checkpoint, Conversations
from tasks.core.site import Site
from tasks.instructions import InstructionsSpec, read_conversations
from tasks.modeling.batches import Example, ExampleRows, make_batch
from tasks.modeling.model import token_losses
from tasks.modeling.records import read_records
from tasks.modeling.set_rows import SetRows, rows_by_weight, watch_sets
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning import FullSpec, TuneSpec, tune
from tests.data.kit import write_jsonl
from tests.modeling.kit import Old
from tests.tuning.kit import tiny

TRAIN = TrainSpec(batch_rows=4, num_epochs=1, eval_every_steps=4, checkpoint_every_steps=4)
SPEC = TuneSpec(
    method=FullSpec(kind="full"), train=TRAIN, optim=AdamWSpec(kind="adamw", learning_rate=1e-3), row_tokens=64, precision="fp32"
)


def rows_of(token: int, count: int, num_targets: int = 8) -> ExampleRows:
    """Rows of one example each, all of one token."""
    ids = [token] * 16
    return ExampleRows([Example.of(ids, [place < 1 + num_targets for place in range(16)]) for _ in range(count)], 16, 0)


def test_rows_of_a_pass_follow_the_weights_by_targets() -> None:
    parts = {"long": rows_of(5, 30, 12), "short": rows_of(6, 60, 2)}
    counts = rows_by_weight(parts, {"long": 1.0, "short": 3.0})
    targets = np.array(counts) * [12, 2]
    assert targets[0] / targets.sum() == pytest.approx(0.25, abs=0.03)
    assert targets.sum() == pytest.approx(30 * 12 + 60 * 2, rel=0.03)
    assert rows_by_weight(parts, {"long": 1e9, "short": 1.0})[1] == 1


def test_a_set_goes_on_in_the_next_pass_and_each_row_is_of_its_set() -> None:
    first, second = rows_of(5, 4), rows_of(6, 3)
    rows = SetRows([first, second], [2, 5], marked=True)
    assert (rows.num_rows, rows.row_tokens) == (7, 16)
    seen = [[rows._placed(7 * number + place) for place in range(7)] for number in range(2)]
    assert [place for part, place in seen[0] + seen[1] if part == 0] == [0, 1, 2, 3]
    assert [place for part, place in seen[0] + seen[1] if part == 1] == list(range(10))
    for index in range(14):
        row = rows.row(index)
        part = 0 if row.ids_T[0] == 5 else 1
        assert list(row.sets_K) == [part == 0, part == 1]
    assert rows.num_targets(np.arange(7)) == 7 * 8
    assert SetRows([first, second], [2, 5]).row(0).sets_K is None


def test_a_look_sees_the_loss_of_each_set() -> None:
    model = tiny("llama").eval()
    parts = {"a": rows_of(5, 3), "b": rows_of(6, 2, 4)}
    rows = SetRows(list(parts.values()), [3, 2], marked=True)
    watch = watch_sets(list(parts))
    with torch.no_grad():
        total = watch.sums(model, make_batch(rows, np.arange(5), torch.device("cpu")))
    figures = watch.figures(total[1:].tolist())
    for name, part in parts.items():
        with torch.no_grad():
            mean = float(token_losses(model, make_batch(part, np.arange(part.num_rows), torch.device("cpu"))).mean())
        assert figures[f"loss/{name}"] == pytest.approx(mean, rel=1e-5)
    assert float(total[0]) == pytest.approx(figures["loss/a"] * 24 + figures["loss/b"] * 8, rel=1e-5)


def read(site: Site, folder: Path, **weights: float) -> Conversations:
    sets = []
    for name, count in (("files", 24), ("short", 60)):
        rows = [{"instruction": f"{name} {number}", "input": "", "output": f"text files {number}"} for number in range(count)]
        one: dict[str, Any] = {"name": name, "licence": "MIT", "paths": [str(write_jsonl(folder / f"{name}.jsonl", rows))]}
        sets.append(one | ({"weight": weights[name]} if name in weights else {}))
    spec = InstructionsSpec.model_validate({"train": sets, "validation_share": 0.2, "heldout_overlap": None})
    return read_conversations.build(spec, site=site)


def test_a_tuning_takes_sets_by_weight_and_reports_each(base: Checkpoint, old: Old, shared_site: Site, tmp_path: Path) -> None:
    plain, mixed = read(shared_site, tmp_path), read(shared_site, tmp_path, files=3.0, short=1.0)
    assert plain.digest != mixed.digest
    assert json.loads((mixed.path / "weights.json").read_text()) == {"files": 3.0, "short": 1.0}
    one, other = (tune.build(SPEC, base, data, *old, site=shared_site) for data in (plain, mixed))
    assert one.digest != other.digest
    for model in (one, other):
        assert set(model.held_out) == {"loss/files", "loss/short"}
        looks = [record for record in read_records(model.path / "extra" / "metrics.jsonl") if "validation_loss" in record]
        assert looks[-1]["validation_loss/files"] == pytest.approx(model.held_out["loss/files"])
        assert f"files {model.held_out['loss/files']:.3f}" in model.summary()
        low, high = sorted(model.held_out.values())
        assert low <= model.validation_loss <= high


def test_weights_are_all_or_none() -> None:
    def spec(*weights: float | None, heldout: float | None = None) -> dict[str, Any]:
        def one(name: str, weight: float | None) -> dict[str, Any]:
            return {"name": name, "licence": "MIT", "paths": ["x"]} | ({} if weight is None else {"weight": weight})

        return {"train": [one(f"s{n}", weight) for n, weight in enumerate(weights)], "heldout": [one("h", heldout)]}

    assert Counter(InstructionsSpec.model_validate(spec(1.0, 2.0)).weights) == {"s0": 1.0, "s1": 2.0}
    with pytest.raises(ValueError, match="'s1' has no weight, and others have"):
        InstructionsSpec.model_validate(spec(1.0, None))
    with pytest.raises(ValueError, match="held-out sets are not mixed"):
        InstructionsSpec.model_validate(spec(1.0, 2.0, heldout=1.0))
