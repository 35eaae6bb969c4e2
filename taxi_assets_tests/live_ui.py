"""`dagster dev` for this code location, in a separate TAXI_HOME: webserver, daemon, code server, as with `make dev`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from taxi_assets.datasets.schema import YELLOW, TaxiKind
from taxi_assets.keys import job_name
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.processes import REPOSITORY, free_port, running, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

GROUPS = ("ingest", "sinks", "reports")
GRAPH = "/asset-groups?expanded=" + ",".join(f"global@global:{group}" for group in GROUPS)
"""The graph with its groups open."""
LAST_RUN = "{ runsOrError(limit: 1) { ... on Runs { results { status tags { key value } } } } }"


def environment(home: Path, rows: int = 2000, source: str = "sample", kinds: str = "yellow") -> dict[str, str]:
    """The variables of the processes in this home."""
    return {"DAGSTER_HOME": str(home), "TAXI_SOURCE": source, "TAXI_SAMPLE_ROWS": str(rows), "TAXI_KINDS": kinds}


@contextmanager
def live_ui(home: Path, rows: int = 2000, source: str = "sample", kinds: str = "yellow") -> Iterator[str]:
    """The UI's URL. The home has a copy of the code, so that edits do not reload it during a test."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, home)
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "taxi_assets", home / "taxi_assets", ignore=no_caches, dirs_exist_ok=True)
    (home / ".taxi").mkdir(exist_ok=True)
    port, log = free_port(), home / "dagster-dev.log"
    env = environment(home, rows, source, kinds)
    try:
        with running("-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port), env=env, cwd=home, log=log):
            address = f"http://127.0.0.1:{port}"

            def answers() -> bool:
                try:
                    return requests.get(f"{address}/server_info", timeout=2).ok
                except requests.ConnectionError:
                    return False

            until(answers, 240, f"the UI (see {log})")
            yield address
    finally:
        EmbeddedPostgres(home / ".taxi" / "postgres").remove()


def materialize(page: Page, address: str, month: str, kind: TaxiKind = YELLOW, seconds: float = 240) -> None:
    """Load a month as a person does, by clicking through the job's page, and wait until its run succeeded."""
    page.goto(f"{address}/locations/taxi_assets.definitions/jobs/{job_name(kind)}")
    page.get_by_role("button", name="Materialize all").click()
    confirm, partitions = (page.get_by_role("button", name=name) for name in ("Confirm", "Show all partitions"))
    confirm.or_(partitions).first.wait_for()
    if confirm.count():  # the views are over tables of datasets that are not loaded yet
        confirm.click()
    partitions.click()
    box = page.locator("input[type=text]:visible").last
    box.fill(f"{month}-01")
    box.press("Enter")
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("Launched run").wait_for()

    def ended() -> str | None:
        answer = requests.post(f"{address}/graphql", json={"query": LAST_RUN}, timeout=60).json()
        (run,) = answer["data"]["runsOrError"]["results"]
        this = {"key": "dagster/partition", "value": f"{month}-01"} in run["tags"]
        return run["status"] if this and run["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    assert until(ended, seconds, f"the run of {month}") == "SUCCESS"
