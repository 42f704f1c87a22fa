"""What pretraining and tuning will cost on this machine, said before they start.

In: a recipe, the site, what the store holds already. Out: an `Outlook`. Invariant: nothing heavy is imported; a figure that is
not known yet is said to be unknown, never guessed.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from flows.recipe import Recipe
from tasks.contracts import TokenizedCorpus, Tokenizer
from tasks.core.artifact import EXTRA_DIR, Artifact
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.core.store import Manifest
from tasks.modeling.job import METRICS_NAME, Compute
from tasks.modeling.records import read_records
from tasks.modeling.scaling import MANY_PASSES, TOKENS_PER_WEIGHT, Scaled, scaled
from tasks.modeling.sizing import (
    MICRO_TOKENS,
    SIZED,
    Memory,
    budget_tokens,
    flops_per_token,
    lora_parameters,
    parameters,
    sizes_of,
    tokens_of_row,
    training_memory,
)
from tasks.modeling.specs import ModelSpec
from tasks.modeling.start import Continued
from tasks.pretrain import PretrainSpec
from tasks.tuning import LoraSpec, TuneSpec


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a training is expected to need.

    Attributes:
        num_tokens: Tokens it reads; none where the text is not encoded yet.
        memory: Bytes on each device at the largest moment.
        device_bytes: Memory of a device; none where it cannot be told.
        flops_per_s: What the latest training here reached; none where there was none.
    """

    num_parameters: int
    num_tokens: int | None
    flops_per_token: int
    memory: Memory
    device: str
    device_bytes: int | None
    flops_per_s: float | None

    @property
    def seconds(self) -> float | None:
        """Time of the training, as far as it can be told."""
        if self.num_tokens is None or self.flops_per_s is None:
            return None
        return self.num_tokens * self.flops_per_token / self.flops_per_s

    def lines(self) -> list[str]:
        """Returns what a person wants to read."""
        tokens = "tokens not known before encode" if self.num_tokens is None else f"{self.num_tokens:,} tokens"
        flops = "" if self.num_tokens is None else f", {self.num_tokens * self.flops_per_token:.2g} FLOPs"
        time = "not known before a first training here" if self.seconds is None else f"about {_duration(self.seconds)}"
        room = "" if self.device_bytes is None else f" of {self.device_bytes / 1e9:.1f} GB"
        parts = ", ".join(f"{name} {getattr(self.memory, name) / 1e9:.2f}" for name in ("states", "activations", "logits"))
        return [
            f"pretrain  {self.num_parameters / 1e6:,.2f} M parameters, {tokens}{flops}; time: {time}",
            f"          about {self.memory.total / 1e9:.1f} GB{room} on each device ({parts})",
        ]

    def require_room(self) -> None:
        """Checks that the training fits.

        Raises:
            RecipeError: A device has less memory than one step needs.
        """
        if self.device_bytes is None or self.memory.total <= self.device_bytes:
            return
        raise RecipeError(
            f"pretrain needs about {self.memory.total / 1e9:.1f} GB on a {self.device} device that has "
            f"{self.device_bytes / 1e9:.1f} GB: lower pretrain.model.depth or context_tokens, set TEXTMILL_MICRO_BATCH_ROWS to "
            "fewer rows or TEXTMILL_RECOMPUTE_ACTIVATIONS=true, or run it where there is more: on GPUs (TEXTMILL_DEVICE=cuda), "
            "with the weights cut over several (TEXTMILL_NUM_PROCESSES=8 TEXTMILL_SHARDING=fsdp2)"
        )


