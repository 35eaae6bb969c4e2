"""Measures the product against its floors and its peers, all in one run: `python -m benchmarks.bench`, or `make bench`.

What is measured is in `floors`, `ours` and `peers`; what is promised in `targets`; how a figure comes about is told on the
page that `--record` writes, docs/performance.md.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import signal
import sys
from importlib import import_module
from pathlib import Path

from benchmarks import floors, ours, report, targets
from benchmarks.measure import Case, CaseFailed, Sample, as_json, interleave
from benchmarks.peers.cases import cases as peer_cases
from benchmarks.workspace import DEFAULT_FOLDER, ROWS, Workspace

REPEAT = 5
MODES = ("scale", "backfill", "high_volume", "zone_ids", "exports")
"""Options that measure something else instead: each a module."""


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def chosen(cases: list[Case], only: list[str]) -> list[Case]:
    """The cases whose names match one of the patterns; all without any."""
    return [case for case in cases if not only or any(fnmatch.fnmatch(case.name, pattern) for pattern in only)]


def measure(space: Workspace, cases: list[Case], repeat: int) -> dict[str, list[Sample]]:
    """Every case `repeat` times."""
    with space.ready():
        space.run(Case("inputs", "", (sys.executable, "-m", "benchmarks.inputs")))
        return interleave(cases, repeat, space.run, say)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and record or compare when asked to; 1 when a ratio got worse."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, help=f"rows of the month (default {ROWS:,})")
    parser.add_argument("--repeat", type=int, help=f"rounds that count (default {REPEAT})")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a case, or a pattern (repeatable)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample here")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="where months, servers and peers are kept")
    parser.add_argument("--record", action="store_true", help="write docs/performance.md and benchmarks/recorded.json")
    parser.add_argument("--check", action="store_true", help="compare the ratios with the recorded ones (no peers)")
    parser.add_argument("--scale", action="store_true", help="time and memory from 0.1 to 15 million rows instead")
    parser.add_argument("--backfill", action="store_true", help="12 months by 1 and 2 workers instead")
    parser.add_argument("--high-volume", action="store_true", help="20 million high-volume trips beside yellow instead")
    parser.add_argument("--zone-ids", action="store_true", help="zone ids of a million coordinates instead")
    parser.add_argument("--exports", action="store_true", help="CSVs as other tools write them instead")
    parser.add_argument("--list", action="store_true", help="name the cases")
    asked = parser.parse_args(arguments)
    every = [*floors.CASES, *ours.CASES, *([] if asked.check else peer_cases(asked.folder / "peers"))]
    if asked.list:
        print("\n".join(f"{case.name:<26} {case.what}" for case in every))
        return 0
    recorded = report.recorded()
    name = next((mode for mode in MODES if getattr(asked, mode)), "main")
    if name in MODES:
        section = import_module(f"benchmarks.{name}").measure(asked.folder, asked.rows, asked.repeat or 1, say)
    else:
        rows = asked.rows or (recorded.get("main", {}).get("rows") if asked.check else None) or ROWS
        samples = measure(Workspace(asked.folder, rows), chosen(every, asked.only), asked.repeat or REPEAT)
        if asked.json:
            asked.json.write_text(json.dumps(as_json(samples), indent=1))
        section = report.main_section(samples, every, rows)
    print(report.SECTIONS[name](section))
    if asked.record:
        report.record(name, section)
    if asked.check:
        known = recorded.get("main", {}).get("ratios")
        if not known:
            say("Nothing is recorded to compare with; run: make bench-record")
            return 2
        worse = targets.regressions(section["ratios"], known)
        print("\n".join(["Worse than recorded:", *worse] if worse else ["No ratio is worse than recorded."]))
        return bool(worse)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped
    try:
        sys.exit(main())
    except CaseFailed as error:
        sys.exit(str(error))
