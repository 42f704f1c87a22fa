"""What pretraining is worth, and what each tuning method makes of it: every method at several numbers of labels, over seeds.

In: SST-2 of the shared data (TEXTMILL_SHARED_DATA) on MiniLM; the instructions that ship on the base of preset ci, and those of
preset smollm-lora on SmolLM2-135M. Out: one JSON line a run in `results/tuning.jsonl`, of which `tests.bench.tuning_report` makes
tables and pictures. Invariants: each run is the chain of `textmill compare` up to its summary, in a process of its own; every run
of a task takes the same number of steps; a seed draws the labels, the head, the adapter and the order; a line that is there is
not run again.
"""

import argparse
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flows.compare import load_comparison
from flows.labelled import build_tuned_on_labels
from flows.labelled_recipe import LabelledRecipe
from flows.pipeline import AnyRecipe
from tasks.core.site import current_site
from tests.bench.result import FOLDER, note

SEEDS = (0, 1, 2)
LABELS = (256, 1_024, 32)  # in the order of the runs
NUM_STEPS, BATCH, NUM_VALIDATION, NUM_TEST = 64, 16, 100, 500
ANSWER_STEPS, ANSWER_BATCH = 96, 4
GIVEN_STEPS, GIVEN_BATCH, GIVEN_ROW = 32, 2, 256  # a budget that SmolLM2 gets through in minutes
PRESETS = {"sst2": "sst2", "answers": "ci", "smollm": "smollm-lora"}
DATA = Path(os.environ.get("TEXTMILL_SHARED_DATA", os.environ.get("TEXTMILL_DATA_DIR", ".")))
# Peak learning rates: the one of the experiment, set before it ran; another that part `rates` tries at 256 labels and seed 0.
RATES = {
    "full": (3e-4, 1e-4),
    "head": (1e-2, 1e-3),
    "top_layers": (1e-3, 3e-4),
    "freeze": (5e-4, 2e-4),
    "layer_decay": (5e-4, 2e-4),
    "gradual": (5e-4, 1e-3),
    "lora": (2e-3, 5e-4),
    "ia3": (1e-2, 5e-2),
}
ANSWER_METHODS = ("full", "head", "top_layers", "lora", "ia3", "bottleneck", "prefix", "prompt")
HELD = (
    "tune.replay.share=0.2",
    "tune.replay.share=0.5",
    "tune.ewc.strength=1e3",
    "tune.ewc.strength=1e5",
    "tune.embedding_noise=5",
    "tune.optim.weight_decay=0.1",
)
GIVEN_HELD = ("tune.replay.share=0.2", "tune.ewc.strength=1e5")
GIVEN_RATE = 3e-4  # of the peak that SmolLM2's makers state, 3e-3, the lower of the usual tenth to fifth; LoRA takes its own


@dataclass(frozen=True, slots=True)
class Case:
    """One run that is asked for."""

    task: str
    num_labels: int
    seed: int
    method: str
    learning_rate: float | None
    weights: str = "pretrained"
    change: str = ""

    @property
    def grid(self) -> tuple[str, ...]:
        """The case as a grid of one cell."""
        rate = [] if self.learning_rate is None else [f"tune.optim.learning_rate={self.learning_rate}"]
        return (f"tune.method.kind={self.method}", f"tune.seed={self.seed}", *rate, *filter(None, [self.change]))


def case_of(line: dict[str, Any]) -> Case:
    """Returns the case that a line is of."""
    return Case(**{one.name: line[one.name] for one in fields(Case)})


def lines() -> list[dict[str, Any]]:
    """Returns what was measured so far."""
    path = FOLDER / "tuning.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def label_cases() -> Iterator[Case]:
    """Yields the runs on SST-2."""
    for seed in SEEDS:
        for num_labels in LABELS:
            yield from (Case("sst2", num_labels, seed, method, rate) for method, (rate, _) in RATES.items())
            yield Case("sst2", num_labels, seed, "full", RATES["full"][0], "random")


def rate_cases() -> Iterator[Case]:
    """Yields a run of each method at another rate."""
    yield from (Case("sst2", 256, 0, method, other) for method, (_, other) in RATES.items())


def answer_cases() -> Iterator[Case]:
    """Yields the runs on instructions; each method takes the rate it takes by itself."""
    for seed in SEEDS:
        yield from (Case("answers", 1_235, seed, method, None) for method in ANSWER_METHODS)


def forgetting_cases() -> Iterator[Case]:
    """Yields the runs that hold against forgetting, each beside `full` as it is."""
    for seed in SEEDS:
        yield from (Case("answers", 1_235, seed, "full", None, change=change) for change in HELD)
        yield Case("answers", 1_235, seed, "layer_decay", None)


def given_cases() -> Iterator[Case]:
    """Yields what holds against forgetting on a base that others made, beside `full` as it is and beside LoRA."""
    for seed in SEEDS:
        yield from (Case("smollm", 0, seed, "full", GIVEN_RATE, change=change) for change in ("", *GIVEN_HELD))
        yield Case("smollm", 0, seed, "lora", None)


def recipe_of(case: Case, folder: Path) -> AnyRecipe:
    """Returns the recipe of a case, checked as `textmill compare` does."""
    match case.task:
        case "sst2":
            overrides = label_overrides(case, folder)
        case "answers":
            overrides = answer_overrides(ANSWER_STEPS, ANSWER_BATCH * 256)
        case _:
            overrides = [f"tune.row_tokens={GIVEN_ROW}", *answer_overrides(GIVEN_STEPS, GIVEN_BATCH * GIVEN_ROW)]
    return load_comparison(PRESETS[case.task], overrides, case.grid, None, current_site()).cells[0].recipe


