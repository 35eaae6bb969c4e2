"""A backfill of twelve months by one worker and by two, and what Dagster costs a month in it."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks import report
from benchmarks.measure import Case
from benchmarks.workspace import ROWS, Workspace

MONTHS = tuple(f"2021-{month:02d}" for month in range(1, 13))
RUNS = ((1, 1), (1, 12), (2, 2), (2, 12))
"""Workers and months. A worker's start-up is the same in both runs of a pair, so their difference is months alone."""


def measure(folder: Path, rows: int | None, repeat: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Each run from nothing loaded; the published months are at hand."""
    space = Workspace(folder, rows or ROWS)
    seconds: dict[tuple[int, int], float] = {}
    lines = []
    with space.ready(MONTHS):
        for jobs, months in RUNS:
            samples, busy = [], []
            for _ in range(repeat):
                space.forget()
                before = busy_seconds()
                samples.append(space.run(_backfill(jobs, months)))
                busy.append((busy_seconds() - before) / samples[-1].seconds)
            line = {
                "jobs": jobs,
                "months": months,
                "seconds": statistics.median(sample.seconds for sample in samples),
                "peak": max(sample.peak for sample in samples),
                "cores": statistics.median(busy),
            }
            seconds[jobs, months] = line["seconds"]
            lines.append(line)
            say(
                f"{jobs} workers {months:>3} months {line['seconds']:8.1f} s {line['peak']:7.0f} MB {line['cores']:.2f} cores"
            )
        command = (sys.executable, "-m", "benchmarks.launch", "benchmarks.noop_graph", "--months", "6")
        orchestration = space.run(Case("noop", "", command, home="noop")).told["later"]
    return {
        **report.machine(),
        "rows": space.rows,
        "lines": lines,
        "month": month_seconds(seconds, 1),
        "gain": month_seconds(seconds, 1) / month_seconds(seconds, 2),
        "orchestration": orchestration,
    }


def busy_seconds() -> float:
    """Seconds that this machine's cores have worked since it started, for whomever: the Postgres server is no child of ours."""
    spent = psutil.cpu_times()
    return sum(spent) - spent.idle - getattr(spent, "iowait", 0.0) - getattr(spent, "steal", 0.0)


def month_seconds(seconds: dict[tuple[int, int], float], jobs: int) -> float:
    """Seconds a month once `jobs` workers are at work: what the months beyond their first ones took."""
    few, many = sorted(months for workers, months in seconds if workers == jobs)
    return (seconds[jobs, many] - seconds[jobs, few]) / (many - few)


def _backfill(jobs: int, months: int) -> Case:
    period = ("--from", MONTHS[0], "--to", MONTHS[months - 1], "--jobs", str(jobs))
    return Case(f"backfill {jobs}x{months}", "", (sys.executable, "-m", "taxi_assets", "backfill", *period))
