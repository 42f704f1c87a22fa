"""`make screenshots`: the pictures in docs/images, taken in a real browser from what a run of the demo left.

In: a state folder (by default the one in use; the demo is run first where it holds no finished run). Out: PNG files of one
size. Invariant: nothing on a picture is made up, and the same command takes them again.
"""

import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from tasks.core.site import current_site
from tests.browser import browser_page
from tests.chain import ROOT, ChainRun, textmill
from tests.running_ui import RunningUi, serving_ui

IMAGES = ROOT / "docs" / "images"
MAX_BYTES = 250_000
_SETTLE_MS = 3_000  # charts and graphs are drawn after their data has come
_NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""


def main(state: Path) -> None:
    """Takes every picture."""
    if not ChainRun(state, 0, "").manifests("deploy"):
        run = textmill(state, "run", "demo")
        print(run.output)
        if run.code != 0:
            raise SystemExit(run.code)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with serving_ui(state) as ui, browser_page() as page:
        page.add_init_script(_NO_ASSISTANT)
        for name, url, show in pictures(ui):
            page.goto(url)
            show(page)
            take(page, IMAGES / f"{name}.png")


def pictures(ui: RunningUi) -> list[tuple[str, str, Any]]:
    """Name, address and what to wait for or scroll to, of each picture."""
    chain, run = ChainRun(ui.state, 0, ""), longest_run(ui)
    model = chain.manifests("register")[-1].facts
    prefect, form = f"{ui.prefect}/v2", f"deployments/deployment/{ui.deployment('demo')['id']}/run"
    curve = f"artifacts/artifact/{ui.artifacts(run['id'])['pretrain']['id']}"
    card = f"{ui.mlflow}/#/models/{model['name']}/versions/{model['version']}?workflowType=machine_learning"
    return [
        ("prefect-graph", f"{prefect}/runs/flow-run/{run['id']}?tab=TaskRuns", lambda page: settled(page, "canvas")),
        ("prefect-form", f"{prefect}/{form}", model_fields),
        ("prefect-artifact", f"{prefect}/{curve}", lambda page: settled(page, "img[src^='data:image']")),
        ("mlflow-model", card, lambda page: settled(page, "text=What it is")),
        ("quality-report", (chain.folder("check") / "report.html").as_uri(), lambda page: settled(page, "h1")),
        ("evaluation-report", (chain.folder("evaluate") / "report.html").as_uri(), lambda page: settled(page, "h1")),
    ]


def model_fields(page: Page) -> None:
    """Brings the size of the model into view: a drop-down, numbers, fields that may be off."""
    settled(page, "text=Ingest")
    page.get_by_label("Select Family").evaluate("field => field.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(500)


def longest_run(ui: RunningUi) -> dict[str, Any]:
    """The finished run that had most to do: it is the one that built what the others reused."""
    runs = ui.ask("/flow_runs/filter", {"flow_runs": {"state": {"name": {"any_": ["Completed"]}}}})
    return dict(max(runs, key=lambda run: run["total_run_time"]))


def settled(page: Page, selector: str) -> None:
    """Waits until an element is there and what surrounds it has been drawn."""
    expect(page.locator(selector).first).to_be_visible(timeout=20_000)
    page.wait_for_timeout(_SETTLE_MS)


def take(page: Page, path: Path) -> None:
    """Takes a picture of what is in view, in 256 colours: a third of the size and no difference to see."""
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB")
    if size > MAX_BYTES:
        raise SystemExit(f"{path} has {size} bytes, {MAX_BYTES} are allowed")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else current_site().root)