def label_overrides(case: Case, folder: Path) -> list[str]:
    """Returns what makes preset sst2 a case: fewer labels, a budget in steps, fewer items to look at."""
    files = {"train": "train", "validation": "dev", "heldout": "test"}
    sizes = {"train": case.num_labels, "validation": NUM_VALIDATION, "heldout": NUM_TEST}
    common = "licence='not stated',has_header=false,has_quotes=false,text_column='1',label_column='2',"
    common += "names={0='negative',1='positive'}"
    sets = []
    for part, name in files.items():
        target = folder / f"sst2-{part}-{sizes[part]}-{case.seed if part == 'train' else 0}.tsv"
        draw_lines(DATA / "tasks" / "sst2" / f"{name}.tsv", sizes[part], case.seed if part == "train" else 0, target)
        sets.append(f"labelled.{part}=[{{name='{part}',paths=['{target}'],{common}}}]")
    budget: dict[str, object] = {
        "batch_rows": BATCH,
        "num_epochs": NUM_STEPS * BATCH / case.num_labels,
        "eval_every_steps": NUM_STEPS // 2,
    }
    budget |= {"checkpoint_every_steps": NUM_STEPS, "patience_evals": "off"}
    changes = [*sets, *(f"tune.train.{name}={value}" for name, value in budget.items())]
    if case.method == "gradual":
        changes.append(f"tune.method={{kind='gradual',period={{kind='steps',steps={NUM_STEPS // 8}}}}}")
    if case.weights == "random":
        changes.append(f"base.spec.source={{kind='folder',path='{random_base(folder)}',licence='none'}}")
    return changes


def answer_overrides(num_steps: int, step_tokens: int) -> list[str]:
    """Returns what makes a preset of instructions short: a budget in tokens, fewer texts to be asked."""
    return [
        "tune.train.num_epochs=off",
        f"tune.train.num_tokens={num_steps * step_tokens}",
        "tune.train.patience_evals=off",
        f"tune.train.eval_every_steps={num_steps // 3}",
        "tune.optim.learning_rate=off",
        "evaluate.documents_per_language=30",
        "evaluate.foreign_prompts=1",
        "evaluate.max_new_tokens=16",
    ]


def random_base(folder: Path) -> Path:
    """Makes the base of preset sst2 anew, from random weights."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from flows.presets import load_recipe

    target = folder / "random-base"
    if not (target / "config.json").exists():
        recipe = load_recipe("sst2")
        assert isinstance(recipe, LabelledRecipe)
        given = recipe.base.build().path / "model"
        torch.manual_seed(0)
        AutoModel.from_config(AutoConfig.from_pretrained(given)).save_pretrained(target)
        AutoTokenizer.from_pretrained(given).save_pretrained(target)
    return target


def draw_lines(source: Path, number: int, seed: int, target: Path) -> Path:
    """Writes lines drawn by seed, in the order of the draw."""
    import numpy as np

    all_lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    chosen = np.random.default_rng(seed).permutation(len(all_lines))[:number]
    target.write_text("".join(all_lines[row].rstrip("\n") + "\n" for row in chosen), encoding="utf-8")
    return target


def measure(case: Case, folder: Path) -> None:
    """Runs a case and notes its line."""
    from flows.corpus import build_corpus
    from flows.model import build_tuned
    from tests.modeling.kit import in_process

    with in_process():
        recipe = recipe_of(case, folder).resolved()
        tuned: Any = (
            build_tuned_on_labels(recipe) if isinstance(recipe, LabelledRecipe) else build_tuned(recipe, build_corpus(recipe))
        )
    base = {name: interval.model_dump() for name, interval in tuned.base_scores.metrics.items()}
    facts = tuned.summary.facts() | {"num_steps": tuned.model.num_steps, "base_test": base}
    if facts["method"] != case.method:
        raise RuntimeError(f"the summary is of {facts['method']}, the case of {case.method}")
    facts["learning_rate_used"] = tuned.model.figures["learning_rate"]
    note("tuning", ("torch", "transformers", "peft"), asdict(case) | facts)


def in_own_process(case: Case, folder: Path) -> None:
    """Runs a case in a fork, so that its peak memory is its own and the libraries are loaded once."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            measure(case, folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        print(f"{case} failed; the next call tries it again", file=sys.stderr)


def run_all(cases: Iterator[Case], folder: Path, minutes: float) -> None:
    """Runs what is not measured yet, beginning none after so many minutes."""
    import peft  # noqa: F401  (loaded before the forks)
    import transformers  # noqa: F401

    done, start_s = {case_of(line) for line in lines()}, time.monotonic()
    for case in cases:
        if case not in done and time.monotonic() - start_s < 60 * minutes:
            gc.collect()
            in_own_process(case, folder)


PARTS = {
    "rates": rate_cases,
    "labels": label_cases,
    "answers": answer_cases,
    "forgetting": forgetting_cases,
    "smollm": given_cases,
}


def main() -> None:
    """Runs one part of the experiment, or shows what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many minutes")
    chosen, folder = parser.parse_args(), current_site().root / "bench-tuning"
    folder.mkdir(parents=True, exist_ok=True)
    run_all(PARTS[chosen.part](), folder, chosen.minutes)


if __name__ == "__main__":
    main()
