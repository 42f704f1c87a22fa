"""LoRA of SmolLM2-135M: our tuning beside trl's SFTTrainer with peft, on one base, one set of chats and one precision.

In: `--peer-python PYTHON`, of an environment made apart, since trl is no part of this project:
`python -m venv peer && peer/bin/pip install trl==1.16.0 torch==2.13.0 transformers==5.23.0 peft==0.21.2`. Out: JSON, and one
line in `results/tune.jsonl`. Each run is a process of its own with the same threads, trains rank 16 on all linear layers once
over the same chats (rows of 1,024 tokens), and its first step is not timed. Ours: eager, as it is by default, and compiled
(TEXTMILL_COMPILE), both with the huge pages that our training processes ask for (GLIBC_TUNABLES). Peers: trl at its best
settings for a CPU (two packed rows, no recomputation) and at its defaults (8 chats a batch, padding, recomputation), both with
the same huge pages; and at its defaults as it is run by who knows nothing of them. The sides alternate; ratios are those of
neighbouring runs.
Invariants: all learn the same labels in the same precision; the loss on held-out chats, taken by one program from the adapters
that are left, is written beside each ratio; peak memory is the process's.

A round takes about 8 minutes on 2 cores; `--rounds 1` in several calls appends a line each.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from flows.presets import load_recipe
from tasks.bases import adopt_base
from tasks.core.site import Site
from tasks.modeling.batches import Example, ExampleRows, step_rows
from tasks.modeling.chat import mark_answers
from tasks.modeling.infer import Reader, example_nats
from tasks.modeling.job import Compute
from tasks.modeling.loop import Loop
from tasks.modeling.model import load_model
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.parallel import World
from tasks.modeling.specs import AdamWSpec, CosineSchedule, TrainSpec
from tasks.modeling.task import Place, Task
from tasks.modeling.words import load_tokenizer, model_special_ids
from tasks.tuning.lora import LoraSpec
from tests.bench.child import run_child, run_command, say
from tests.bench.result import note, ratios
from tests.conftest import ROOT

CPU = torch.device("cpu")
MAX_LOSS_GAP = 0.02
OURS, PEERS = ("eager", "compiled"), ("best", "defaults", "as_installed")
PEER = Path(__file__).with_name("tune_peer.py")


class Run(BaseModel):
    """One side; the peer reads the same fields."""

    base: Path
    data: Path
    out: Path
    variant: str
    row_tokens: int = 1_024
    batch_rows: int = 2
    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 2e-4
    seed: int = 0
    precision: str


def prepare(base: Path, chats: Path, folder: Path, num_train: int, num_held_out: int, row_tokens: int) -> Path:
    """Writes the chats as ids and labels (the id itself where it is to be predicted, -100 elsewhere)."""
    tokenizer, turn_end = load_tokenizer(base), model_special_ids(load_model(base)).turn_end
    rows = []
    for item in json.loads(chats.read_text(encoding="utf-8")):
        question = "\n".join(filter(None, (item["instruction"], item["input"])))
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": item["output"]}]
        marked = mark_answers(tokenizer, turns, turn_end)
        if len(marked.ids) <= row_tokens:
            labels = [one if is_target else -100 for one, is_target in zip(marked.ids, marked.is_target, strict=True)]
            rows.append({"input_ids": marked.ids, "labels": labels})
    path = folder / "data.json"
    held_out = rows[num_train : num_train + num_held_out]
    path.write_text(json.dumps({"train": rows[:num_train], "held_out": held_out}), encoding="utf-8")
    return path


def examples(data: Path, part: str) -> list[Example]:
    """Reads a part of the chats."""
    rows = json.loads(data.read_text(encoding="utf-8"))[part]
    return [Example.of(row["input_ids"], [label >= 0 for label in row["labels"]]) for row in rows]


def ours(run: Run) -> dict[str, float]:
    """Trains as the tuning child does, and leaves the adapter."""
    model = load_model(run.base)
    special = model_special_ids(model)
    prepared = LoraSpec(kind="lora", rank=run.rank, alpha=run.alpha).prepare(model, run.seed)
    rows = ExampleRows(examples(run.data, "train"), run.row_tokens, special.pad)
    level = CosineSchedule(kind="cosine", warmup_share=0.0, final_share=1.0)
    optim = AdamWSpec(kind="adamw", learning_rate=run.learning_rate, beta2=0.999, weight_decay=0.0, schedule=level)
    train = TrainSpec(batch_rows=run.batch_rows, num_epochs=1, eval_rows=1, eval_every_steps=999, checkpoint_every_steps=999)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), World(0, 1, CPU), run.precision, run.batch_rows, Compute(compile=run.variant == "compiled"))
        one = ExampleRows(rows.examples[:1], run.row_tokens, special.pad)
        loop = Loop(prepared.model, Task(CausalSpec(kind="causal").loss, rows, one), train, optim, run.seed, place)
        step = loop._step
        loop._step = lambda: (step(), ends.append(time.monotonic()))  # type: ignore[method-assign, assignment, return-value]
        loop.run()
    prepared.finish(run.out)
    labels = [rows.num_targets(step_rows(run.seed, step, run.batch_rows, rows.num_rows)) for step in range(len(ends))]
    return {
        "num_steps": len(ends),
        "num_labels": sum(labels),
        "label_tokens_per_s": sum(labels[1:]) / (ends[-1] - ends[0]),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def held_out_loss(run: Run) -> float:
    """Returns the nats a label on the held-out chats, of the base with the adapter that a side left."""
    from peft import PeftModel

    reader = Reader.load(run.base, "cpu", run.precision)
    PeftModel.from_pretrained(reader.model, run.out).eval()
    found = examples(run.data, "held_out")
    return float(example_nats(reader, found).sum() / sum(int((one.targets >= 0).sum()) for one in found))


def child(what: str, run: Run) -> None:
    """Trains or scores in this process and prints what was found."""
    say(ours(run) if what == "train" else {"held_out_loss": held_out_loss(run)})


def measured(run: Run, peer_python: str, threads: int, cache: Path) -> dict[str, Any]:
    """Runs one side in a process of its own, then scores what it left in another."""
    settings = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    mine, text = partial(run_child, "tests.bench.tune", threads=threads, settings=settings), run.model_dump_json()
    if run.variant in OURS:
        found = mine("train", text)
    else:
        pages = run.variant != "as_installed"
        found = run_command([peer_python, str(PEER), text], threads=threads, settings=settings, huge_pages=pages)
    return found | mine("score", text)


def main() -> None:
    """Runs all sides `--rounds` times, one after the other, and writes the result down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--peer-python", help="Python of an environment with trl")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side")
    parser.add_argument("--sides", default=",".join((*OURS, *PEERS)), help="of these, which run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each side")
    parser.add_argument("--train", type=int, default=48, help="chats to learn from")
    parser.add_argument("--held-out", type=int, default=32, help="chats to score")
    parser.add_argument("--row-tokens", type=int, default=1_024, help="tokens of a row")
    parser.add_argument("--precision", default=Site().resolve_precision("auto"), help="bf16 where this machine has it, else fp32")
    parser.add_argument("--state", type=Path, default=ROOT / ".textmill", help="where base and compiled code are kept")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the shared data")
    settings = parser.parse_args()
    if settings.child:
        child(settings.child[0], Run.model_validate_json(settings.child[1]))
        return
    base = adopt_base.build(load_recipe("smollm-lora").base, site=Site(state_dir=settings.state)).path / "model"
    sides = settings.sides.split(",")
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as name:
        work, chats = Path(name), settings.shared / "sft" / "alpaca_en_demo.json"
        data = prepare(base, chats, work, settings.train, settings.held_out, settings.row_tokens)
        for number in range(settings.rounds):
            for side in sides:
                run = Run(
                    base=base, data=data, out=work / f"{side}{number}", variant=side, row_tokens=settings.row_tokens,
                    seed=number, precision=settings.precision,
                )  # fmt: skip
                found[side].append(measured(run, settings.peer_python, settings.threads, settings.state / "cache" / "inductor"))
                print(side, found[side][-1], flush=True)
    sizes = {"train": settings.train, "held_out": settings.held_out, "row_tokens": settings.row_tokens, "rank": 16}
    figures = {"sizes": sizes, "threads": settings.threads, "precision": settings.precision, "sides": found}
    note("tune", ("torch", "transformers", "peft"), figures | compared(found))


def compared(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Returns our speed and memory over each peer's, and how far the losses are apart."""
    result = {}
    for side in [side for side in OURS if side in found]:
        for peer in [peer for peer in PEERS if peer in found]:
            pairs = list(zip(found[side], found[peer], strict=True))
            gap = max(abs(one["held_out_loss"] - other["held_out_loss"]) for one, other in pairs)
            result[f"{side}/{peer}"] = {
                "label_tokens_per_s": ratios(*([one["label_tokens_per_s"] for one in found[which]] for which in (peer, side))),
                "peak_memory": ratios(*([one["peak_memory_bytes"] for one in found[which]] for which in (peer, side))),
                "largest_loss_gap": round(gap, 4),
                "losses_agree": gap <= MAX_LOSS_GAP,
            }
    return {"ours_over": result}


if __name__ == "__main__":
    main()
