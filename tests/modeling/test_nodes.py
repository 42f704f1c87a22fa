"""Two nodes on loopback, one process each: node 0 as a stage starts it, node 1 with `textmill join`."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.core.child import run_child
from tasks.core.run import Run, stage_log
from tasks.core.site import Site
from tasks.core.stage import StageContext
from tests.core.toys import count
from tests.modeling.test_parallel import curve, result
from tests.modeling.training import TinyJob, train_tiny

ROOT = Path(__file__).resolve().parents[2]


def test_the_site_profiles_of_the_docs_are_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "many-devices.md").read_text(encoding="utf-8")
    profiles = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEXTMILL_STATE_DIR")
    found = []
    for profile in profiles:
        (tmp_path / "textmill.toml").write_text(profile, encoding="utf-8")
        found.append(Site())
    assert [(one.num_processes, one.sharding, one.resolved_device) for one in found] == [(8, "fsdp2", "cuda")] * 2
    assert [one.data_engine for one in found] == ["local", "slurm"]
    assert [str(one.state_dir) for one in found] == ["/scratch/textmill", "/shared/textmill"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_two_nodes_train_as_one_process_does(tmp_path: Path) -> None:
    expected, _ = train_tiny(TinyJob(folder=tmp_path / "alone"))
    nodes = {"num_nodes": 2, "num_threads": 1, "sharding": "fsdp2", "rendezvous": f"127.0.0.1:{free_port()}"}
    site = Site(state_dir=tmp_path / "state", **nodes)
    settings = {f"TEXTMILL_{name.upper()}": str(value) for name, value in nodes.items()}
    where = {"TEXTMILL_NODE_RANK": "1", "TEXTMILL_STATE_DIR": str(site.root)}
    helper = subprocess.Popen(
        [sys.executable, "-m", "flows", "join"], cwd=ROOT, env=os.environ | settings | where, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        context = StageContext(count, site.root, stage_log("test"), Run(site), {}, {})
        job = TinyJob(folder=tmp_path / "run", sharding="fsdp2")
        run_child("tests.modeling.training:tiny_main", job, context, torchrun=True)
        assert psutil.Process(helper.pid).is_running()  # it waits for the next training
    finally:
        helper.send_signal(signal.SIGINT)
        said, _ = helper.communicate(timeout=60)
    assert "node 1 joins tests.modeling.training:tiny_main" in said
    assert helper.returncode == 130
    assert len(list((tmp_path / "run" / "checkpoints" / "step-000020").glob("shard-*"))) == 2
    assert curve(tmp_path / "run", "train_loss") == pytest.approx(curve(tmp_path / "alone", "train_loss"), rel=1e-4)
    assert result(tmp_path / "run").validation_loss == pytest.approx(expected.validation_loss, rel=1e-4)
