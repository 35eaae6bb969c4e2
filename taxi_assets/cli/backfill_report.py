"""The output of `taxi-assets backfill`: a line per month with the remaining time, then a summary."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taxi_assets.core.month import Month
from taxi_assets.publisher.published import Published
from taxi_assets.status.decide import Decision, count, ranges


@dataclass(frozen=True)
class Task:
    """A month to load, with its weight (bytes, or millions of rows if sizes are unknown), and what is published of it."""

    decision: Decision
    weight: float
    version: str | None
    published: Published | None = None

    @property
    def month(self) -> Month:
        """The month."""
        return self.decision.month


@dataclass
class Report:
    """The outcome of each month."""

    total: int
    weight: float
    started: float = field(default_factory=time.monotonic)
    loaded: dict[Month, dict[str, Any]] = field(default_factory=dict)
    failed: dict[Month, str] = field(default_factory=dict)
    _done: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, task: Task, result: dict[str, Any]) -> None:
        """Record the result of a month (`rows`, `seconds`, `failures`, and with these `outcome`) and print its line."""
        with self._lock:
            self._done += task.weight
            if result["failures"]:
                self.failed[task.month] = " ".join([f"It {result['outcome']}.", *result["failures"]])
                text = f"FAILED  {self.failed[task.month]}"
            else:
                self.loaded[task.month] = result
                rows = f"{result['rows']:>12,} rows" if result["rows"] is not None else f"{'':>17}"
                text = f"loaded {rows} {result['seconds']:>7.1f} s"
            finished, elapsed = len(self.loaded) + len(self.failed), time.monotonic() - self.started
            if finished < self.total and self._done:
                text += f", about {_duration(elapsed / self._done * (self.weight - self._done))} remaining"
            print(f"[{finished:>{len(str(self.total))}}/{self.total}] {task.month} {text}", flush=True)


def summarize(report: Report, other_runs: Sequence[Month], *, interrupted: bool) -> int:
    """Print the outcome and return the exit code. `other_runs` are months that other runs are loading."""
    rows = sum(result["rows"] or 0 for result in report.loaded.values())
    remaining = report.total - len(report.loaded) - len(report.failed)
    print()
    if report.loaded:
        slowest, result = max(report.loaded.items(), key=lambda item: item[1]["seconds"])
        print(
            f"  loaded      {count(len(report.loaded))} in {_duration(time.monotonic() - report.started)}, {rows:,} clean rows"
        )
        print(f"  months      {ranges(report.loaded)}")
        print(f"  slowest     {slowest}, {result['seconds']:.1f} s")
    if report.failed:
        print(f"  failed      {count(len(report.failed))}:")
        for month, message in sorted(report.failed.items()):
            print(f"    {month}  {message}")
    if other_runs:
        print(f"  other runs  {ranges(other_runs)}: being loaded; run this command again when they have finished")
    if remaining:
        print(f"  remaining   {count(remaining)}; run it again to resume")
    if not report.total and not other_runs:
        print("  nothing to do")
    if interrupted:
        return 130
    return 1 if report.failed or other_runs or remaining else 0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
