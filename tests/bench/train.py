"""Pretraining steps: our loop beside `transformers.Trainer` and beside a bare loop, on one model, one stream of rows.

In: `--pairs N --steps N`, the model's sizes. Out: JSON, and one line in `results/train.jsonl`. Each run is a process of its own
under the same GLIBC_TUNABLES (huge pages) and threads: one step to warm up, then timed steps. First each side runs in all its
variants (eager or compiled, rows a pass), and its fastest stands for it; then the sides alternate, and ratios are those of
neighbouring runs. `packed` is our loop on documents of about 64 tokens, which share rows. Invariant: all sides read the same rows
in the same order from the same weights, by AdamW at one rate, in one precision (what `auto` means here, or `--precision`); where
their losses differ by more than 0.02, no ratio is written.

Our loop also says where its time went and its MFU: the share it reaches of the rate of bare products of the model's own shapes.

At the sizes of the defaults a step takes about 10 s on 2 cores with bf16 and 20 s without: 5 pairs take half an hour and more.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel

from tasks.core.site import current_site
from tasks.modeling.batches import StreamRows, make_batch, step_rows
from tasks.modeling.job import METRICS_NAME, Compute
from tasks.modeling.loop import Loop
from tasks.modeling.model import build_model
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.parallel import World
from tasks.modeling.records import read_records
from tasks.modeling.specs import AdamWSpec, CosineSchedule, ModelSpec, TrainSpec
from tasks.modeling.task import Place, Task
from tasks.modeling.words import SpecialIds
from tests.bench.child import run_child, say
from tests.bench.result import note, ratios

CPU = torch.device("cpu")
RATE, DECAY, BETAS, CLIP = 1e-3, 0.1, (0.9, 0.95), 1.0
MAX_LOSS_GAP = 0.02
DOCUMENT_TOKENS = 64
SPECIAL = SpecialIds(end_of_text=0, pad=1, turn_end=2)


class Run(BaseModel):
    """One side in one variant."""

    side: str
    compiled: bool
    micro_rows: int
    num_steps: int
    depth: int
    width: int
    vocab_size: int
    row_tokens: int
    batch_rows: int
    precision: str

    @property
    def variant(self) -> str:
        return f"{'compiled' if self.compiled else 'eager'}, {self.micro_rows} rows a pass"

    def model(self) -> Any:
        spec = ModelSpec(family="llama", depth=self.depth, width=self.width, context_tokens=self.row_tokens)
        return build_model(spec, self.vocab_size, SPECIAL, 0)

    def rows(self) -> StreamRows:
        """Makes a stream in which a token is one of two that follow the one before; no document ends, but for `packed`."""
        random, size = np.random.default_rng(0), self.vocab_size - 3
        steps = random.integers(1, 3, (self.num_steps + 1) * self.batch_rows * self.row_tokens)
        stream = (3 + np.cumsum(steps * 7919) % size).astype(np.uint32)
        if self.side == "packed":
            stream[random.random(len(stream)) < 1 / DOCUMENT_TOKENS] = SPECIAL.end_of_text
        return StreamRows([stream], self.row_tokens, SPECIAL.end_of_text)

    def order(self, rows: StreamRows) -> list[int]:
        """Returns the rows of all steps, as our loop takes them."""
        return [int(row) for step in range(self.num_steps) for row in step_rows(0, step, self.batch_rows, rows.num_rows)]


@dataclass
class Course:
    """Losses and ends, in seconds, of the steps; figures of our loop's own."""

    losses: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def ours(run: Run) -> Course:
    """Trains by `tasks.modeling.loop`."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), World(0, 1, CPU), run.precision, run.micro_rows, Compute(compile=run.compiled))
        train = TrainSpec(
            batch_rows=run.batch_rows,
            num_tokens=run.num_steps * run.batch_rows * run.row_tokens,
            eval_rows=1,
            eval_every_steps=999,
        )
        level = CosineSchedule(kind="cosine", warmup_share=0.0, final_share=1.0)
        optim = AdamWSpec(kind="adamw", learning_rate=RATE, weight_decay=DECAY, clip_norm=CLIP, schedule=level)
        rows, made = run.rows(), Course()
        loop = Loop(run.model(), Task(CausalSpec(kind="causal").loss, rows, rows), train, optim, 0, place)
        step = loop._step
        loop._step = lambda: (step(), made.ends.append(time.monotonic()))  # type: ignore[method-assign, assignment, return-value]
        loop.run()
        records = read_records(Path(folder) / METRICS_NAME)
    made.losses = [one["train_loss"] for one in records if "train_loss" in one]
    found = [one["mfu"] for one in records if "mfu" in one]
    made.figures = {"mfu": statistics.median(found)} | loop._stopwatch.figures(CPU)
    return made


def bare(run: Run) -> Course:
    """What one would write by hand: the model's own attention (SDPA), autocast, fused AdamW."""
    model, rows = run.model(), run.rows()
    model.set_attn_implementation("sdpa")
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, fused=True)
    forward: Callable[..., Any] = torch.compile(model) if run.compiled else model
    made, order = Course(), run.order(rows)
    for start in range(0, len(order), run.batch_rows):
        loss_sum = 0.0
        for place in range(start, start + run.batch_rows, run.micro_rows):
            batch = make_batch(rows, np.array(order[place : place + run.micro_rows]), CPU)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=run.precision == "bf16"):
                logits = forward(input_ids=batch.ids_BT, use_cache=False).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), batch.targets_BT.flatten()) * run.micro_rows / run.batch_rows
            loss.backward()
            loss_sum += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        made.losses.append(loss_sum)
        made.ends.append(time.monotonic())
    return made