def pretrain_outlook(recipe: Recipe, site: Site, found: dict[str, Artifact], manifests: Sequence[Manifest]) -> Outlook | None:
    """Works out what pretraining will need; nothing where that is not known.

    It is not for an adopted tokenizer or base, whose sizes show when they are read, nor for families that are not counted yet;
    and a base that is taken as it is needs nothing.

    Args:
        recipe: What is asked.
        site: Where it will run.
        found: Artifacts that are there already, by stage.
        manifests: All that the store holds.
    """
    spec, scale = recipe.pretrain, pretrain_scale(recipe, found)
    model, vocab_size = _model(recipe, found.get("base"), spec.model.context_tokens), _vocab_size(recipe, found.get("tokenizer"))
    if recipe.pretrain.start.kind == "as_given" or vocab_size is None or model is None:
        return None
    return Outlook(
        num_parameters=parameters(model, vocab_size).total,
        num_tokens=None if scale is None else budget_tokens(model, scale.train, _tokens_a_pass(spec, found)),
        flops_per_token=flops_per_token(model, vocab_size),
        memory=_memory(model, vocab_size, site, spec, None if scale is None else scale.train.batch_rows),
        device=site.resolved_device,
        device_bytes=device_bytes(site),
        flops_per_s=latest_speed(site, manifests),
    )


def tuning_outlook(recipe: Recipe, site: Site, found: dict[str, Artifact]) -> str | None:
    """Says what a tuning of all weights, or a LoRA of all linear layers, will train and need; nothing where that is not known."""
    tune, method = recipe.tune, recipe.tune.method
    model, vocab_size = _model(recipe, found.get("base"), tune.row_tokens), _vocab_size(recipe, found.get("tokenizer"))
    if vocab_size is None or model is None or method.kind not in ("full", "lora"):
        return None
    if isinstance(method, LoraSpec) and method.targets is not None:
        return None
    num_adapted = lora_parameters(model, method.rank) if isinstance(method, LoraSpec) else None
    memory = _memory(model, vocab_size, site, tune, tune.train.batch_rows, num_adapted)
    total, room = parameters(model, vocab_size).total, device_bytes(site)
    trained = total if num_adapted is None else num_adapted
    return (
        f"tune      {trained / 1e6:,.2f} of {total / 1e6:,.2f} M weights trained; about {memory.total / 1e9:.1f} GB"
        + ("" if room is None else f" of {room / 1e9:.1f} GB")
        + " on each device"
    )


