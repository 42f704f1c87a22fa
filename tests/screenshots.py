"""`make screenshots`: the pictures of the documentation, from a state folder on which the demo has run.

In: a state folder (by default `.textmill`). Out: `docs/images/*.png`. Invariant: real pages of real servers.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.browser import browser_page
from tests.running_ui import RunningUi, serving_ui

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
_SETTLE_MS = 5_000


def main(state: Path) -> None:
    """Takes every picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with serving_ui(state) as ui, browser_page() as page:
        for name, address in addresses(ui, state):
            page.goto(address)
            page.wait_for_timeout(_SETTLE_MS)
            close = page.get_by_role("button", name="Close")
            if name.startswith("mlflow") and close.count():
                close.first.click()
                page.wait_for_timeout(500)
            page.screenshot(path=str(IMAGES / f"{name}.png"))
            print(f"{name}.png  {address}")


def addresses(ui: RunningUi, state: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the address of each picture."""
    done = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "START_TIME_ASC", "limit": 1}
    run = ui.ask("/flow_runs/filter", done)[0]["id"]
    (curve,) = ui.ask("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["pretrain"]}}})[:1]
    model = run_model(state)
    yield "prefect-graph", f"{ui.prefect}/v2/runs/flow-run/{run}"
    yield "prefect-form", f"{ui.prefect}/v2/deployments/deployment/{ui.deployment('demo')['id']}/run"
    yield "prefect-artifact", f"{ui.prefect}/v2/artifacts/artifact/{curve['latest_id']}"
    yield "mlflow-model", f"{ui.mlflow}/#/models/{model}/versions/1"
    for name, kind in (("quality-report", "quality-report"), ("evaluation-report", "eval-report")):
        yield name, next((state / "store" / kind).glob("*/report.html")).absolute().as_uri()


def run_model(state: Path) -> str:
    """Returns the name of the model that was registered last on this state folder."""
    versions = sorted((state / "store" / "model-version").glob("*/version.json"), key=lambda path: path.stat().st_mtime)
    return str(json.loads(versions[-1].read_text(encoding="utf-8"))["name"])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".textmill"))
