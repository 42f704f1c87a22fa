"""`textmill doctor`: is this machine fit, and which runs are not what they say.

In: the installation, the state folder. Out: a table of findings; runs whose process is gone are closed in Prefect and
MLflow, and what waits for MLflow is sent. Invariant: no secret is shown.
"""

import difflib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.servers import prefect_api, running_ui, wait_for_prefect
from flows.watch import reap_prefect
from tasks.core.child import EVENTS, MARK
from tasks.core.errors import TransientError
from tasks.core.site import CONFIG, Site, current_site
from tasks.core.store import Store
from tasks.core.tracking import deliver_pending, reap, shown

Level = Literal["ok", "note", "problem"]
_MIN_FREE_BYTES = 5e9
# Variables beside those of the settings: of children, of deploy/compose.yaml, of the tests.
_OTHERS = (CONFIG, MARK, EVENTS, "TEXTMILL_MODEL", "TEXTMILL_SHARED_DATA", "TEXTMILL_TEST_CHAIN")
_STYLE = {"ok": "green", "note": "yellow", "problem": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    detail: str


def examine() -> bool:
    """Prints the findings and returns whether none is a problem."""
    site = current_site()
    findings = [*_machine(site), *_packages(), *_settings(site), *_store(site), *_runs(site)]
    table = Table(title="textmill doctor", title_justify="left")
    for column in ("", "what", "found"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(f"[{_STYLE[finding.level]}]{finding.level}[/]", finding.subject, escape(finding.detail))
    Console().print(table)
    return all(finding.level != "problem" for finding in findings)


def _machine(site: Site) -> Iterator[Finding]:
    tested: Level = "ok" if platform.system() == "Linux" else "note"
    yield Finding(tested, "system", f"{platform.platform()}, Python {platform.python_version()} (Linux is tested, macOS is not)")
    yield Finding(
        "ok", "device", f"{site.resolved_device}, {os.cpu_count()} cores, precision auto = {site.resolve_precision('auto')}"
    )
    site.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(site.root).free
    yield Finding("ok" if free > _MIN_FREE_BYTES else "problem", "disk", f"{free / 1e9:.1f} GB free at {site.root}")
    browser = shutil.which("chromium")
    yield Finding("ok" if browser else "note", "browser", browser or "no chromium: tests of the UI skip themselves")


def _packages() -> Iterator[Finding]:
    for text in requires("textmill") or []:
        requirement = Requirement(text)
        if requirement.name == "textmill" or (requirement.marker and not requirement.marker.evaluate({"extra": "all"})):
            continue
        yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding("problem", requirement.name, f"not installed; asked for: {requirement.specifier}")
    fits = requirement.specifier.contains(found, prereleases=True)
    return Finding("ok" if fits else "problem", requirement.name, f"{found} (asked for: {requirement.specifier or 'any'})")


def _settings(site: Site) -> Iterator[Finding]:
    for name, value in site.model_dump().items():
        yield Finding("ok", f"TEXTMILL_{name.upper()}", shown(str(value)))
    yield from _misspelt()
    ui = running_ui(site)
    yield Finding("ok" if ui else "note", "textmill ui", f"{ui['prefect']} and {ui['mlflow']}" if ui else "not running")


def _misspelt() -> Iterator[Finding]:
    known = {*_OTHERS, *(f"TEXTMILL_{name.upper()}" for name in Site.model_fields)}
    for name in sorted({name.upper() for name in os.environ} - known):
        if name.startswith("TEXTMILL_"):
            near = difflib.get_close_matches(name, known, n=1)
            yield Finding("problem", name, "no such setting" + (f"; did you mean {near[0]}?" if near else ""))


def _store(site: Site) -> Iterator[Finding]:
    store = Store(site.store_dir)
    count = sum(1 for _ in store.manifests())
    yield Finding("ok", "store", f"{count} artifacts, {len(store.partials())} unfinished, in {site.store_dir}")


def _runs(site: Site) -> Iterator[Finding]:
    """Closes what a killed process left open; a service that does not answer is a finding, not an error."""
    try:
        with prefect_api(site) as api_url:
            wait_for_prefect(api_url)
            closed = reap_prefect(site)
        yield Finding("note" if closed else "ok", "Prefect runs", f"{closed} closed as crashed, whose process is gone")
    except TransientError as error:
        yield Finding("problem", "Prefect", shown(str(error)))
    try:
        delivered, left = deliver_pending(site)
        killed = len(reap(site))
    except Exception as error:
        yield Finding("problem", "MLflow", shown(f"{site.tracking_uri} does not answer: {error}"))
        return
    yield Finding("note" if killed else "ok", "MLflow runs", f"{killed} closed as killed, whose process is gone")
    yield Finding("problem" if left else "ok", "MLflow deliveries", f"{delivered} runs delivered late, {left} still waiting")
