"""`dagster dev` over this code location, in a home of its own: webserver, daemon and code server, as `make dev` has them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from taxi_assets.services.embedded_postgres import EmbeddedPostgres
from taxi_assets_tests.processes import REPOSITORY, free_port, running, until


@contextmanager
def live_ui(home: Path, rows: int = 2000, source: str = "sample") -> Iterator[str]:
    """The UI's address. The home holds a copy of the code, so that nobody's edit reloads it midway."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, home)
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "taxi_assets", home / "taxi_assets", ignore=no_caches, dirs_exist_ok=True)
    (home / ".taxi").mkdir(exist_ok=True)
    port, log = free_port(), home / "dagster-dev.log"
    env = {"DAGSTER_HOME": str(home), "TAXI_SOURCE": source, "TAXI_SAMPLE_ROWS": str(rows)}
    try:
        with running("-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port), env=env, cwd=home, log=log):
            address = f"http://127.0.0.1:{port}"

            def answers() -> bool:
                try:
                    return requests.get(f"{address}/server_info", timeout=2).ok
                except requests.ConnectionError:
                    return False

            until(answers, 120, f"the UI (see {log})")
            yield address
    finally:
        EmbeddedPostgres(home / ".taxi" / "postgres").remove()
