"""One of two training processes is killed: the run says which, ends soon, and the stage's retry finishes the work."""

import threading
import time
from pathlib import Path

import pytest

from tasks.core.run import Observer, Run, StageRecord, running
from tasks.core.site import Site
from tasks.modeling.specs import TrainSpec
from tasks.pretrain import pretrain
from tests.data.kit import no_base
from tests.modeling.kit import ToySpec, kill_rank, toy_tokenizer, toy_tokens
from tests.modeling.test_pretrain import SPEC

pytestmark = pytest.mark.slow
TRAIN = TrainSpec(batch_rows=8, num_tokens=8 * 64 * 60, eval_every_steps=20, checkpoint_every_steps=5)
LIMIT_S = 30.0


class Watcher(Observer):
    """Keeps how each attempt ended, and when."""

    def __init__(self) -> None:
        self.records: list[tuple[float, StageRecord]] = []

    def finished(self, record: StageRecord) -> None:
        self.records.append((time.monotonic(), record))


@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_a_killed_rank_is_named_and_the_stage_s_retry_finishes(tmp_path: Path, prefect_api: str, sharding: str) -> None:
    from prefect import flow

    site = Site(state_dir=tmp_path / "state", num_processes=2, num_threads=1, sharding=sharding)
    tokenizer = toy_tokenizer.build(ToySpec(), site=site)
    corpus = toy_tokens.build(ToySpec(size=200), tokenizer, site=site)
    watcher, killed_at, base = Watcher(), [], no_base(site)

    @flow
    def train() -> None:
        with running(Run(site, observers=[watcher])):
            pretrain(SPEC.model_copy(update={"train": TRAIN}), corpus, tokenizer, base)

    killer = threading.Thread(target=kill_rank, args=(site.store_dir, 1, killed_at), daemon=True)
    killer.start()
    train()
    killer.join()
    (failed_at, failed), (_, built) = watcher.records
    assert (failed.result, built.result) == ("failed", "built")
    assert failed.error.startswith("TransientError: rank 1 (SIGKILL) of tasks.modeling.train:pretrain_main was killed")
    assert len(killed_at) == 1
    assert failed_at - killed_at[0] < LIMIT_S
    assert built.artifact.num_steps == 60
    model = built.artifact.path / "model" / "model.safetensors"
    assert model.exists()
