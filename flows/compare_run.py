"""`textmill compare`: the cells of a grid, from the terminal, to a table.

In: a preset, overrides and a grid. Out: a table of the choices, the best one's test figures, where the page lies. Invariant: what
the comparison raised leaves with its type; the same command goes on where it ended.
"""

import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.compare import load_comparison
from flows.display import TerminalObserver, print_whole
from flows.servers import prefect_api, wait_for_prefect
from tasks.contracts import TuningComparison
from tasks.core.run import watching
from tasks.core.signals import ended_by_sigterm
from tasks.core.site import current_site


def launch_comparison(preset: str, overrides: Sequence[str], grid: Sequence[str], criterion: str | None) -> None:
    """Runs a comparison as a Prefect flow in this process and shows what came of it.

    Raises:
        PipelineError: What a cell raised.
    """
    start, site, console = time.monotonic(), current_site(), Console()
    comparison = load_comparison(preset, overrides, grid, criterion, site)
    console.print(
        f"[bold]textmill {version('textmill')}[/]  compare [bold]{escape(preset)}[/]: {len(comparison.cells)} runs, chosen by "
        f"{comparison.spec.criterion} on validation, state in {site.root}",
        highlight=False,
    )
    observer = TerminalObserver(console, shows_reused=False)
    with ended_by_sigterm(), prefect_api(site) as api_url, observer, watching(observer):
        from flows import runs  # imports Prefect, while the server starts

        wait_for_prefect(api_url)
        runs.compare(preset, tuple(grid), tuple(overrides), criterion)
    made = [record.artifact for record in observer.records if isinstance(record.artifact, TuningComparison)]
    _show(console, made[-1])
    console.print(f"[bold green]done[/] in {time.monotonic() - start:.1f} s", highlight=False)


def _show(console: Console, comparison: TuningComparison) -> None:
    found = json.loads((comparison.path / "comparison.json").read_text(encoding="utf-8"))
    print_whole(console, choices_table(found["criterion"], found["choices"]))
    console.print("the first on test items, which had no part in the choice:", highlight=False)
    for name, interval in comparison.test.items():
        console.print(f"  {name:<24} {interval}", highlight=False)
    console.print(f"page: {comparison.path / 'report.html'}\nlook further:  textmill show {comparison.address}", highlight=False)


def choices_table(criterion: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Returns the table of the choices, the best first; brackets are seeds' range, or the 95% interval over items."""
    table = Table(title="choices, the best first", title_justify="left")
    for name in rows[0]["settings"]:
        table.add_column(name, overflow="fold")
    columns = (criterion, "runs", "trained", "share", "kept MB", "GB", "s", "tokens/s", "gap", "forgetting")
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(escape(value) for value in row["settings"].values()), *_figures(row))
    return table


def _figures(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        _spread(row["figure"]),
        str(row["num_runs"]),
        f"{row['num_trained_parameters']:,.0f}",
        f"{row['trained_share']:.2%}",
        f"{row['kept_bytes'] / 1e6:.2f}",
        f"{row['peak_memory_bytes'] / 1e9:.2f}",
        f"{row['seconds']:.1f}",
        "-" if row["tokens_per_s"] is None else f"{row['tokens_per_s']:,.0f}",
        f"{row['train_validation_gap']:.3f}",
        "-" if row["forgetting"] is None else _spread(row["forgetting"]),
    )


def _spread(figure: dict[str, Any]) -> str:
    reach = "" if figure["over"] == "nothing" else f" \\[{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['mean']:.3f}{reach}"
