"""Merging, saving and registering a LoRA of SmolLM2-135M: our registration beside MLflow's transformers flavour.

In: `--rounds N`. Out: JSON, and one line in `results/register.jsonl`: seconds and bytes of the merge (which also checks that
merged model and adapter say the same), of saving, of our version as the whole model and as the adapter alone, of the base
(registered once), and of `mlflow.transformers.log_model` with the merged model in memory; and tokens a second of greedy answers
of the base and of the merged model. Invariant: one registry (SQLite, files beside it), one adapter (rank 16, all linear layers).

"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flows.presets import load_recipe
from tasks.bases import adopt_base
from tasks.contracts import Checkpoint
from tasks.core.site import Site
from tasks.core.tracking import BASES, download, versions
from tasks.core.tracking.client import experiment_id, mlflow_client
from tasks.modeling.adapted import adapter_of
from tasks.modeling.model import load_model, save_model
from tasks.modeling.words import load_tokenizer, model_special_ids
from tasks.tuning.lora import LoraSpec
from tests.bench.result import note
from tests.conftest import ROOT
from tests.registry.kit import make_chain, register

METHOD = LoraSpec(kind="lora", rank=16)
NEW_TOKENS, ANSWERS = 64, 3


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the seconds a call takes, and what it returns."""
    start = time.monotonic()
    found = function()
    return round(time.monotonic() - start, 3), found


def num_bytes(folder: Path) -> int:
    """Returns the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def merged(base: Checkpoint, folder: Path) -> tuple[dict[str, float], Any]:
    """Merges a random adapter and saves both; returns the seconds of each, and the merged model."""
    model = load_model(base.path / "model")
    special, prepared = model_special_ids(model), METHOD.prepare(model, 0)
    for weight in prepared.model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.02)
    merge_s, plain = timed(lambda: prepared.finish(folder / "adapter"))
    save_s, _ = timed(lambda: save_model(plain, base.path / "model", special, folder / "model"))
    return {"merge_s": merge_s, "save_s": save_s}, plain


def answer_speed(model: Any) -> float:
    """Returns tokens a second of greedy answers of a fixed length, the median of a few."""
    ids = torch.arange(100, 132)[None]
    model.eval().set_attn_implementation("sdpa")

    def answer() -> Any:
        with torch.inference_mode():
            return model.generate(ids, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)

    answer()
    return statistics.median(NEW_TOKENS / timed(answer)[0] for _ in range(ANSWERS))


def by_mlflow(site: Site, model: Any, base: Checkpoint) -> dict[str, float]:
    """Logs and registers the merged model with MLflow's transformers flavour."""
    import mlflow
    from transformers import pipeline

    mlflow.set_tracking_uri(site.tracking_uri)
    pipe = pipeline("text-generation", model=model, tokenizer=load_tokenizer(base.path / "model"))
    with warnings.catch_warnings(), mlflow.start_run(experiment_id=experiment_id(site)):
        warnings.simplefilter("ignore")
        seconds, info = timed(
            lambda: mlflow.transformers.log_model(
                pipe, name="peer", registered_model_name="peer", pip_requirements=["transformers", "torch"]
            )
        )
    return {"seconds": seconds, "bytes": num_bytes(Path(mlflow.artifacts.download_artifacts(info.model_uri)))}


def round_of(state: Path, number: int) -> dict[str, Any]:
    """Returns the figures of one round, in a registry of its own."""
    site = Site(state_dir=state)
    base = adopt_base.build(load_recipe("smollm-lora").base, site=site)
    with tempfile.TemporaryDirectory() as name:
        plain_speed = answer_speed(load_model(base.path / "model"))
        times, model = merged(base, Path(name))
        figures: dict[str, Any] = times | {"adapter_bytes": num_bytes(Path(name, "adapter"))}
        figures["answer_tokens_per_s"] = {"base": plain_speed, "merged": answer_speed(model)}
        own = Site(state_dir=Path(name, "state"))
        mlflow_client(own)
        figures["mlflow"] = by_mlflow(own, model, base)
        for place, (what, holds) in enumerate((("base_and_adapter", "adapter"), ("adapter", "adapter"), ("model", "model"))):
            chain = make_chain(own, 10 * number + place, base=base, method=METHOD)
            seconds, _ = timed(
                lambda chain=chain, what=what, holds=holds: register(own, chain, what.replace("_", "-"), holds=holds)
            )
            (version,) = versions(own, what.replace("_", "-"))
            kept = num_bytes(download(own, version))
            figures[what] = {
                "seconds": seconds,
                "bytes": kept,
                "bytes_over_adapter": kept / num_bytes(adapter_of(chain.tuned.path)),
            }
        (version,) = versions(own, BASES)
        figures["base_bytes_once"] = num_bytes(download(own, version))
    return figures


def main() -> None:
    """Runs the rounds and writes the result down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="times everything is done")
    parser.add_argument("--state", type=Path, default=ROOT / ".textmill", help="where the base is kept")
    settings = parser.parse_args()
    rounds = [round_of(settings.state, number) for number in range(1, settings.rounds + 1)]
    note("register", ("torch", "transformers", "peft", "mlflow"), {"threads": torch.get_num_threads(), "rounds": rounds})


if __name__ == "__main__":
    main()
