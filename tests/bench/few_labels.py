"""What helps where labels are few: SST-2 with N labels on MiniLM, plain and with what is offered, over seeds.

In: `--labels 32 128 --seeds 3 --arms ...`, and the shared data. Out: one JSON line a run in `results/few_labels.jsonl`; a run
that stands there is not made again, so a long series may be cut off. Each arm has the same labels, steps and rate: where copies
make a pass longer, there are fewer passes. `back_translation` asks a chat model (`--translator FOLDER`) for Chinese and for
English again: one copy of each sentence, without a search. The seed draws the labels, and seeds head and order; half of the
items have each label. Accuracy is that on the 1,821 test sentences, with the weights of the last step: so few labels leave none
to select by.
"""

import argparse
import itertools
import json
import random
from pathlib import Path
from typing import Any

from flows.presets import load_recipe
from flows.recipe_paths import RECIPES_DIR
from tasks.bases import adopt_base
from tasks.contracts import Labelled
from tasks.core.site import Site
from tasks.evaluation import ScoreLabelsSpec, score_labels
from tasks.labelled import AugmentSpec, LabelledSpec, augment, read_labelled
from tasks.labelled.synonyms import SHIPPED
from tasks.modeling.specs import TrainSpec
from tasks.tuning.labelled import tune_labelled
from tests.bench.result import FOLDER, note
from tests.modeling.kit import in_process

NAME, COPIES, BATCH_ROWS, NUM_STEPS = "few_labels", 4, 16, 60
ARMS = ("plain", "synonyms", "back_translation")
ASKED = "Translate this text into {}. Answer with the translation only.\n\n"
Key = tuple[str, int, int]


def done() -> set[Key]:
    """Runs that have a line."""
    path = FOLDER / f"{NAME}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {(line["arm"], line["labels"], line["seed"]) for line in map(json.loads, lines)}


def few(data: Path, folder: Path, labels: int, seed: int, site: Site) -> Labelled:
    """SST-2 with `labels` training sentences, half of each label, and 100 others that nothing selects by."""
    lines = (data / "tasks/sst2/train.tsv").read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(("text", "label"), line.split("\t"), strict=True)) for line in sorted(set(lines))]
    random.Random(seed).shuffle(rows)
    train = [row for label in "01" for row in [row for row in rows if row["label"] == label][: labels // 2]]
    sets = {"train": train, "validation": [row for row in rows if row not in train][:100]}
    for name, some in sets.items():
        path = folder / f"{name}-{labels}-{seed}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    one: dict[str, Any] = {"licence": "research use", "names": {"0": "negative", "1": "positive"}}
    glue = {"name": "sst2", "form": "bare", "path": str(data / "tasks/sst2")}
    own = {name: [one | {"name": name, "paths": [str(folder / f"{name}-{labels}-{seed}.jsonl")]}] for name in sets}
    return read_labelled.build(LabelledSpec.model_validate({"glue": glue} | own), site=site)


def prepared(arm: str, labelled: Labelled, seed: int, translator: Path | None, site: Site) -> Labelled:
    """The training items of an arm."""
    asked = {"kind": "folder", "path": str(translator), "is_chat": True}
    shipped = str(RECIPES_DIR / "data" / SHIPPED.removeprefix("package:"))
    ways = {
        "plain": [],
        "synonyms": [{"kind": "synonyms", "paths": [shipped], "copies": COPIES, "seed": seed}],
        "back_translation": [
            {
                "kind": "back_translation",
                "there": asked | {"prefix": ASKED.format("Chinese")},
                "back": asked | {"prefix": ASKED.format("English")},
                "num_beams": 1,
                "max_tokens": 96,
                "batch": 32,
            }
        ],
    }
    return augment.build(AugmentSpec.model_validate({"ways": ways[arm]}), labelled, site=site)


def run(arm: str, labels: int, seed: int, asked: argparse.Namespace, site: Site) -> None:
    """Trains and scores once, and notes it."""
    recipe = load_recipe("sst2")
    folder = site.root / "few-labels"
    folder.mkdir(parents=True, exist_ok=True)
    labelled = few(asked.data, folder, labels, seed, site)
    made = prepared(arm, labelled, seed, asked.translator, site)
    num_epochs = NUM_STEPS * BATCH_ROWS / made.items_by_split["train"]
    every = {"eval_every_steps": NUM_STEPS, "checkpoint_every_steps": NUM_STEPS}
    train = TrainSpec(batch_rows=BATCH_ROWS, num_epochs=num_epochs, select="last", **every)
    spec = recipe.tune.model_copy(update={"train": train, "seed": seed})
    tuned = tune_labelled.build(spec, adopt_base.build(recipe.base.spec, site=site), made, site=site)
    scores = score_labels.build(ScoreLabelsSpec(role="tuned", settings=recipe.evaluate), tuned, labelled, site=site)
    figures = {"arm": arm, "labels": labels, "seed": seed, "num_steps": tuned.num_steps, "made_by": made.made_by}
    accuracy = scores.metrics["accuracy"].model_dump()
    note(NAME, ("torch", "transformers"), figures | {"not_made": made.not_made, "accuracy": accuracy})


def main() -> None:
    """Makes the runs that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS[:2]))
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("--translator", type=Path, help="folder of a chat model, for back_translation")
    parser.add_argument("--state", type=Path, required=True)
    asked = parser.parse_args()
    if "back_translation" in asked.arms and asked.translator is None:
        parser.error("back_translation wants --translator")
    site = Site(state_dir=asked.state)
    missing = [key for key in itertools.product(asked.arms, asked.labels, range(asked.seeds)) if key not in done()]
    with in_process():  # starting a child takes longer than so short a training
        for arm, labels, seed in sorted(missing, key=lambda key: key[1:]):
            run(arm, labels, seed, asked, site)


if __name__ == "__main__":
    main()
