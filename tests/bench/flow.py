"""The corpus part of the chain on all of the shared corpus: seconds, MB/s and share of each stage.

In: a preset, `TEXTMILL_DATA_DIR`. Out: one JSON line in `results/flow.jsonl`. Invariants: the specs are those of
the preset; each stage is built, none reused; MB (10**6 bytes) are those of the text that goes into the stage, of ingest those of
the files. Seconds are those of the stage alone, the start of its workers included.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from data_quality.baseline import BaselineSpec, resolve_baseline
from data_quality.check import check
from flows.presets import load_recipe
from flows.recipe import Recipe
from tasks.bases import adopt_base
from tasks.cleaning import clean, decontaminate, dedup, score_quality
from tasks.core.artifact import Artifact, Spec
from tasks.core.site import Site
from tasks.core.stage import Stage
from tasks.ingest import ingest
from tasks.instructions import read_conversations
from tasks.tokenization import encode, make_tokenizer, mix
from tests.bench.result import note

WORKERS = 2


class Clock:
    """Builds stages and notes what each took."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.stages: dict[str, dict[str, float]] = {}

    def build(self, stage: Stage[Any], spec: Spec, *inputs: Artifact, num_bytes: int | None = None) -> Any:
        """Returns the artifact of a stage; `num_bytes` of text go into it, those of its first input where none are given."""
        start = time.monotonic()
        made = stage.build(spec, *inputs, site=self.site)
        seconds = time.monotonic() - start
        size: int = num_bytes if num_bytes is not None else getattr(inputs[0], "num_bytes", 0)
        self.stages[stage.name] = {
            "seconds": round(seconds, 2),
            "mb": round(size / 1e6, 1),
            "mb_per_s": round(size / 1e6 / seconds, 2),
        }
        return made


def build_corpus(recipe: Recipe, clock: Clock) -> dict[str, Any]:
    """Builds what `flows.corpus` calls, in its order, and returns what came out."""
    sources = sum(Path(path).stat().st_size for source in recipe.ingest.sources for path in source.paths)
    raw = clock.build(ingest, recipe.ingest, num_bytes=sources)
    filtered = clock.build(clean, recipe.clean, raw)
    unique = clock.build(dedup, recipe.dedup, filtered)
    held = clock.build(read_conversations, recipe.instructions, num_bytes=0)
    clear = clock.build(decontaminate, recipe.decontaminate, unique, held)
    corpus = clock.build(score_quality, recipe.quality, clear)
    name = BaselineSpec(name=recipe.registry.name, check=recipe.check)
    baseline = clock.build(resolve_baseline, name, corpus, num_bytes=0)
    clock.build(check, recipe.check, raw, filtered, corpus, baseline)
    base = clock.build(adopt_base, recipe.base, num_bytes=0)
    tokenizer = clock.build(make_tokenizer, recipe.tokenizer, corpus, base)
    tokens = clock.build(encode, recipe.encode, corpus, tokenizer)
    clock.build(mix, recipe.mix, tokens, num_bytes=corpus.num_bytes)
    counts = {"ingest": raw.num_documents, "clean": filtered.num_documents, "dedup": unique.num_documents}
    return {"documents": counts, "tokens": sum(tokens.tokens_by_split.values())}


def main() -> None:
    """Runs the part once in an empty store and notes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="shared-corpus")
    recipe = load_recipe(parser.parse_args().preset).resolved()
    assert isinstance(recipe, Recipe)
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(Site(state_dir=Path(folder), data_workers=WORKERS))
        made = build_corpus(recipe, clock)
    total = sum(one["seconds"] for one in clock.stages.values())
    for one in clock.stages.values():
        one["share"] = round(one["seconds"] / total, 3)
    figures = {"preset": recipe.name, "workers": WORKERS, "seconds": round(total, 1), "stages": clock.stages}
    note("flow", ("datatrove", "great-expectations", "tokenizers"), figures | made)


if __name__ == "__main__":
    main()
