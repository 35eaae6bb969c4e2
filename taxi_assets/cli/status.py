"""`taxi-assets status`: what each sink has of each month, and what the next backfill would do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import dagster as dg

from taxi_assets.cli.backfill import examine
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.settings import Settings
from taxi_assets.status.decide import TO_LOAD, Cell, Decision, State, count, ranges

MEANINGS = {
    Cell.LOADED: "loaded",
    Cell.MISSING: "missing",
    Cell.STALE: "of an older version, code or rules",
    Cell.DIFFERS: "differs from the clean month",
    Cell.OTHER_SOURCE: "loaded from another source",
    Cell.GENERATED: "generated, not real trips",
}
UNPUBLISHED = "-"
_COLORS = {Cell.LOADED: "32", Cell.GENERATED: "36", Cell.MISSING: "33"}
"""ANSI colors by mark; the other marks are red."""


def status(settings: Settings, kind: TaxiKind, months: Sequence[Month], *, as_json: bool = False) -> int:
    """Print a grid of the months and sinks, or JSON, and return 0.

    Raises:
        TaxiError: the lake or a sink cannot be read.
    """
    with dg.DagsterInstance.get() as instance, examine(settings, kind, months, instance, quiet=as_json) as examined:
        records, results = examined
        decisions = records.decide(results.published, records.read(months))
    if as_json:
        print(json.dumps({"error": results.error, "months": [_as_json(decision) for decision in decisions]}, indent=1))
        return 0
    if results.error:
        print(f"{results.error} Of months that could not be checked, only what was loaded is shown.")
    print("\n".join(grid(decisions, color=sys.stdout.isatty() and "NO_COLOR" not in os.environ)), end="\n\n")
    groups: dict[tuple[int, str], list[Month]] = {}
    for decision in decisions:
        groups.setdefault((list(State).index(decision.state), decision.reason), []).append(decision.month)
    for (_, reason), members in sorted(groups.items()):
        print(f"  {len(members):>3}  {reason}: {ranges(members)}")
    print(f"\n{next_backfill(decisions)}")
    return 0


def grid(decisions: Sequence[Decision], *, color: bool = False) -> list[str]:
    """Return the lines of a grid: a row for each year, and for each sink twelve marks, one a month."""
    if not decisions:
        return []
    names = list(decisions[0].cells)
    marks = {(d.month, name): _mark(d, name) for d in decisions for name in names}
    width = max(12, *map(len, names))
    lines = [" ".join(["      ", *(name.ljust(width) for name in names)]).rstrip()]
    for year in sorted({decision.month.year for decision in decisions}):
        columns = []
        for name in names:
            year_marks = [marks.get((Month(year, number), name), " ") for number in range(1, 13)]
            columns.append("".join(_painted(mark) if color else mark for mark in year_marks) + " " * (width - 12))
        lines.append(" ".join([f"  {year}", *columns]).rstrip())
    seen = set(marks.values())
    legend = [f"{cell.value} {meaning}" for cell, meaning in MEANINGS.items() if cell.value in seen]
    return [*lines, "", "  " + ", ".join([*legend, *([f"{UNPUBLISHED} not published"] if UNPUBLISHED in seen else [])])]


def next_backfill(decisions: Sequence[Decision]) -> str:
    """Return what a backfill of these months would do."""
    to_load = [d for d in decisions if d.state in TO_LOAD or d.state is State.OTHER_SOURCE]
    if not to_load:
        return "A backfill of these months would load nothing."
    whole = [d.month for d in to_load if d.assets is None]
    parts = [d for d in to_load if d.assets is not None]
    texts = [f"load {count(len(whole))} from the source ({ranges(whole)})"] if whole else []
    if parts:
        assets = sorted({name for d in parts for name in d.assets or ()})
        texts.append(f"load {', '.join(assets)} of {count(len(parts))} ({ranges(d.month for d in parts)})")
    return f"A backfill of these months would {' and '.join(texts)}."


def _mark(decision: Decision, name: str) -> str:
    cell = decision.cells[name]
    not_published = decision.state is State.UNPUBLISHED and decision.reason == State.UNPUBLISHED.value
    return UNPUBLISHED if not_published else cell.value


def _painted(mark: str) -> str:
    if mark in (" ", UNPUBLISHED):
        return mark
    return f"\033[{_COLORS.get(Cell(mark), '31')}m{mark}\033[0m"


def _as_json(decision: Decision) -> dict[str, object]:
    return {
        "month": str(decision.month),
        "state": decision.state.name.lower(),
        "reason": decision.reason,
        "sinks": {name: cell.name.lower() for name, cell in decision.cells.items()},
        "to_load": None if decision.assets is None else sorted(decision.assets),
    }
