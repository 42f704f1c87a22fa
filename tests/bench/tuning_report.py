"""Tables and pictures of the tuning experiment.

In: `results/tuning.jsonl`. Out: `docs/images/tuning-labels.svg`, `docs/images/tuning-answers.svg`, and on the terminal the tables
of docs/tuning.md. Invariant: nothing is measured here; a figure is the mean over seeds, brackets are the lowest and the highest.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from tests.bench import tuning
from tests.bench.tuning import GIVEN_RATE, RATES, SEEDS, lines
from tests.conftest import ROOT

IMAGES = ROOT / "docs" / "images"
LABELS = sorted(tuning.LABELS)
Line = dict[str, Any]
_COSTS = ("weights trained", "kept, MB", "memory, GB", "s", "tokens/s when asked")
_ORDER = list(dict.fromkeys((*RATES, *tuning.ANSWER_METHODS)))
_MARKERS = "osD^vPX*<>hpd"


def _cell(values: Sequence[float], digits: int = 3) -> str:
    """Returns mean and range; nothing where nothing was measured."""
    if not values:
        return "-"
    return f"{fmean(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def chosen_lines(task: str) -> dict[str, list[Line]]:
    """Returns the lines of each method of a task, at the rate of the experiment."""
    found = defaultdict(list)
    for line in sorted(lines(), key=lambda one: (_ORDER.index(one["method"]), one["weights"], one["change"], one["seed"])):
        if line["task"] == task and line["learning_rate"] in (None, _rate(line)):
            found[_name(line)].append(line)
    return found


def _rate(line: Line) -> float | None:
    """Returns the rate of the experiment that a line is of; none: what the method takes by itself."""
    return {"sst2": RATES.get(line["method"], (None,))[0], "smollm": GIVEN_RATE}.get(line["task"])


def rate_table() -> None:
    """Prints what another rate gives at 256 labels and seed 0."""
    some = {
        (line["method"], line["learning_rate"]): line
        for line in lines()
        if (line["task"], line["num_labels"], line["seed"], line["weights"]) == ("sst2", 256, 0, "pretrained")
    }
    _head("method", "rate", "accuracy on validation", "another rate", "accuracy on validation")
    for method, rates in RATES.items():
        if all((method, rate) in some for rate in rates):
            cells = [(f"{rate:g}", f"{some[method, rate]['validation']['accuracy']:.3f}") for rate in rates]
            _row(method, *cells[0], *cells[1])


def _name(line: Line) -> str:
    parts = [line["method"], line["change"].removeprefix("tune.")]
    return ", ".join([part for part in parts if part] + ["random weights"] * (line["weights"] == "random"))


def label_table() -> None:
    """Prints accuracy on test items by method and number of labels, and what the runs at most labels cost."""
    _head("method", "rate", *(f"{number:,} labels" for number in LABELS), *_COSTS)
    found = chosen_lines("sst2")
    majority = [_cell([one["base_test"]["accuracy"]["mean"] for one in _of(found["full"], number)]) for number in LABELS]
    _row("nothing (majority)", "", *majority, "0", *[""] * (len(_COSTS) - 1))
    for method, some in found.items():
        accuracies = [_cell(_accuracies(_of(some, number))) for number in LABELS]
        _row(method, f"{some[0]['learning_rate_used']:g}", *accuracies, *_costs(_of(some, LABELS[-1]) or some))


def answer_table(task: str) -> None:
    """Prints the loss on held-out answers, the worth of the prompt and forgetting by method, and what the runs cost."""
    _head("method", "rate", "answer loss", "worth of the prompt, bits", "forgetting, bits a byte", *_COSTS)
    found = chosen_lines(task)
    base = next(iter(found.values()))[0]["base_test"]
    nothing = (f"{base['answer_loss']['mean']:.3f}", f"{base['prompt_gain']['mean']:.4f}", "0", "0")
    _row("nothing", "", *nothing, *[""] * (len(_COSTS) - 1))
    for method, some in found.items():
        loss = _cell([one["test"]["answer_loss"]["mean"] for one in some])
        worth = _cell([one["test"]["prompt_gain"]["mean"] for one in some], digits=4)
        lost = _cell([one["forgetting"]["mean"] for one in some])
        _row(method, f"{some[0]['learning_rate_used']:g}", loss, worth, lost, *_costs(some))


def _head(*names: str) -> None:
    _row(*names)
    _row(*["---"] * len(names))


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def _of(all_lines: Sequence[Line], num_labels: int) -> list[Line]:
    return [one for one in all_lines if one["num_labels"] == num_labels]


def _costs(some: Sequence[Line]) -> tuple[str, ...]:
    first = some[0]
    return (
        f"{first['num_trained_parameters']:,} ({first['trained_share']:.2%})",
        f"{first['kept_bytes'] / 1e6:.2f}",
        f"{max(one['peak_memory_bytes'] for one in some) / 1e9:.2f}",
        f"{fmean(one['seconds'] for one in some):.0f}",
        f"{fmean(one['tokens_per_s'] for one in some):,.0f}",
    )


def draw_labels() -> None:
    """Draws accuracy over the number of labels, over trained weights and over seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    over_labels, over_weights, over_time = panels = figure.subplots(1, 3, sharey=True)
    for number, (method, all_lines) in enumerate(chosen_lines("sst2").items()):
        style = {"color": f"C{number % 10}", "marker": _MARKERS[number % len(_MARKERS)], "label": method, "capsize": 3}
        counts = [count for count in LABELS if _of(all_lines, count)]
        _bars(over_labels, counts, [_accuracies(_of(all_lines, count)) for count in counts], **style)
        most = _of(all_lines, LABELS[-1])
        for axes, of in ((over_weights, "num_trained_parameters"), (over_time, "seconds")):
            _bars(axes, [fmean(one[of] for one in most)], [_accuracies(most)], **style)
    for axes, title in zip(
        panels, ("labels", f"weights trained, {LABELS[-1]:,} labels", f"seconds, {LABELS[-1]:,} labels"), strict=True
    ):
        axes.set(xscale="linear" if axes is over_time else "log", xlabel=title)
        axes.grid(alpha=0.25)
    over_time.set_xlim(left=0)
    over_labels.set_ylabel("accuracy on test items")
    figure.legend(*over_labels.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(IMAGES / "tuning-labels.svg", format="svg", metadata={"Date": None})


def draw_answers() -> None:
    """Draws the loss on held-out answers over trained weights, over seconds and over forgetting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    sides: list[tuple[str, Callable[[Line], float]]] = [
        ("weights trained", lambda one: one["num_trained_parameters"]),
        ("seconds", lambda one: one["seconds"]),
        ("forgetting, bits a byte", lambda one: one["forgetting"]["mean"]),
    ]
    for number, (method, all_lines) in enumerate(chosen_lines("answers").items()):
        style = {"color": f"C{number % 10}", "marker": _MARKERS[number % len(_MARKERS)], "label": method, "capsize": 3}
        for axes, (_, of) in zip(panels, sides, strict=True):
            _bars(axes, [fmean(map(of, all_lines))], [[one["test"]["answer_loss"]["mean"] for one in all_lines]], **style)
    for axes, (title, _) in zip(panels, sides, strict=True):
        axes.set(xscale="log" if title.startswith("weights") else "linear", xlabel=title)
        axes.grid(alpha=0.25)
    panels[1].set_xlim(left=0)
    panels[0].set_ylabel("loss on held-out answers, nats a token")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(IMAGES / "tuning-answers.svg", format="svg", metadata={"Date": None})


def _accuracies(some: Sequence[Line]) -> list[float]:
    return [one["test"]["accuracy"]["mean"] for one in some]


def _bars(axes: Any, places: Sequence[float], values: Sequence[Sequence[float]], **style: Any) -> None:
    means = [fmean(some) for some in values]
    below = [mean - min(some) for mean, some in zip(means, values, strict=True)]
    above = [max(some) - mean for mean, some in zip(means, values, strict=True)]
    axes.errorbar(places, means, yerr=[below, above], **style)


def main() -> None:
    """Prints the tables and draws the pictures of what is there."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = "textmill"  # equal figures give equal files
    found = lines()
    print(f"{len(found)} runs, seeds {SEEDS}, commits {sorted({one['commit'][:7] for one in found})}, {found[-1]['hardware']}")
    if chosen_lines("sst2"):
        label_table()
        rate_table()
        draw_labels()
    if chosen_lines("answers"):
        answer_table("answers")
        draw_answers()
    if chosen_lines("smollm"):
        answer_table("smollm")


if __name__ == "__main__":
    main()
