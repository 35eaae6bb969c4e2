"""A backfill of twelve months by one worker and by two, and what Dagster costs a month in it."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.measure import Case
from benchmarks.workspace import ROWS, Workspace

MONTHS = tuple(f"2021-{month:02d}" for month in range(1, 13))
RUNS = ((1, 1), (1, 12), (2, 2), (2, 12))
"""Workers and months. A worker's start-up is the same in both runs of a pair, so their difference is months alone."""


def measure(folder: Path, rows: int | None, repeat: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Each run from nothing loaded; the published months are at hand."""
    from benchmarks.bench import once_in

    space = Workspace(folder, rows or ROWS)
    seconds: dict[tuple[int, int], float] = {}
    lines = []
    with space.ready(MONTHS):
        once = once_in(space)
        for jobs, months in RUNS:
            samples = []
            for _ in range(repeat):
                space.forget()
                samples.append(once(_backfill(jobs, months)))
            seconds[jobs, months] = statistics.median(sample.seconds for sample in samples)
            peak = max(sample.peak for sample in samples)
            lines.append({"jobs": jobs, "months": months, "seconds": seconds[jobs, months], "peak": peak})
            say(f"{jobs} workers {months:>3} months {seconds[jobs, months]:8.1f} s {peak:7.0f} MB")
        command = (sys.executable, "-m", "benchmarks.launch", "benchmarks.noop_graph", "--months", "6")
        orchestration = once(Case("noop", "", command, home="noop")).told["later"]
    return {
        **report.machine(),
        "rows": space.rows,
        "lines": lines,
        "month": month_seconds(seconds, 1),
        "gain": month_seconds(seconds, 1) / month_seconds(seconds, 2),
        "orchestration": orchestration,
    }


def month_seconds(seconds: dict[tuple[int, int], float], jobs: int) -> float:
    """Seconds a month once `jobs` workers are at work: what the months beyond their first ones took."""
    few, many = sorted(months for workers, months in seconds if workers == jobs)
    return (seconds[jobs, many] - seconds[jobs, few]) / (many - few)


def _backfill(jobs: int, months: int) -> Case:
    period = ("--from", MONTHS[0], "--to", MONTHS[months - 1], "--jobs", str(jobs))
    return Case(f"backfill {jobs}x{months}", "", (sys.executable, "-m", "taxi_assets", "backfill", *period))
