"""From 0.1 to 15 million rows: whether time per row is flat or falling, and memory flat, in the graph and in every sink."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import ours, report
from benchmarks.measure import Case
from benchmarks.workspace import ROWS, Workspace

SIZES = (100_000, ROWS, 5_000_000, 15_000_000)
"""The largest is a month of 2014 (13.8 million on average, 15.4 at most)."""
WIRED = (ROWS, SIZES[-1])
"""Sizes that are measured over the wire, too."""


def measure(folder: Path, most: int | None, repeat: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The graph, the whole job and each sink alone at every size up to `most` rows, on this machine's disk and over the wire."""
    cases = [case for case in ours.CASES if case.name in ("graph", "job") or case.name.startswith("sink_")]
    lines = []

    def measured(space: Workspace, case: Case, name: str) -> None:
        samples = [space.run(case) for _ in range(repeat)]
        seconds, peak = statistics.median(sample.seconds for sample in samples), max(sample.peak for sample in samples)
        lines.append({"case": name, "rows": space.rows, "seconds": round(seconds, 3), "peak": round(peak, 1)})
        say(f"{name:<36} {space.rows:>12,} {seconds:8.2f} s {peak:7.0f} MB")

    most = most or SIZES[-1]
    for rows in [size for size in SIZES if size <= most] or [most]:
        space = Workspace(folder, rows)
        with space.ready():
            space.forget()
            space.run(Case("inputs", "", (sys.executable, "-m", "benchmarks.inputs")))
            for case in cases:
                measured(space, case, case.name)
            if rows in WIRED:
                space.forget()
                with space.wired():
                    for case in cases:
                        if case.name != "sink_postgres":  # the same server by the same protocol either way
                            measured(space, case, f"{case.name}, over the wire")
    return {**report.machine(), "lines": sorted(lines, key=lambda line: (line["case"], line["rows"]))}
