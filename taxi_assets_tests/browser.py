"""A real browser for tests: the system's headless Chromium, driven by Playwright.

Use by `from taxi_assets_tests.browser import browser` (a module fixture). Where Playwright or Chromium is
missing, tests that need them are skipped with what to install. Chromium is Debian's package `chromium`, or the program
in TAXI_CHROMIUM; Playwright's own downloads are not used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# --no-sandbox: Chromium's sandbox does not start for root, as in a container; the pages here are our own
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser per module; every test opens its own pages. Its event loop would disturb tests of other modules."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    if chromium() is None:
        pytest.skip("Chromium is not installed (apt-get install chromium, or set TAXI_CHROMIUM)")
    with launched() as started:
        yield started


def chromium() -> str | None:
    """Where Chromium is, or None."""
    return os.environ.get("TAXI_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def launched() -> Iterator[Browser]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield started
        started.close()


@dataclass
class Visit:
    """A page and what it did: `complaints` are errors and warnings of its console, `requests` addresses."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def visit(browser: Browser, address: str, width: int, theme: str = "light", height: int = 900) -> Iterator[Visit]:
    """Open `address` in a window `width` pixels wide, in the light or dark theme."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    try:
        visited = Visit(context.new_page())
        page = visited.page
        page.on("console", lambda m: visited.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: visited.complaints.append(str(error)))
        page.on("request", lambda request: visited.requests.append(request.url))
        page.goto(address)
        yield visited
    finally:
        context.close()