def trainer(run: Run) -> Course:
    """`transformers.Trainer` with its own loss, its own attention (SDPA) and fused AdamW."""
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model, rows = run.model(), run.rows()
    model.set_attn_implementation("sdpa")
    found = [rows.row(index) for index in run.order(rows)]
    # Its loss shifts the labels by one itself: labels are the inputs with the last target behind them.
    data = [{"input_ids": row.ids_T, "labels": np.concatenate([row.ids_T[:1], row.targets_T[:-1]])} for row in found]
    made = Course()

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(data)

    class Notes(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            made.ends.append(time.monotonic())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                made.losses.append(float(logs["loss"]))

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, use_cpu=True, bf16=run.precision == "bf16", optim="adamw_torch_fused", torch_compile=run.compiled,
            max_steps=run.num_steps,
            per_device_train_batch_size=run.micro_rows, gradient_accumulation_steps=run.batch_rows // run.micro_rows,
            learning_rate=RATE, weight_decay=DECAY, adam_beta1=BETAS[0], adam_beta2=BETAS[1], max_grad_norm=CLIP,
            lr_scheduler_type="constant", logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
        )  # fmt: skip
        InOrder(model=model, args=settings, train_dataset=data, callbacks=[Notes()]).train()
    return made


SIDES = {"ours": ours, "trainer": trainer, "bare": bare, "packed": ours}


def child(text: str) -> None:
    """Runs one side in this process and prints losses and tokens a second of the steps after the first."""
    run = Run.model_validate_json(text)
    start = time.monotonic()
    made = SIDES[run.side](run)
    speed = (run.num_steps - 1) * run.batch_rows * run.row_tokens / (made.ends[-1] - made.ends[0])
    first = {"seconds_to_first_step": made.ends[0] - start}
    say({"losses": made.losses, "tokens_per_s": speed, "figures": made.figures | first})


def measured(run: Run, threads: int, cache: Path) -> dict[str, Any]:
    """Runs one side in a process of its own."""
    settings = {"TORCHINDUCTOR_CACHE_DIR": str(cache / run.side)}
    found = run_child("tests.bench.train", run.model_dump_json(), threads=threads, settings=settings)
    return found | {"side": run.side, "variant": run.variant}


def main() -> None:
    """Finds the best variant of each side, runs the pairs, and writes the result down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, default=5, help="runs of each side")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a run; one more warms up")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each side")
    parser.add_argument("--micro-rows", default="4,8", help="rows a pass that are tried")
    parser.add_argument("--modes", default="eager,compiled", help="of these, which are tried")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default=current_site().resolve_precision("auto"))
    for name, size in (("depth", 6), ("width", 384), ("vocab-size", 16_384), ("row-tokens", 512), ("batch-rows", 32)):
        parser.add_argument(f"--{name}", type=int, default=size)
    settings = parser.parse_args()
    if settings.child:
        child(settings.child)
        return
    sizes = {name: getattr(settings, name) for name in ("depth", "width", "vocab_size", "row_tokens", "batch_rows")}
    common = sizes | {"num_steps": settings.steps + 1, "precision": settings.precision}
    tried = [(mode == "compiled", int(rows)) for mode in settings.modes.split(",") for rows in settings.micro_rows.split(",")]
    best: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as name:
        variants = []
        for side in ("ours", "trainer", "bare"):
            runs = [Run(side=side, compiled=compiled, micro_rows=rows, **common) for compiled, rows in tried]
            found = [measured(run, settings.threads, Path(name)) for run in runs]
            variants += [{name: one[name] for name in ("side", "variant", "tokens_per_s")} | one["figures"] for one in found]
            best[side] = max(zip(found, runs, strict=True), key=lambda pair: pair[0]["tokens_per_s"])[1]
        best["packed"] = best["ours"].model_copy(update={"side": "packed"})
        pairs = [{side: measured(run, settings.threads, Path(name)) for side, run in best.items()} for _ in range(settings.pairs)]
    figures = {
        "sizes": sizes,
        "precision": settings.precision,
        "threads": settings.threads,
        "timed_steps": settings.steps,
        "variants": variants,
    }
    note("train", ("torch", "transformers", "accelerate"), figures | _compared(pairs))


def _compared(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns speeds, losses and, where the losses agree, our speed over each peer's."""
    speeds = {side: [pair[side]["tokens_per_s"] for pair in pairs] for side in SIDES}
    losses = {side: pairs[0][side]["losses"] for side in SIDES}
    peers = ["trainer", "bare"]
    gaps = {side: max(abs(one - other) for one, other in zip(losses["ours"], losses[side], strict=True)) for side in peers}
    return {
        "best": {side: pairs[0][side]["variant"] for side in SIDES},
        "tokens_per_s": speeds,
        "losses": losses,
        "largest_loss_gap": gaps,
        "faster_than": {side: ratios(speeds[side], speeds["ours"]) for side in peers if gaps[side] <= MAX_LOSS_GAP},
        "packed_to_unpacked": ratios(speeds["ours"], speeds["packed"]),
        "where_our_time_went": [pair["ours"]["figures"] for pair in pairs],
    }


if __name__ == "__main__":
    main()
