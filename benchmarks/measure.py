"""Runs a case as a process and says what it cost; and the arithmetic on what was measured. Knows no case."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

MARK = "BENCH "
"""What a case prints before the JSON of its own measurements (`report`)."""
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Case:
    """Something measured. `inside`: its seconds are those it reports itself, without process start and imports."""

    name: str
    what: str
    command: tuple[str | Path, ...]
    inside: bool = False
    folder: str = ""
    """Folder of the publisher that it reads from; its own one holds months without unreadable lines."""
    home: str = "home"
    """Folder of the workspace that is DAGSTER_HOME and where it runs: dagster.yaml's paths count from there."""
    env: tuple[tuple[str, str], ...] = ()
    """What its environment has in place of the workspace's."""


@dataclass(frozen=True)
class Sample:
    """One run: seconds of wall clock, seconds of processor of the process tree, its peak resident memory in MB."""

    seconds: float
    cpu: float
    peak: float
    told: dict[str, float] = field(default_factory=dict)


class CaseFailed(Exception):
    """A case ended with an error; the text is the end of what it said."""


def report(**measured: float) -> None:
    """Tell the harness, from within a case, what was measured."""
    print(MARK + json.dumps(measured), flush=True)


def run(case: Case, env: Mapping[str, str], cwd: Path) -> Sample:
    """Run a case once.

    The peak is the largest sum, looked at every 50 ms, of the resident memory of the process and its children; of the
    process itself the kernel's own high-water mark counts. Servers that were there before are not in it.

    Raises:
        CaseFailed: it ended with an error.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in case.command],
        env=dict(env),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    ended, peak = threading.Event(), [0.0]
    watcher = threading.Thread(target=_watch, args=(process.pid, ended, peak))
    watcher.start()
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)  # Popen must not wait for it again
    ended.set()
    watcher.join()
    if process.returncode:
        raise CaseFailed(f"{case.name} ended with {process.returncode}:\n{said[-3000:]}")
    lines = [line.removeprefix(MARK) for line in said.splitlines() if line.startswith(MARK)]
    told = json.loads(lines[-1]) if lines else {}
    if case.inside and "seconds" not in told:
        raise CaseFailed(f"{case.name} reported no seconds:\n{said[-3000:]}")
    return Sample(
        told["seconds"] if case.inside else seconds,
        told["cpu"] if case.inside else usage.ru_utime + usage.ru_stime,
        peak[0],
        told,
    )


def _watch(pid: int, ended: threading.Event, peak: list[float]) -> None:
    while not ended.wait(SAMPLE_SECONDS):
        peak[0] = max(peak[0], tree_memory(pid))


def tree_memory(pid: int) -> float:
    """Resident memory in MB of a process and its children, without Postgres servers that it started."""
    total = 0.0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for member in family:
        try:
            if not member.name().startswith("postgres"):
                total += max(member.memory_info().rss, _high_water(pid) if member is root else 0)
        except psutil.Error:  # ended meanwhile
            continue
    return total / 1e6


def _high_water(pid: int) -> int:
    """Most resident memory in bytes that a process has had, where the kernel tells (not of wait4: there its parent's counts)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0][1]) * 1024 if lines else 0


def interleave(
    cases: Sequence[Case], repeat: int, once: Callable[[Case], Sample], tell: Callable[[str], None]
) -> dict[str, list[Sample]]:
    """Run every case `repeat` times, round by round, every other round backwards: what drifts, drifts for all.

    A round before the first warms up (files compiled, tables made) and does not count.

    Raises:
        CaseFailed: a case ended with an error; a comparison without it would pass unseen.
    """
    for case in cases:
        sample = once(case)
        tell(f"warm-up  {case.name:<26} {sample.seconds:8.2f} s  {sample.peak:7.0f} MB")
    samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
    for round_ in range(repeat):
        for case in cases if round_ % 2 == 0 else reversed(cases):
            sample = once(case)
            samples[case.name].append(sample)
            tell(f"{round_ + 1}/{repeat}  {case.name:<31} {sample.seconds:8.2f} s  {sample.peak:7.0f} MB")
    return samples


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """Median and spread of the seconds, median processor seconds, and the highest peak."""
    seconds = [sample.seconds for sample in samples]
    return {
        "median": round(statistics.median(seconds), 3),
        "least": round(min(seconds), 3),
        "most": round(max(seconds), 3),
        "cpu": round(statistics.median(sample.cpu for sample in samples), 3),
        "peak": round(max(sample.peak for sample in samples), 1),
    }


def paired(
    top: Sequence[str], bottom: Sequence[str], samples: Mapping[str, Sequence[Sample]],
    combine: Callable[[float, float], float],
) -> float | None:  # fmt: skip
    """The median over the rounds of `combine(sum of top, sum of bottom)`; None when a case was not measured."""
    if any(not samples.get(name.partition(".")[0]) for name in (*top, *bottom)):
        return None
    totals = [
        [sum(of) for of in zip(*(_seconds(samples, name) for name in names), strict=True)] for names in (top, bottom)
    ]
    return round(statistics.median(combine(above, below) for above, below in zip(*totals, strict=True)), 4)


def _seconds(samples: Mapping[str, Sequence[Sample]], name: str) -> list[float]:
    """A case's seconds in each round, or with `case.part` what it reported of a part."""
    case, _, part = name.partition(".")
    return [sample.told[part] if part else sample.seconds for sample in samples[case]]


def as_json(samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[dict]]:
    """Every sample, for `--json`."""
    return {name: [asdict(sample) for sample in of] for name, of in samples.items()}
