"""Many nodes: settings that fit together, the command that is built, announcements that last as long as a training."""

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.core.errors import RecipeError
from tasks.core.join import join
from tasks.core.launcher import torchrun_command
from tasks.core.nodes import Announcement, announced, announcement
from tasks.core.run import stage_log
from tasks.core.site import Site

MANY = {"num_nodes": 3, "node_rank": 1, "rendezvous": "node0:29400"}


def test_one_node_meets_nobody(tmp_path: Path) -> None:
    command = torchrun_command(Site(num_processes=2), tmp_path)
    launcher = [sys.executable, "-m", "tasks.core.launcher", str(tmp_path / "killed.json")]
    assert command == [*launcher, "--standalone", "--nproc-per-node", "2", "--shutdown-timeout", "20"]


def test_many_nodes_meet_at_the_rendezvous(tmp_path: Path) -> None:
    command = torchrun_command(Site(num_processes=8, **MANY), tmp_path)
    where = ["--nnodes", "3", "--node-rank", "1", "--rdzv-backend", "static", "--rdzv-endpoint", "node0:29400"]
    assert command[4:] == [*where, "--nproc-per-node", "8", "--shutdown-timeout", "20"]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"num_nodes": 2}, "set rendezvous for many nodes"),
        ({"rendezvous": "node0:29400"}, "for many nodes only"),
        ({"node_rank": 1}, "node_rank 1 must be below num_nodes 1"),
        (MANY | {"node_rank": 3}, "node_rank 3 must be below num_nodes 3"),
        (MANY | {"rendezvous": "node0"}, "should match pattern"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(values: dict, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Site(**values)


def test_a_training_is_announced_while_it_lasts(tmp_path: Path) -> None:
    site, job = Site(state_dir=tmp_path, **MANY | {"node_rank": 0}), tmp_path / "job.json"
    with announced(site, "module:function", job):
        assert announcement(site) == Announcement(function="module:function", job=job)
    assert announcement(site) is None


def test_the_chain_runs_on_node_0_only(tmp_path: Path) -> None:
    with (
        pytest.raises(RecipeError, match="this is node 1: run the chain on node 0 and `textmill join` here"),
        announced(Site(state_dir=tmp_path, **MANY), "module:function", tmp_path / "job.json"),
    ):
        pass


def test_one_node_announces_nothing(tmp_path: Path) -> None:
    with announced(Site(state_dir=tmp_path), "module:function", tmp_path / "job.json"):
        assert list(tmp_path.iterdir()) == []


def test_node_0_cannot_join_itself(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="node 0 runs the chain"):
        join(Site(state_dir=tmp_path), stage_log("test"))
