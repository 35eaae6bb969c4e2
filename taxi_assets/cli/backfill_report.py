"""What `make backfill` prints: a line a month with the time left, and at the end what was loaded, what failed and why."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taxi_assets.core.month import Month
from taxi_assets.status.decide import Judgement, ranges


@dataclass(frozen=True)
class Task:
    """A month to be loaded: what of it and why, and how heavy it is (bytes, or rows where sizes are unknown)."""

    judgement: Judgement
    weight: float
    version: str | None

    @property
    def month(self) -> Month:
        """The month."""
        return self.judgement.month


@dataclass
class Report:
    """What became of each month, for the summary and the exit code."""

    total: int
    weight: float
    started: float = field(default_factory=time.monotonic)
    loaded: dict[Month, dict[str, Any]] = field(default_factory=dict)
    failed: dict[Month, str] = field(default_factory=dict)
    _done: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, task: Task, answer: dict[str, Any]) -> None:
        """Note a month's end and print its line."""
        with self._lock:
            self._done += task.weight
            if answer["failures"]:
                self.failed[task.month] = " ".join(answer["failures"])
                told = f"FAILED  {self.failed[task.month]}"
            else:
                self.loaded[task.month] = answer
                rows = f"{answer['rows']:>12,} rows" if answer["rows"] is not None else f"{'':>17}"
                told = f"loaded {rows} {answer['seconds']:>7.1f} s"
            ended = len(self.loaded) + len(self.failed)
            left = (time.monotonic() - self.started) / self._done * (self.weight - self._done) if self._done else 0
            eta = f", about {_duration(left)} left" if ended < self.total else ""
            print(f"[{ended:>{len(str(self.total))}}/{self.total}] {task.month} {told}{eta}", flush=True)


def summarize(report: Report, elsewhere: Sequence[Month], *, interrupted: bool) -> int:
    """Print what became of the months and return the exit code."""
    seconds = time.monotonic() - report.started
    rows = sum(answer["rows"] or 0 for answer in report.loaded.values())
    print()
    if report.loaded:
        slowest = max(report.loaded.items(), key=lambda item: item[1]["seconds"])
        print(f"  loaded      {len(report.loaded):>5} months, {rows:,} clean rows in {_duration(seconds)}")
        print(f"  slowest     {slowest[0]}, {slowest[1]['seconds']:.1f} s")
        print(f"  of these    {ranges(report.loaded)}")
    left = report.total - len(report.loaded) - len(report.failed)
    if report.failed:
        print(f"  failed      {len(report.failed):>5} months:")
        for month, sentence in sorted(report.failed.items()):
            print(f"    {month}  {sentence}")
    if elsewhere:
        print(f"  elsewhere   {ranges(elsewhere)}: being loaded by another run; run the command again when it is done")
    if left:
        print(f"  left        {left:>5} months; run the same command again to go on")
    if not report.total and not elsewhere:
        print("  nothing to do")
    if interrupted:
        return 130
    return 1 if report.failed or elsewhere or left else 0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
