"""A process that loads months one after another for `make backfill`, and its handle in the process that started it.

They talk in lines of JSON over the worker's standard input and output. When the input ends the worker ends, in the middle
of a month if need be: a killed backfill leaves nobody behind, and a month is whole or absent whenever it is cut.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.settings import get_settings

if TYPE_CHECKING:
    import dagster as dg

LOG = "backfill.log"
"""What the runs say line by line, in TAXI_HOME."""


class Worker:
    """A worker process; it holds the file descriptor `lock` open as long as it lives."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._process = self._start()

    def load(
        self, kind: TaxiKind, month: Month, part: dict[str, Any] | None, version: str | None, tags: dict[str, str]
    ) -> dict[str, Any] | None:
        """Load a month, or a part (`MonthRecords.part`) of it; rows, seconds and failures, or None: the worker was killed.

        `version` of the publisher's file and `tags` are for the run's tags.
        """
        task = {
            "kind": kind.name,
            "month": str(month),
            "assets": [asset.path for asset in part["asset_selection"]] if part else [],
            "checks": [[check.asset_key.path, check.name] for check in part["asset_check_keys"]] if part else [],
            "tags": {**tags, run_tags.SOURCE_VERSION: version} if version else tags,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # it is gone, or we ended it
            return None
        return json.loads(line) if line.endswith("\n") else None

    def restart(self) -> None:
        """Start a new process in place of one that was killed."""
        self.end()
        self._process = self._start()

    def end(self) -> None:
        """End the process, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    def _start(self) -> subprocess.Popen[str]:
        with (get_settings().home_folder / LOG).open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "taxi_assets.cli.backfill_worker", str(self._lock)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=[self._lock],
                start_new_session=True,  # Ctrl-C is for the process that waits, which lets months finish
            )


def main() -> None:
    """Load the months named on standard input until it ends."""
    os.set_inheritable(int(sys.argv[1]), False)  # a server started by a month must not hold the backfill's lock
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed goes to the log, for only answers may go to the pipe
    tasks: list[str] = []
    ready = threading.Semaphore(0)

    def listen() -> None:
        for line in sys.stdin:
            tasks.append(line)
            ready.release()
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    import dagster as dg

    from taxi_assets.definitions import defs

    with dg.DagsterInstance.get() as instance:
        while True:
            ready.acquire()
            answers.write(json.dumps(_load(instance, defs, json.loads(tasks.pop(0)))) + "\n")
            answers.flush()


def _load(instance: dg.DagsterInstance, defs: dg.Definitions, task: dict[str, Any]) -> dict[str, Any]:
    import time

    import dagster as dg

    from taxi_assets.assets.common import CODE_VERSION, key
    from taxi_assets.assets.jobs import job_name
    from taxi_assets.core.failures import run_failures

    kind, month, started = KINDS[task["kind"]], Month.parse(task["month"]), time.monotonic()
    tags = {
        run_tags.STARTED_BY: "make backfill",
        run_tags.CODE_VERSION: CODE_VERSION,
        run_tags.PROCESS: run_tags.this_process(),
        **task["tags"],
    }
    job = defs.resolve_job_def(job_name(kind)).get_subset(  # all of it when there is no part
        asset_selection={dg.AssetKey(path) for path in task["assets"]},
        asset_check_selection={dg.AssetCheckKey(dg.AssetKey(path), name) for path, name in task["checks"]},
    )
    result = job.execute_in_process(
        partition_key=month.key,
        instance=instance,
        raise_on_error=False,
        tags=tags,
        run_config={"loggers": {"terminal": {}}},
    )
    failures = run_failures(result)
    rows = [
        materialization.metadata["dagster/partition_row_count"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key == key(kind, "clean_trips")
        and "dagster/partition_row_count" in (materialization := event.materialization).metadata
    ]
    return {
        "rows": rows[-1] if rows else None,
        "seconds": round(time.monotonic() - started, 1),
        "failures": failures,
        "run_id": result.run_id,
    }


if __name__ == "__main__":
    main()
