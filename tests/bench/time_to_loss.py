"""Time to a loss: how long our training takes to the held-out loss that `transformers.Trainer` reaches in a given time.

In: `--minutes`, a state folder. Out: one JSON line a finished run in `results/time_to_loss.jsonl`; a run that is written down is
not done again, and what all say together is printed at the end. Text: the demo's, encoded by its own chain. Both sides train the
same model from the same weights, on documents packed into rows and blind to each other, by whole cosines, each in a process of
its own under the same GLIBC_TUNABLES and threads. First Trainer, AdamW, at three rates with seed 0, then its best one with the
other seeds; then ours, Muon, in growing parts of that time until it is there. Seconds are those of the
training, from its call to its last step; a short trial of each side says how many steps fill the time. Invariant: the held-out
loss is that of the same rows by the same code, outside of the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel

from tasks.core.site import Site, current_site
from tasks.core.store import Store
from tasks.modeling.batches import Batch, Rows, step_rows
from tasks.modeling.job import Compute
from tasks.modeling.loop import Loop
from tasks.modeling.model import build_model
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.parallel import World
from tasks.modeling.specs import ModelSpec, MuonSpec, ResidualInit, ResolvedPrecision, TrainSpec
from tasks.modeling.task import Place, Task
from tasks.modeling.text import TokenText, open_text
from tasks.modeling.validation import bits_per_byte, look_at
from tasks.modeling.words import load_tokenizer, role_ids, special_ids
from tests.bench.child import run_child, say
from tests.bench.result import FOLDER, note
from tests.conftest import ROOT

RATES, SEEDS, PARTS = (4e-3, 8e-3, 1.6e-2), (0, 1, 2), (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 1.0)
OUR_RATE = 1.6e-2  # the best of the rates that were tried; the hidden matrices keep Muon's default
OUR_MOMENTUM = 0.85  # better here than 0.9 and Muon's 0.95: a mean over 20 steps is long for a hundred
TRIAL_STEPS, MICRO_ROWS, DECAY, BETAS, CLIP = 12, 8, 0.1, (0.9, 0.98), 1.0
WARMUP = 0.05  # what our schedule takes by default
CPU = torch.device("cpu")
Side = Literal["trainer", "ours"]


class Run(BaseModel):
    """One training."""

    side: Side
    state: Path
    seed: int
    rate: float
    num_steps: int
    depth: int
    width: int
    batch_rows: int
    precision: ResolvedPrecision
    residual_init: ResidualInit

    def data(self) -> tuple[TokenText, Task]:
        """Opens the demo's text."""
        from tasks.contracts import TokenizedCorpus, Tokenizer

        store = Store(self.state / "store")
        (found,) = [(folder, one) for folder, one in store.manifests() if one.stage == "encode"]
        corpus = store.load(TokenizedCorpus, found[0])
        tokenizer = store.find(Tokenizer, found[1].inputs["tokenizer"].fingerprint)
        assert tokenizer is not None, "the corpus was encoded with it"
        words, objective = load_tokenizer(tokenizer.path), CausalSpec(kind="causal")
        facts = {
            "special": special_ids(words, tokenizer.special_tokens),
            "roles": role_ids(words, tokenizer.special_tokens, objective.special_tokens()),
            "tokenizer": words,
            "vocab_size": tokenizer.vocab_size,
            "context_tokens": self.model_spec.context_tokens,
            "seed": self.seed,
        }
        train, held_out = (open_text(corpus.path, split, tokenizer.digest, **facts) for split in ("train", "validation"))
        rows = objective.held_out_rows(held_out)[""]
        return train, Task(objective.loss, objective.rows(train), rows, corpus.bytes_by_split["validation"], objective.parts)

    @property
    def model_spec(self) -> ModelSpec:
        sizes = {"depth": self.depth, "width": self.width, "init_std": 0.05}
        return ModelSpec(family="qwen3", residual_init=self.residual_init, **sizes)


