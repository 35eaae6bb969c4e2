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


def measure(folder: Path, most: int | None, repeat: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The graph and each sink alone at every size up to `most` rows."""
    from benchmarks.bench import once_in

    cases = [case for case in ours.CASES if case.name == "graph" or case.name.startswith("sink_")]
    lines = []
    for rows in [size for size in SIZES if size <= (most or SIZES[-1])] or [most]:
        space = Workspace(folder, rows)
        with space.ready():
            space.forget()
            once = once_in(space)
            once(Case("inputs", "", (sys.executable, "-m", "benchmarks.inputs")))
            for case in cases:
                samples = [once(case) for _ in range(repeat)]
                line = {
                    "case": case.name,
                    "rows": rows,
                    "seconds": round(statistics.median(sample.seconds for sample in samples), 3),
                    "peak": round(max(sample.peak for sample in samples), 1),
                }
                lines.append(line)
                say(f"{case.name:<24} {rows:>12,} {line['seconds']:8.2f} s {line['peak']:7.0f} MB")
    return {**report.machine(), "lines": sorted(lines, key=lambda line: (line["case"], line["rows"]))}
