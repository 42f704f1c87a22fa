"""Small labelled inputs: random bases of several families, and items whose labels can be told from their words.

And a child that is asked to stop on its way.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.contracts import Checkpoint, Labelled
from tasks.core.artifact import Spec
from tasks.core.stage import StageContext, stage
from tasks.modeling.specs import ModelSpec
from tasks.modeling.words import SpecialIds
from tasks.tuning.job import TuneLabelledJob
from tests.modeling.kit import CHINESE, ENGLISH, EXTRA, SPECIAL, save_tokenizer

ITEMS = pa.schema(
    [(name, pa.string()) for name in ("id", "group", "source", "split", "text", "text_pair", "made_by", "origin", "maker")]
    + [("words", pa.list_(pa.string())), ("labels", pa.list_(pa.string())), ("value", pa.float64())]
)
NAMES = {"classification": ("zh", "en"), "multi_label": ("files", "text", "model"), "token_classification": ("no", "yes")}


class ToyBaseSpec(Spec):
    """A random model of a family."""

    family: str = "modernbert"
    dropout: float = 0.0


@stage(version=1)
def toy_base(spec: ToyBaseSpec, *, ctx: StageContext) -> Checkpoint:
    from tasks.modeling.model import build_model, save_model
    from tasks.modeling.words import load_tokenizer

    masked = spec.family in ("bert", "modernbert")
    named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"} if masked else {}
    save_tokenizer(ctx.dir / "tokenizer", extra=list(EXTRA.values())).save_pretrained(ctx.dir / "tokenizer")
    tokenizer = load_tokenizer(ctx.dir / "tokenizer")
    tokenizer.add_special_tokens(named)
    tokenizer.save_pretrained(ctx.dir / "tokenizer")
    roles = {role: tokenizer.convert_tokens_to_ids(text) for role, text in EXTRA.items()}
    special = SpecialIds(**{role: tokenizer.convert_tokens_to_ids(SPECIAL[role]) for role in ("end_of_text", "pad", "turn_end")})
    size = ModelSpec(family=spec.family, depth=2, width=32, num_heads=2, ffn_width=64, context_tokens=64)
    auto = "AutoModelForMaskedLM" if masked else "AutoModelForCausalLM"
    model = build_model(size, len(tokenizer), special, 0, auto, roles)
    save_model(model, ctx.dir / "tokenizer", special, ctx.dir / "model")
    return ctx.commit(
        Checkpoint,
        method="pretrain",
        tokenizer_digest="t",
        num_parameters=1,
        num_trained_parameters=1,
        num_steps=1,
        num_tokens=1,
        precision="fp32",
        train_loss=1.0,
        validation_loss=1.0,
    )


class ToyLabelledSpec(Spec):
    """Which task, how many items, and what is wrong with them."""

    task: str = "classification"
    size: int = 96
    one_class: bool = False
    unlabelled: bool = False
    pairs: bool = False
    repeat: int = 1


def toy_item(spec: ToyLabelledSpec, number: int, random: np.random.Generator) -> dict[str, Any]:
    """An item that can be learned: the label is a function of its words."""
    is_english = spec.one_class or number % 2 == 0
    words = [str(word) for word in random.choice(ENGLISH if is_english else CHINESE, int(random.integers(3, 9)))] * spec.repeat
    names = NAMES.get(spec.task, ())
    labels = {
        "classification": [names[is_english]] if names else None,
        "multi_label": [name for name in names if name in words],
        "token_classification": [names[word in ENGLISH[:5] or word in CHINESE[:3]] for word in words] if names else None,
        "regression": None,
    }[spec.task]
    item = dict.fromkeys(ITEMS.names) | {"id": f"i{number}", "group": f"g{number}", "source": "toy", "labels": labels}
    item["split"] = ("train", "train", "train", "validation", "validation", "test", "test", "train")[number // 2 % 8]
    item["text"], item["text_pair"] = " ".join(words), "about files" if spec.pairs else None
    if spec.task == "token_classification":
        item["text"], item["words"] = None, words
    if spec.task == "regression":
        item["value"] = 10.0 + sum(word in ENGLISH for word in words)
    if spec.unlabelled and number == 3:
        item["labels"] = []
    return item


@stage(version=1)
def toy_labelled(spec: ToyLabelledSpec, *, ctx: StageContext) -> Labelled:
    random = np.random.default_rng(0)
    items = [toy_item(spec, number, random) for number in range(spec.size)]
    pq.write_table(pa.Table.from_pylist(items, schema=ITEMS), ctx.dir / "items.parquet")
    splits = [item["split"] for item in items]
    return ctx.commit(
        Labelled,
        task=spec.task,
        label_names=NAMES.get(spec.task, ()),
        num_items_in=len(items),
        num_items=len(items),
        dropped_by_reason={},
        items_by_split={name: splits.count(name) for name in dict.fromkeys(splits)},
        items_by_source={"toy": len(items)},
    )


def stopped_main(job: TuneLabelledJob) -> None:
    """Tunes as a child does, and somebody asks it to stop after its fifth step."""
    from tasks.modeling.loop import Loop
    from tasks.tuning.labelled_train import tune_labelled_main

    step = Loop._step

    def then_asked(loop: Loop) -> None:
        step(loop)
        loop.interrupt.requested |= loop.position.step == 5

    Loop._step = then_asked  # type: ignore[method-assign]
    tune_labelled_main(job)
