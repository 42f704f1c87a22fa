"""`python -m tests.objectives`: how far each objective's preset came, as a figure and a table.

In: the pretrained checkpoints of a state folder (TEXTMILL_STATE_DIR), the newest of each recipe. Out:
`docs/images/objectives.png`, and a Markdown table on the terminal, for docs/pretraining.md. Invariant: only trainings that ended
are in the store, so only those are shown; nothing is trained here.
"""

from pathlib import Path

from matplotlib.figure import Figure

from tasks.core.artifact import EXTRA_DIR
from tasks.core.site import current_site
from tasks.core.store import Manifest, Store
from tasks.modeling.job import METRICS_NAME
from tasks.modeling.records import read_records
from tests.bench.result import hardware

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "objectives.png"
_COLUMNS = (
    "objective", "preset", "steps", "time", "loss", "unigrams", "bigrams", "accuracy", "accuracy en", "accuracy zh", "commit"
)  # fmt: skip


def main() -> None:
    """Draws the figure and prints the table."""
    site = current_site()
    newest: dict[str, tuple[Manifest, Path]] = {}
    for folder, manifest in Store(site.store_dir).manifests():
        if manifest.stage == "pretrain":
            old = newest.get(manifest.label)
            if old is None or str(old[0].provenance["ended"]) < str(manifest.provenance["ended"]):
                newest[manifest.label] = manifest, folder
    made = [newest[label] for label in sorted(newest)]
    print(f"{hardware()}\n\n| {' | '.join(_COLUMNS)} |\n|{' --- |' * len(_COLUMNS)}")
    for manifest, folder in made:
        print(f"| {' | '.join(_row(manifest, folder))} |")
    _draw(made)


def _row(manifest: Manifest, folder: Path) -> list[str]:
    facts = manifest.facts
    held_out = facts["held_out"]
    seconds = next(one["seconds_total"] for one in reversed(read_records(_records(folder))) if "seconds_total" in one)
    figures = ["loss", "unigram_nats", "bigram_nats", "accuracy", "accuracy/en", "accuracy/zh"]
    return [
        manifest.spec["objective"]["kind"],
        manifest.label,
        f"{facts['num_steps']:,}",
        f"{seconds:.0f} s",
        *(f"{held_out[name]:.3f}" if name in held_out else "" for name in figures),
        str(manifest.provenance["commit"])[:7],
    ]


def _records(folder: Path) -> Path:
    return folder / EXTRA_DIR / METRICS_NAME


def _draw(made: list[tuple[Manifest, Path]]) -> None:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for manifest, folder in made:
        looks = [record for record in read_records(_records(folder)) if "validation_loss" in record]
        losses = [look.get("validation_masked_loss", look["validation_loss"]) for look in looks]
        axes.plot(
            [look["step"] / manifest.facts["num_steps"] for look in looks], losses, marker="o", markersize=3, label=manifest.label
        )
    for (name, value), style in zip(_levels(made).items(), ("--", ":"), strict=True):
        axes.axhline(value, color="#7a7a7a", linestyle=style, linewidth=1, label=f"{name} {value:.2f}")
    axes.set(xlabel="share of the training", ylabel="validation loss, nats a target")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(PICTURE, dpi=120)


def _levels(made: list[tuple[Manifest, Path]]) -> dict[str, float]:
    """Returns what counting words gives, the mean over the presets, whose tokenizers differ by a few special tokens."""
    found = [manifest.facts["held_out"] for manifest, _ in made]
    return {name: sum(one[f"{name[:-1]}_nats"] for one in found) / len(found) for name in ("unigrams", "bigrams")}


if __name__ == "__main__":
    main()