class _Loss(torch.nn.Module):
    def __init__(self, model: Any, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.task.loss(self.model, batch)


def ours(run: Run, model: Any, task: Task, place: Place) -> list[float]:
    """Trains by `tasks.modeling.loop` with Muon."""
    size = run.batch_rows * task.train.row_tokens
    never = 10 * run.num_steps
    train = TrainSpec(
        batch_rows=run.batch_rows,
        num_tokens=run.num_steps * size,
        eval_rows=1,
        eval_every_steps=never,
        checkpoint_every_steps=never,
    )
    optim = MuonSpec(
        kind="muon", learning_rate=run.rate, weight_decay=DECAY, beta2=BETAS[1], clip_norm=CLIP, momentum=OUR_MOMENTUM
    )
    loop, ends = Loop(model, task, train, optim, run.seed, place), [time.monotonic()]
    step = loop._step
    loop._step = lambda: (step(), ends.append(time.monotonic()))  # type: ignore[method-assign, assignment, return-value]
    loop.run()
    return ends


def trainer(run: Run, model: Any, task: Task, place: Place) -> list[float]:
    """`transformers.Trainer` with AdamW and a cosine; documents are told apart by positions that begin again."""
    from torch.utils.data import Dataset, SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model.set_attn_implementation("sdpa")
    ends = [time.monotonic()]

    class InOrder(Dataset[Any]):
        def __init__(self, rows: Rows) -> None:
            self.rows = rows
            steps = range(run.num_steps)
            self.order = [int(row) for step in steps for row in step_rows(run.seed, step, run.batch_rows, rows.num_rows)]

        def __len__(self) -> int:
            return len(self.order)

        def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
            row = self.rows.row(self.order[place])
            # The loss shifts labels by one itself: labels are the targets one place later.
            labels = torch.from_numpy(row.targets_T).roll(1)
            labels[0] = -100
            return {
                "input_ids": torch.from_numpy(row.ids_T),
                "labels": labels,
                "position_ids": torch.from_numpy(row.positions_T),
            }

    class Notes(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.monotonic())

    class Ordered(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(data)

    data = InOrder(task.train)
    settings = TrainingArguments(
        output_dir=str(place.folder), use_cpu=True, bf16=run.precision == "bf16", optim="adamw_torch_fused",
        max_steps=run.num_steps, per_device_train_batch_size=min(MICRO_ROWS, run.batch_rows),
        gradient_accumulation_steps=max(1, run.batch_rows // MICRO_ROWS), learning_rate=run.rate, weight_decay=DECAY,
        adam_beta1=BETAS[0], adam_beta2=BETAS[1], max_grad_norm=CLIP, lr_scheduler_type="cosine",
        warmup_steps=round(WARMUP * run.num_steps), logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
    )  # fmt: skip
    Ordered(model=model, args=settings, train_dataset=data, callbacks=[Notes()]).train()
    return ends


def child(text: str) -> None:
    """Trains in this process; prints the seconds and the held-out loss in bits per byte."""
    run = Run.model_validate_json(text)
    train, task = run.data()
    model = build_model(run.model_spec, train.vocab_size, train.special, run.seed, CausalSpec(kind="causal").auto_class)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), World(0, 1, CPU), run.precision, min(MICRO_ROWS, run.batch_rows), Compute())
        ends = {"ours": ours, "trainer": trainer}[run.side](run, model, task, place)
        loss, _ = look_at(_Loss(model, task), task, place, None, MICRO_ROWS)
    steps = [end - start for start, end in pairwise(ends)]
    figures = {"seconds": ends[-1] - ends[0], "step_s": statistics.median(steps), "bits_per_byte": bits_per_byte(task, loss)}
    say(figures)


def measured(run: Run) -> dict[str, float]:
    """Runs one training in a process of its own."""
    return run_child("tests.bench.time_to_loss", run.model_dump_json(), threads=None)


class Bench:
    """The runs of one setting, those that are written down among them."""

    def __init__(self, common: dict[str, Any], minutes: float) -> None:
        self.common, self.minutes = common, minutes
        self.setting = {name: value for name, value in common.items() if name != "state"} | {"minutes": minutes}
        self._num_steps: dict[str, int] = {}

    def run(self, side: Side, seed: int, rate: float, part: float) -> dict[str, Any]:
        """Returns a finished run, done now or earlier."""
        asked = self.setting | {"side": side, "seed": seed, "rate": rate, "part": round(part, 3)}
        asked |= {"momentum": OUR_MOMENTUM} if side == "ours" else {}
        path = FOLDER / "time_to_loss.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            if (old := json.loads(line)).items() >= asked.items():
                return old
        steps = max(2, round(part * self._steps(side)))
        found = measured(Run(side=side, seed=seed, rate=rate, num_steps=steps, **self.common))
        note("time_to_loss", ("torch", "transformers"), asked | {"num_steps": steps} | found)
        return asked | found

    def _steps(self, side: Side) -> int:
        """Returns the steps that fill the time, by a short trial."""
        if side not in self._num_steps:
            trial = measured(Run(side=side, seed=0, rate=RATES[0], num_steps=TRIAL_STEPS, **self.common))
            self._num_steps[side] = round(self.minutes * 60 / trial["step_s"])
        return self._num_steps[side]


def main() -> None:
    """Runs what is not written down yet, and prints how long ours takes to where Trainer came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, default=3, help="time of Trainer")
    parser.add_argument("--state", type=Path, help="state folder whose store holds, or will hold, the demo's encoded corpus")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default=current_site().resolve_precision("auto"))
    parser.add_argument("--residual-init", choices=get_args(ResidualInit), default="same")
    for name, size in (("depth", 4), ("width", 256), ("batch-rows", 8)):
        parser.add_argument(f"--{name}", type=int, default=size)
    settings = parser.parse_args()
    if settings.child:
        child(settings.child)
        return
    state = settings.state or Site().state_dir
    command = [sys.executable, "-m", "flows", "run", "demo", "--until", "encode"]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"TEXTMILL_STATE_DIR": str(state)})
    sizes = {name: getattr(settings, name) for name in ("depth", "width", "batch_rows", "precision", "residual_init")}
    bench = Bench(sizes | {"state": state}, settings.minutes)
    rate = min(RATES, key=lambda rate: bench.run("trainer", 0, rate, 1.0)["bits_per_byte"])
    for seed in SEEDS:
        theirs = bench.run("trainer", seed, rate, 1.0)
        mine: dict[str, Any] = {}
        for part in PARTS:
            mine = bench.run("ours", seed, OUR_RATE, part)
            if mine["bits_per_byte"] <= theirs["bits_per_byte"]:
                break
        reached = mine["bits_per_byte"] <= theirs["bits_per_byte"]
        print(
            f"seed {seed}: Trainer {theirs['bits_per_byte']:.4f} bits per byte in {theirs['seconds']:.0f} s at {rate}; ours "
            f"{mine['bits_per_byte']:.4f} in {mine['seconds']:.0f} s: "
            + (f"{theirs['seconds'] / mine['seconds']:.2f} times as fast" if reached else "not reached")
        )


if __name__ == "__main__":
    main()
