"""A real browser, for the tests of the pages and for the pictures in the documentation.

In: nothing. Out: a page of Debian's chromium, and what it asked of whom. Invariant: nothing is installed or downloaded.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def browser_page(width: int = 1400, height: int = 900) -> Iterator[Page]:
    """Yields a page of a fresh browser without cookies or history."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


def foreign_hosts(page: Page) -> set[str]:
    """Returns a set that collects the hosts this page asks anything of, those of this machine apart."""
    hosts: set[str] = set()

    def note(url: str) -> None:
        host = urlsplit(url).hostname
        if host is not None and host not in ("127.0.0.1", "localhost"):
            hosts.add(host)

    page.on("request", lambda request: note(request.url))
    return hosts
