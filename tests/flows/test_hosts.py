"""Two hosts, network namespaces with a cable between them, train one recipe; the cable is pulled for a while."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain import ROOT, environment

IS_POSSIBLE = os.geteuid() == 0 and shutil.which("ip") and shutil.which("unshare")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not IS_POSSIBLE, reason="network namespaces need root, ip and unshare"),
]

NAMES = ("textmill0", "textmill1")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
PULLED_S = 10.0
SMALL = ("pretrain.train.num_tokens=81_920", "pretrain.train.eval_every_steps=20", "tune.train.num_epochs=1")


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def cable(name: str, *change: str) -> None:
    ip("-n", name, "link", "set", "cable", *change)


def bytes_received(name: str) -> int:
    (link,) = json.loads(ip("-n", name, "-s", "-j", "link", "show", "cable"))
    return int(link["stats64"]["rx"]["bytes"])


@pytest.fixture
def hosts() -> Iterator[None]:
    """Two hosts that know each other by name."""
    known = "127.0.0.1 localhost\n" + "".join(f"{place} {name}\n" for place, name in zip(ADDRESSES, NAMES, strict=True))
    for name in NAMES:
        ip("netns", "add", name)
        Path(f"/etc/netns/{name}").mkdir(parents=True, exist_ok=True)
        Path(f"/etc/netns/{name}/hosts").write_text(known)
    try:
        ip("link", "add", "cable", "netns", NAMES[0], "type", "veth", "peer", "name", "cable", "netns", NAMES[1])
        for name, place in zip(NAMES, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{place}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            cable(name, "up")
        yield
    finally:
        for name in NAMES:
            ip("netns", "del", name)
            shutil.rmtree(f"/etc/netns/{name}")


def start(state: Path, rank: int, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts `textmill ARGUMENTS` on a host."""
    nodes = {"NUM_NODES": "2", "NODE_RANK": str(rank), "RENDEZVOUS": f"{NAMES[0]}:29400", "NUM_THREADS": "1", "SHARDING": "fsdp2"}
    name = NAMES[rank]
    on_host = ("ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh")
    return subprocess.Popen(
        [*on_host, sys.executable, "-m", "flows", *arguments],
        cwd=ROOT,
        env=environment(state, **{f"TEXTMILL_{key}": value for key, value in nodes.items()}),
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
    )


def wait_for(log: Path, words: str, limit_s: float = 300.0) -> None:
    end = time.monotonic() + limit_s
    while words not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < end, log.read_text(encoding="utf-8")
        time.sleep(0.2)


def test_two_hosts_train_one_recipe_though_the_cable_is_pulled(hosts: None, tmp_path: Path) -> None:
    state, helped, ran = tmp_path / "state", tmp_path / "helper.log", tmp_path / "run.log"
    helper = start(state, 1, helped, "join")
    settings = [word for setting in SMALL for word in ("--set", setting)]
    run = start(state, 0, ran, "run", "ci", "--until", "tune", *settings)
    try:
        wait_for(helped, "joins tasks.modeling.train:pretrain_main")
        wait_for(ran, "/40 steps")
        cable(NAMES[0], "down")
        stood = bytes_received(NAMES[1])
        time.sleep(PULLED_S)
        assert bytes_received(NAMES[1]) == stood
        cable(NAMES[0], "up")
        assert run.wait(timeout=300) == 0, ran.read_text(encoding="utf-8")
        wait_for(helped, "has left tasks.tuning.train:tune_main with status 0")
    finally:
        run.kill()
        helper.send_signal(signal.SIGINT)
        helper.wait(timeout=60)
    (pretrained,) = (state / "store" / "checkpoint").glob("*/extra/checkpoints/step-000040/shard-00002-*")
    num_bytes = sum(path.stat().st_size for path in pretrained.parents[3].glob("model/*.safetensors"))
    assert bytes_received(NAMES[1]) > 40 * num_bytes / 2, "half of the weights, and of their gradients, each step"