def _memory(
    model: ModelSpec,
    vocab_size: int,
    site: Site,
    asked: PretrainSpec | TuneSpec,
    batch_rows: int | None,
    num_adapted: int | None = None,
) -> Memory:
    """Returns what a step needs on a device, which takes as many rows of a batch (none: not known yet) as the site says."""
    rows = site.micro_batch_rows or max(1, MICRO_TOKENS[site.resolved_device] // model.context_tokens)
    return training_memory(
        model,
        vocab_size,
        (rows if batch_rows is None else min(rows, batch_rows)) * model.context_tokens,
        site.resolve_precision(asked.precision),
        has_average=asked.train.ema_decay is not None,
        num_adapted=num_adapted,
        compute=Compute.of(site),
        num_shards=site.num_shards,
        keeps_scores=site.resolved_device == "cpu",
    )


def _model(recipe: Recipe, base: Artifact | None, row_tokens: int | None) -> ModelSpec | None:
    """Returns the sizes of what is trained, with rows of so many tokens; none where they cannot be told yet.

    They are the recipe's or, where the recipe gives a base, those of the base as soon as it is there.
    """
    if recipe.pretrain.start.kind == "scratch":
        model = recipe.pretrain.model
        found = model if row_tokens is None else model.model_copy(update={"context_tokens": row_tokens})
        return found if found.family in SIZED else None
    if base is None:
        return None
    config = model_config(base.path)
    if config.get("model_type") not in SIZED:  # others name even the length of their context in other ways
        return None
    return sizes_of(config, row_tokens or tokens_of_row(config["max_position_embeddings"], 0))


def num_weights(recipe: Recipe, found: dict[str, Artifact]) -> int | None:
    """Returns the weights that pretraining will make; none where they cannot be told yet."""
    model = _model(recipe, found.get("base"), None)
    vocab_size = _vocab_size(recipe, found.get("tokenizer"))
    return None if model is None or vocab_size is None else parameters(model, vocab_size).total


def _vocab_size(recipe: Recipe, tokenizer: Artifact | None) -> int | None:
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.vocab_size
    return getattr(recipe.tokenizer.source, "vocab_size", None)


def model_config(folder: Path) -> dict[str, Any]:
    """Returns the configuration of the model in an artifact's folder."""
    found: dict[str, Any] = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    return found


def pretrain_scale(recipe: Recipe, found: dict[str, Artifact]) -> Scaled | None:
    """Returns budget, batch and learning rate of pretraining; nothing where they depend on text that is not encoded yet."""
    return recipe.pretrain.scaled(_train_tokens(found))


def _train_tokens(found: dict[str, Artifact]) -> int | None:
    tokens = found.get("mix", found.get("encode"))
    return tokens.tokens_by_split["train"] if isinstance(tokens, TokenizedCorpus) else None


def _tokens_a_pass(spec: PretrainSpec, found: dict[str, Artifact]) -> int | None:
    tokens = _train_tokens(found)
    return spec.start.tokens_a_pass(tokens) if tokens is not None and isinstance(spec.start, Continued) else tokens


def scale_line(spec: PretrainSpec, scale: Scaled | None) -> str:
    """Returns what a person wants to know of budget, batch and learning rate: each with whether it was set or derived."""
    weights, epochs = spec.model.num_matrix_weights, spec.train.num_epochs
    if isinstance(spec.start, Continued):  # the sizes are the base's
        budget = f"{epochs:g} passes over the text" if scale is None else f"{scale.budget_tokens:,} tokens"
        return f"scale     {budget}, {spec.train.batch_rows} rows a step, learning rate {spec.optim.learning_rate:.3g} (all set)"
    size = f"scale     {weights / 1e6:,.2f} M hidden weights"
    if scale is not None:
        return f"{size}, {scale.flops:.2g} FLOPs in them: {scale.budget_tokens:,} tokens{_settings(spec, scale)}"
    if epochs is not None:
        return f"{size}: {epochs:g} passes over the text; what is not set is known after encode"
    enough = scaled(spec.model, spec.train, spec.optim.learning_rate, TOKENS_PER_WEIGHT * weights)
    assert enough is not None, "text of a known size"
    return f"{size}: {enough.budget_tokens:,} tokens{_settings(spec, enough)}, or {MANY_PASSES:.0f} passes over less text"


def _settings(spec: PretrainSpec, scale: Scaled) -> str:
    is_set = (spec.train.num_tokens or spec.train.num_epochs, spec.train.batch_rows, spec.optim.learning_rate)
    budget, batch, rate = ("derived" if one is None else "set" for one in is_set)
    return f" ({budget}), {scale.train.batch_rows} rows a step ({batch}), learning rate {scale.learning_rate:.3g} ({rate})"


def latest_speed(site: Site, manifests: Sequence[Manifest]) -> float | None:
    """Returns the FLOPs a second of the latest pretraining on this kind of device, from what it recorded of each step."""
    made = [one for one in manifests if one.stage == "pretrain" and one.provenance["device"] == site.resolved_device]
    trained = [one for one in made if f"{EXTRA_DIR}/{METRICS_NAME}" in one.files]
    for manifest in sorted(trained, key=lambda one: str(one.provenance["ended"]), reverse=True):
        folder = site.store_dir / manifest.address
        rates = [record["tokens_per_s"] for record in read_records(folder / EXTRA_DIR / METRICS_NAME) if "tokens_per_s" in record]
        config = model_config(folder)
        model = sizes_of(config, manifest.spec["model"]["context_tokens"])
        if rates and model is not None:
            return median(rates) * flops_per_token(model, config["vocab_size"])
    return None


def device_bytes(site: Site) -> int | None:
    """Returns the memory of one device: of this machine's processes for a CPU, of the smallest GPU for CUDA."""
    if site.resolved_device == "cpu":
        return int(psutil.virtual_memory().total / site.num_processes)
    if (program := shutil.which("nvidia-smi")) is None:
        return None
    asked = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    sizes = [int(line) for line in done.stdout.split() if line.isdigit()]
    return min(sizes) * 2**20 if sizes else None


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
