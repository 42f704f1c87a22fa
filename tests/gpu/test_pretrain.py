"""On a CUDA device: a short bf16 pretraining that is killed and goes on; says how fast it was."""

import statistics
import threading

import pytest
import torch

from tasks.contracts import Checkpoint
from tasks.core.errors import TransientError
from tasks.core.site import Site
from tasks.modeling.records import read_records
from tasks.modeling.sizing import flops_per_token
from tasks.modeling.specs import ModelSpec, TrainSpec
from tasks.pretrain import PretrainSpec, pretrain
from tests.data.kit import no_base
from tests.modeling.kit import ToySpec, kill_rank, toy_tokenizer, toy_tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]

# Dense bf16 FLOP/s of a device by its maker's data sheet.
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12}
SPEC = PretrainSpec(
    model=ModelSpec(depth=12, context_tokens=1024),
    train=TrainSpec(batch_rows=64, num_tokens=64 * 1024 * 60, eval_every_steps=20, checkpoint_every_steps=5, eval_rows=4),
    precision="bf16",
)


def run(site: Site, *, killed: bool) -> Checkpoint:
    """Trains on text that is always the same; `killed` ends it by force after its first checkpoint and starts it again."""
    tokenizer = toy_tokenizer.build(ToySpec(), site=site)
    corpus = toy_tokens.build(ToySpec(size=4000), tokenizer, site=site)
    if killed:
        killer = threading.Thread(target=kill_rank, args=(site.store_dir, 0, []), daemon=True)
        killer.start()
        with pytest.raises(TransientError, match="was killed"):
            pretrain.build(SPEC, corpus, tokenizer, no_base(site), site=site)
        killer.join()
    return pretrain.build(SPEC, corpus, tokenizer, no_base(site), site=site)


def test_a_killed_bf16_pretraining_goes_on(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    calm = run(Site(state_dir=tmp_path / "calm", device="cuda"), killed=False)
    resumed = run(Site(state_dir=tmp_path / "killed", device="cuda"), killed=True)
    assert (resumed.num_steps, resumed.precision) == (60, "bf16")
    assert calm.validation_loss < 0.6 * 5.8  # ln 320 is 5.8: it learns
    assert resumed.validation_loss == pytest.approx(calm.validation_loss, rel=0.02)  # sums on a GPU have no fixed order
    records = read_records(calm.path / "extra" / "metrics.jsonl")
    tokens_per_s = statistics.median(record["tokens_per_s"] for record in records if "tokens_per_s" in record)
    name = torch.cuda.get_device_name()
    rate = tokens_per_s * flops_per_token(SPEC.model, 320)
    peak = next((value for known, value in PEAK.items() if known in name), None)
    share = f"MFU {rate / peak:.1%}" if peak else "MFU unknown: the device's peak is not in PEAK"
    with capsys.disabled():
        print(f"\n{name}: {tokens_per_s:,.0f} tokens/s, {rate / 1e12:.1f} TFLOP/s, {share}")
