"""Growth: time and peak memory of each data stage on 1, 4 and 10 times the corpus, each in a process of its own under one cap.

In: `--documents N` of the smallest corpus, `--cap-mb`. Out: one JSON line in `results/growth.jsonl` and `docs/images/growth.svg`.
Documents are lines drawn with a fixed seed from the text that ships with Textmill (Chinese and English), a tenth of them copies.
Invariants: the cap (RLIMIT_DATA) is the same for every size, a stage that needs more fails the run; seconds are of the stage
alone, without the start of its process.
"""

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.result import FOLDER, note
from tests.conftest import ROOT

SIZES = (1, 4, 10)
STAGES = ("ingest", "clean", "dedup", "decontaminate", "check", "tokenizer", "encode")
PICTURE = ROOT / "docs" / "images" / "growth.svg"
_LINES = 24


def pool(lang: str) -> list[str]:
    """Lines of the shipped corpora of one language."""
    name = {"zh": "linux_command_zh", "en": "debian_handbook"}[lang]
    with gzip.open(ROOT / "flows/recipes/data/corpus" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    found = {line.strip() for text in texts for line in text.splitlines()}
    return sorted(line for line in found if 20 <= len(line) <= 400 and "<" not in line)


def write_corpus(path: Path, number: int) -> None:
    """Writes documents as JSON lines; every tenth is a copy of an earlier one."""
    choose, pools = random.Random(0), {lang: pool(lang) for lang in ("zh", "en")}
    texts: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for place in range(number):
            fresh = "\n".join(choose.choices(pools["zh" if place % 2 else "en"], k=_LINES))
            texts.append(choose.choice(texts[-500:]) if place % 10 == 9 else fresh)
            file.write(json.dumps({"id": f"{place:07d}", "text": texts[-1]}, ensure_ascii=False) + "\n")


def chain(folder: Path) -> dict[str, Callable[[], Any]]:
    """Returns what builds each stage; those before it are answered from the store."""
    from data_quality.baseline import BaselineSpec, resolve_baseline
    from data_quality.check import check
    from flows.presets import load_recipe
    from tasks.cleaning import clean, decontaminate, dedup
    from tasks.core.site import Site
    from tasks.ingest import IngestSpec, ingest
    from tasks.instructions import read_conversations
    from tasks.tokenization import encode, make_tokenizer
    from tests.data.kit import no_base, source

    site, recipe = Site(state_dir=folder / "state", data_workers=2), load_recipe("ci").resolved()
    spec = IngestSpec(sources=(source(folder / "corpus.jsonl"),))

    def raw() -> Any:
        return ingest.build(spec, site=site)

    def filtered() -> Any:
        return clean.build(recipe.clean, raw(), site=site)

    def unique() -> Any:
        return dedup.build(recipe.dedup, filtered(), site=site)

    def clear() -> Any:
        held = read_conversations.build(recipe.instructions, site=site)
        return decontaminate.build(recipe.decontaminate, unique(), held, site=site)

    def checked() -> Any:
        baseline = resolve_baseline.build(BaselineSpec(name="bench", check=recipe.check), clear(), site=site)
        return check.build(recipe.check, raw(), filtered(), clear(), baseline, site=site)

    def tokenizer() -> Any:
        return make_tokenizer.build(recipe.tokenizer, clear(), no_base(site), site=site)

    def tokens() -> Any:
        return encode.build(recipe.encode, clear(), tokenizer(), site=site)

    return dict(zip(STAGES, (raw, filtered, unique, clear, checked, tokenizer, tokens), strict=True))


def run_stage(folder: Path, stage: str, cap_mb: int) -> None:
    """Builds one stage under the cap and prints its seconds and peak memory in MB, its own and that of its largest worker."""
    resource.setrlimit(resource.RLIMIT_DATA, (cap_mb << 20,) * 2)
    build = chain(folder)[stage]
    start = time.monotonic()
    build()
    peaks = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"seconds": round(time.monotonic() - start, 2), "peak_mb": peaks[0], "worker_peak_mb": peaks[1]}))


def measure(documents: int, cap_mb: int, folder: Path) -> dict[str, Any]:
    """Runs every stage on every size."""
    sizes: dict[str, Any] = {}
    for times in SIZES:
        place = folder / str(times)
        place.mkdir()
        write_corpus(place / "corpus.jsonl", documents * times)
        found = {}
        for stage in STAGES:
            command = [
                sys.executable,
                "-m",
                "tests.bench.growth",
                "--folder",
                str(place),
                "--stage",
                stage,
                "--cap-mb",
                str(cap_mb),
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{stage} failed on {times} times the corpus:\n{done.stderr[-2_000:]}")
            found[stage] = json.loads(done.stdout.splitlines()[-1])
        sizes[str(times)] = {"corpus_mb": round((place / "corpus.jsonl").stat().st_size / 1e6, 1), "stages": found}
    return {"documents": documents, "cap_mb": cap_mb, "sizes": sizes}


def draw(line: dict[str, Any]) -> None:
    """Draws seconds and peak memory of each stage over the size of the corpus."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    sizes = line["sizes"].values()
    megabytes = [one["corpus_mb"] for one in sizes]
    for axes, what, title in zip(panels, ("seconds", "peak_mb"), ("seconds", "peak memory, MB"), strict=True):
        for stage in STAGES:
            axes.plot(megabytes, [one["stages"][stage][what] for one in sizes], marker="o", label=stage)
        axes.set(xlabel="corpus, MB", title=title, ylim=(0, None))
        axes.grid(alpha=0.25)
    panels[1].axhline(line["cap_mb"], color="#c4314b", linestyle="--", linewidth=1, label="cap")
    panels[1].legend(frameon=False, fontsize=8)
    figure.suptitle(f"{line['hardware']}, commit {line['commit'][:7]}, load {line['load']:.0f}", fontsize=9)
    figure.savefig(PICTURE, format="svg", metadata={"Date": None})


def main() -> None:
    """Measures and notes, or runs one stage for the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=4_000)
    parser.add_argument("--cap-mb", type=int, default=2_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--stage", choices=STAGES)
    chosen = parser.parse_args()
    if chosen.stage:
        run_stage(chosen.folder, chosen.stage, chosen.cap_mb)
        return
    with tempfile.TemporaryDirectory() as name:
        note("growth", ("datatrove", "great-expectations", "tokenizers"), measure(chosen.documents, chosen.cap_mb, Path(name)))
    draw(json.loads((FOLDER / "growth.jsonl").read_text(encoding="utf-8").splitlines()[-1]))


if __name__ == "__main__":
    main()
