"""Two gloo processes do what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tasks.modeling.job import TrainResult
from tasks.modeling.records import read_records
from tests.modeling.training import TinyJob, train_tiny

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_equal_one_within_rounding(tmp_path: Path) -> None:
    alone, model = train_tiny(TinyJob(folder=tmp_path / "one"))
    job = TinyJob(folder=tmp_path / "two")
    (tmp_path / "job.json").write_text(job.model_dump_json())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "tasks.core.child", "tests.modeling.training:tiny_main", str(tmp_path / "job.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    together = TrainResult.model_validate(json.loads((tmp_path / "two" / "result.json").read_text()))
    assert (together.num_steps, together.num_tokens) == (alone.num_steps, alone.num_tokens)
    assert together.validation_loss == pytest.approx(alone.validation_loss, rel=1e-4)
    losses = [
        [record["train_loss"] for record in read_records(tmp_path / name / "metrics.jsonl") if "train_loss" in record]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    weights = load_file(tmp_path / "two" / "checkpoints" / "step-000020" / "model.safetensors")
    for name, weight in model.named_parameters():
        assert weights[name].numpy() == pytest.approx(weight.detach().numpy(), abs=2e-4), name
