"""Run tags that say who started a run, of which source version and code version, and in which process it works.

Tags are how a run is found again (the UI's filter, GraphQL, `load_history` in Postgres). No Dagster in here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

STARTED_BY = "taxi_assets/started_by"
"""`make backfill`, `sensor new_yellow_months`, `schedule reconcile_yellow`, ...: written by what starts a run."""
SOURCE_VERSION = "taxi_assets/source_version"
"""Version of the publisher's file that the run was asked to load."""
CODE_VERSION = "taxi_assets/code_version"
BACKFILL = "taxi_assets/backfill"
"""Id of the `make backfill` that the run is part of: the same for all its months."""
AUTOMATION_CONDITION = "dagster/from_automation_condition"
"""Dagster's own, of a run that automation conditions requested."""
DAGSTER_BACKFILL = "dagster/backfill"
"""Dagster's own: id of a backfill of the UI or the API."""
GOES_ON_WITH = "taxi_assets/goes_on_with"
"""The run that began what this one finishes: a month that was cut short."""
PROCESS = ".dagster/taxi_assets_process"
"""Host, process id and its start, of a run that one of this package's commands executes: tells a dead run from a slow one.
The UI hides tags that start with `.dagster/`."""
_PROCESS_BEFORE = "taxi_assets/process"
"""The tag's name in version 0.1.0."""

_DAGSTER = {
    "dagster/auto_observe": "automation",
    AUTOMATION_CONDITION: "declarative automation",
    DAGSTER_BACKFILL: "backfill",
    "dagster/schedule_name": "schedule",
    "dagster/sensor_name": "sensor",
    "dagster/parent_run_id": "re-execution of",
}
"""Dagster's own tags, for runs that were started without ours."""


def started_by(tags: Mapping[str, str]) -> str:
    """Who or what started the run with these tags: `sensor new_yellow_months`, `backfill abcdefgh`, or `user`."""
    if STARTED_BY in tags:
        return tags[STARTED_BY]
    for tag, name in _DAGSTER.items():
        if tag in tags:
            return name if tags[tag] in ("true", "") else f"{name} {tags[tag]}"
    return "user"


def load_id(run_id: str, tags: Mapping[str, str]) -> str:
    """Return the id of a load, whatever number of runs it takes: the run that began it.

    Runs that resume an incomplete month name it (`GOES_ON_WITH`). A re-execution continues a load if it is an automatic retry,
    which has `dagster/retry_number`; one by hand copies our tags, but is a load of its own. The number counts all re-executions
    of the root run: above 1 one by hand may be among them, so that the parent is the load.
    """
    if "dagster/parent_run_id" not in tags:
        return tags.get(GOES_ON_WITH) or run_id
    if "dagster/retry_number" not in tags:
        return run_id
    if tags["dagster/retry_number"] != "1":
        return tags["dagster/parent_run_id"]
    return tags.get(GOES_ON_WITH) or tags["dagster/parent_run_id"]


def this_process() -> str:
    """The value of `PROCESS` for this process."""
    return f"{_host()} {os.getpid()} {_start(os.getpid())}"


def process_of(tags: Mapping[str, str]) -> str | None:
    """The process of the run with these tags; None if no command of this package executes it."""
    return tags.get(PROCESS) or tags.get(_PROCESS_BEFORE)


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether a command of this package executed the run with these tags, and its process has ended."""
    process = process_of(tags)
    return process is not None and is_gone(process)


def is_gone(process: str) -> bool:
    """Whether a process named by `this_process` has ended; False when it was on another host or in another container."""
    host, pid, start = process.rsplit(" ", 2)
    return host == _host() and _start(int(pid)) != start


def _host() -> str:
    """This host, boot and container: process ids mean nothing in another."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no /proc: macOS
        return socket.gethostname()


def _start(pid: int) -> str:
    """When the process started, in the kernel's ticks; empty when there is no such process (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        if Path("/proc/self").exists():
            return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"
