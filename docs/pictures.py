"""Make the README's pictures anew (`make pictures`): from a live UI over a generated month, in headless Chromium."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from taxi_assets_tests.browser import chromium, launched, visit  # noqa: E402
from taxi_assets_tests.live_ui import GRAPH, live_ui, materialize  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = REPOSITORY / "docs" / "images"
LARGEST = 300_000
"""Bytes that a picture may have: it is loaded with the README."""


MARGIN = 20
"""Pixels around the graph."""
# the box around the groups that are open and what is in them
BOX = """groups => {
    const boxes = [...document.querySelectorAll('svg foreignObject')]
        .filter(node => !groups.includes(node.textContent.trim().split(/\\s|\\d/)[0]))
        .map(node => node.getBoundingClientRect()).filter(box => box.width)
    const least = side => Math.min(...boxes.map(box => box[side]))
    const most = side => Math.max(...boxes.map(box => box[side]))
    return [least('left'), least('top'), most('right'), most('bottom')]
}"""


def take_graph(page: "Page", address: str) -> None:
    """The graph with its groups open, from top to bottom, cut to what is in it; a closed group is left out."""
    page.set_viewport_size({"width": 2500, "height": 1900})
    page.evaluate("""() => {
        localStorage.setItem('asset-graph-direction', '"vertical"')
        localStorage.setItem('large-screen-nav-open', 'false')
    }""")
    page.goto(address + GRAPH)
    page.get_by_text("rejected_trips", exact=True).locator("visible=true").first.wait_for()
    page.wait_for_timeout(10_000)  # the graph settles, and the last run's marks arrive
    left, top, right, bottom = page.evaluate(BOX, ["places"])
    clip = {"x": left - MARGIN, "y": top - MARGIN, "width": right - left, "height": bottom - top}
    clip["width"] += 2 * MARGIN
    clip["height"] += 2 * MARGIN
    page.screenshot(path=IMAGES / "graph.png", clip=clip)


def take_dialog(page: "Page", address: str) -> None:
    """The dialog that launches a run, with a month selected."""
    page.set_viewport_size({"width": 1280, "height": 760})
    page.goto(f"{address}/locations/taxi_assets.definitions/jobs/load_month")
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_role("button", name="Show all partitions").click()
    box = page.locator("input[type=text]:visible").last
    box.fill("2021-01-01")
    box.press("Enter")
    page.get_by_role("button", name="Launch 1 run").wait_for()
    page.wait_for_timeout(1_000)
    page.screenshot(path=IMAGES / "launch.png")


def main() -> int:
    """Take the pictures, and fail on one that is too large."""
    if chromium() is None:
        print("Chromium is needed: apt-get install chromium, or name it in TAXI_CHROMIUM.", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="taxi-") as folder, launched() as browser:
        home = Path(folder)
        with live_ui(home, rows=100_000) as address:
            zones = ["-m", "dagster", "asset", "materialize", "--select", "taxi_zones"]
            environment = {"DAGSTER_HOME": folder, "TAXI_SOURCE": "sample", "PATH": str(Path(sys.executable).parent)}
            command = [sys.executable, *zones, "-m", "taxi_assets.definitions"]
            subprocess.run(command, cwd=home, env=environment, check=True, capture_output=True)
            with visit(browser, address, 1280, height=760) as visited:
                page = visited.page
                page.set_default_timeout(180_000)
                for month in ("2020-01", "2021-01"):
                    materialize(page, address, month)
                take_graph(page, address)
                take_dialog(page, address)
                page.set_viewport_size({"width": 1280, "height": 760})
                page.goto(f"{address}/assets/clean_trips?view=checks")
                page.get_by_text("Succeeded", exact=True).nth(1).wait_for()
                page.wait_for_timeout(3_000)
                page.screenshot(path=IMAGES / "checks.png")
                page.goto(f"{address}/assets/month_report?view=events")
                page.get_by_role("img", name="trips per day").first.wait_for()
                page.wait_for_timeout(2_000)
                page.screenshot(path=IMAGES / "metadata.png")
        report = (home / ".taxi/bucket/reports/yellow/2021-01.html").as_uri()
        for width, height in ((1280, 1500), (390, 1500)):
            with visit(browser, report, width, height=height) as opened:
                opened.page.screenshot(path=IMAGES / f"report-{width}.png")
    sizes = {path.name: path.stat().st_size for path in sorted(IMAGES.glob("*.png"))}
    for name, size in sizes.items():
        print(f"{size:>8,}  {name}{'' if size <= LARGEST else '  is too large'}")
    return int(max(sizes.values()) > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
