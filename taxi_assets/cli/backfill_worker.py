"""A process that loads one month after another for `taxi-assets backfill`, and its handle in the process that started it.

Requests and results are lines of JSON on the worker's standard input and output. The worker exits when its input ends, even
in the middle of a month: no worker outlives a killed backfill, and a month is complete or absent at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg

from taxi_assets.assets.month_status import assets
from taxi_assets.cli.execute import changed_a_month, execute
from taxi_assets.cli.interrupts import Interrupts
from taxi_assets.core import run_tags
from taxi_assets.core.failures import run_failures
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.definitions import build_defs
from taxi_assets.keys import CODE_VERSION, job_name
from taxi_assets.settings import load_settings
from taxi_assets.sinks.contract import ROW_COUNT
from taxi_assets.status.months import MonthGraph


class Worker:
    """A worker process. It holds the file descriptor `lock` open until it exits; its log is appended to `log`."""

    def __init__(self, kind: TaxiKind, lock: int, log: Path) -> None:
        self._kind, self._lock, self._log = kind, lock, log
        self.start()

    def start(self) -> None:
        """Start the process."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "taxi_assets.cli.backfill_worker", self._kind.name, str(self._lock)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=[self._lock],
                start_new_session=True,  # Ctrl-C must reach the parent only, which lets months finish
            )

    def load(
        self, month: Month, assets: Iterable[str] | None, tags: dict[str, str], run_config: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Load a month, or some assets of it; return what `load_month` returns, or None if the worker was killed."""
        selected = None if assets is None else sorted(assets)
        request = {"month": str(month), "assets": selected, "tags": tags, "run_config": run_config}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # the process is gone, or was ended
            return None
        return json.loads(line) if line.endswith("\n") else None

    def end(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


def main(kind_name: str, lock: str) -> None:
    """Load the months requested on standard input until it ends."""
    os.set_inheritable(int(lock), False)  # a server that a month starts must not hold the backfill's lock
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed goes to the log; the pipe is for results only
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            requests.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    settings, kind = load_settings(), KINDS[kind_name]
    defs = build_defs(settings)
    with dg.DagsterInstance.get() as instance:
        graph = MonthGraph(defs.get_repository_def().asset_graph, assets(kind, settings))
        while True:
            results.write(json.dumps(load_month(instance, defs, kind, graph, **json.loads(requests.get()))) + "\n")
            results.flush()


def load_month(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    kind: TaxiKind,
    graph: MonthGraph,
    month: str,
    assets: list[str] | None,
    tags: dict[str, str],
    run_config: dict[str, Any],
    starter: str = "make backfill",
    interrupts: Interrupts | None = None,
) -> dict[str, Any]:
    """Load a month, or some assets of it, in this process.

    Return the clean `rows`, `seconds`, `failures` as sentences, and whether the run `changed` anything.
    """
    started, job = time.monotonic(), defs.resolve_job_def(job_name(kind))
    if assets is not None:
        keys = graph.selection(assets)
        job = job.get_subset(asset_selection=set(keys), asset_check_selection=set(graph.checks(keys)))
    tags = {run_tags.CODE_VERSION: CODE_VERSION, **tags}
    partition = Month.parse(month).key
    result = execute(job, instance, starter, run_config, partition=partition, tags=tags, interrupts=interrupts)
    trips = {graph.keys[name] for name in (graph.assets.clean, *graph.assets.sinks)}
    rows = [
        event.materialization.metadata[ROW_COUNT].value
        for event in result.get_asset_materialization_events()
        if event.asset_key in trips and ROW_COUNT in event.materialization.metadata
    ]
    return {
        "rows": rows[-1] if rows else None,
        "seconds": round(time.monotonic() - started, 1),
        "failures": run_failures(result),
        "changed": changed_a_month(result),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
