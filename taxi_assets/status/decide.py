"""Decide what to do about a month: pure functions over what is published and what was materialized.

Sensors, schedules, the deadline check and `taxi-assets backfill` all call `decide`, so that they agree. What was
materialized is read by `month_records`, what is published by `probing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from taxi_assets.core.month import Month

if TYPE_CHECKING:
    from taxi_assets.publisher.published import Published


class State(Enum):
    """The state of a month; the value is shown to people."""

    CURRENT = "up to date"
    RUNNING = "being loaded"
    UNPUBLISHED = "not published"
    MISSING = "published, not loaded yet"
    CHANGED = "republished since it was loaded"
    OTHER_SOURCE = "loaded from another source"
    OUTDATED = "loaded by an older code version"
    UNFINISHED = "incomplete"


TO_LOAD = (State.MISSING, State.CHANGED, State.UNFINISHED, State.OUTDATED)
"""States that automation acts on, most urgent first. OTHER_SOURCE may be intended by an operator: it is reported only."""


@dataclass(frozen=True)
class Materialized:
    """The latest materialization of a month of an asset: its storage id, the code version that made it, and whether every
    blocking check of the asset passed on it."""

    order: int
    code_version: str | None
    checked: bool


@dataclass(frozen=True)
class MonthRecord:
    """What the Dagster instance has recorded about a month.

    `version`, `location` and `size` (bytes) describe the published file that raw_trips was loaded from. `running` is the
    id of a run in progress. `failures` counts the failed runs of automation by `month_records.attempt`. `outdated` maps an
    asset to the reason why this version or these settings would materialize it with other columns.
    """

    materialized: Mapping[str, Materialized] = field(default_factory=dict)
    version: str | None = None
    location: str | None = None
    size: int | None = None
    running: str | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    outdated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The state of a month and the reason for it; `assets` are those to load again, None for all."""

    month: Month
    state: State
    reason: str
    assets: frozenset[str] | None = None

    def __str__(self) -> str:
        return f"{self.month}: {self.reason}"


Graph = Mapping[str, frozenset[str]]
"""The assets of a month, each with its upstream assets among them; upstream before downstream."""


def unfinished(
    graph: Graph,
    materialized: Mapping[str, Materialized],
    code: Mapping[str, str],
    outdated: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the assets that must be loaded again, each with the reason.

    `code` is the current code version of each asset, `outdated` is `MonthRecord.outdated`.
    """
    reasons: dict[str, str] = {}
    for asset, parents in graph.items():
        latest = materialized.get(asset)
        if latest is None:
            reasons[asset] = "was never materialized"
        elif latest.code_version != code[asset]:
            reasons[asset] = f"was materialized by code version {latest.code_version}, now {code[asset]}"
        elif outdated and asset in outdated:
            reasons[asset] = outdated[asset]
        elif newer := sorted(p for p in parents if p in materialized and materialized[p].order > latest.order):
            reasons[asset] = f"is older than {newer[0]}"
        elif upstream := sorted(parents & reasons.keys()):
            reasons[asset] = f"is downstream of {upstream[0]}"
        elif not latest.checked:
            reasons[asset] = "has a blocking check that did not pass"
    return reasons


def decide(
    month: Month,
    published: Published | None,
    record: MonthRecord,
    graph: Graph,
    code: Mapping[str, str],
    *,
    probed: bool = True,
) -> Decision:
    """Decide about a month. `probed=False`: whether it is published is unknown, so only its record counts."""
    if record.running:
        return Decision(month, State.RUNNING, f"run {record.running[:8]} is loading it")
    if not record.materialized:
        if published is None:
            return Decision(month, State.UNPUBLISHED, "not published" if probed else "never loaded")
        return Decision(month, State.MISSING, State.MISSING.value)
    if published and changed(published, record):
        if record.location is not None and record.location != published.location:
            return Decision(month, State.OTHER_SOURCE, f"loaded from {record.location}")
        return Decision(month, State.CHANGED, State.CHANGED.value)
    left = unfinished(graph, record.materialized, code, record.outdated)
    if not left:
        source = (
            "from the published version" if published else "no longer published" if probed else "source not checked"
        )
        return Decision(month, State.CURRENT, f"every asset is loaded by the current code, {source}")
    first = next(iter(left))
    old_code = all(
        asset in record.materialized and record.materialized[asset].code_version != code[asset] for asset in left
    )
    outdated = first in record.outdated or (old_code and first == next(iter(graph)))
    return Decision(
        month,
        State.OUTDATED if outdated else State.UNFINISHED,
        f"{first} {left[first]}",
        None if left.keys() == graph.keys() else frozenset(left),
    )


def changed(published: Published, record: MonthRecord) -> bool:
    """Return whether the published file differs from the loaded one: by version, or by size if there is no version."""
    if published.version is not None:
        return record.version != published.version
    return published.size is not None and record.size is not None and published.size != record.size


def by_urgency(decisions: Iterable[Decision]) -> list[Decision]:
    """Return the months that automation should load, most urgent state first, newest month first within a state."""
    due = [decision for decision in decisions if decision.state in TO_LOAD]
    return sorted(due, key=lambda d: (TO_LOAD.index(d.state), -d.month.year, -d.month.month))


def ranges(months: Iterable[Month]) -> str:
    """Format months for people: `2019-01 to 2019-03, 2020-05`."""
    runs: list[list[Month]] = []
    for month in sorted(months):
        if runs and runs[-1][-1].next == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def count(months: int) -> str:
    """Return `1 month`, `2 months`."""
    return f"{months} month{'s' * (months != 1)}"


def rotate(months: list[Month], after: str | None, limit: int) -> list[Month]:
    """Return the next `limit` months after `after`, starting over at the end, so that every month is reached."""
    start = next((i for i, month in enumerate(months) if after is None or str(month) > after), 0)
    return (months[start:] + months[:start])[:limit]
