"""Decide what to do about a month: pure functions over what is published and what the lake and the sinks record of it.

Sensors, schedules, the deadline check, `taxi-assets status` and `taxi-assets backfill` all call `decide`, so that they agree.
The records are read by `manifests`, what is published by `probing`; Dagster's event log only says what is running and what
failed (`run_history`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal

from taxi_assets.core.manifest import Manifest
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
    OUTDATED = "loaded by an older code version or other rules"
    UNFINISHED = "incomplete"


TO_LOAD = (State.MISSING, State.CHANGED, State.UNFINISHED, State.OUTDATED)
"""States that automation acts on, most urgent first. OTHER_SOURCE may be intended by an operator: it is reported only."""


class Cell(Enum):
    """The state of a month in one sink; the value is its mark in a grid."""

    LOADED = "+"
    MISSING = "."
    STALE = "s"
    DIFFERS = "d"
    OTHER_SOURCE = "o"
    GENERATED = "g"


@dataclass(frozen=True)
class Assets:
    """The names of a dataset's assets, upstream first: the three of the lake, the sinks, which have the clean month, and what
    is derived from it (the summary, the report)."""

    raw: str
    clean: str
    rejected: str
    sinks: tuple[str, ...]
    derived: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The sinks and what is derived."""
        return (*self.sinks, *self.derived)

    @property
    def all(self) -> tuple[str, ...]:
        """Every asset."""
        return (self.raw, self.clean, self.rejected, *self.outputs)


@dataclass(frozen=True)
class Expected:
    """What this version and these settings would load.

    `outdated` returns why a clean month, given its manifest, lacks columns or was cleaned by other rules; None if it does
    not. `repair`: what an audit found to differ is loaded again.
    """

    code_version: str
    outdated: Callable[[Manifest], str | None] = lambda _: None
    repair: bool = False


@dataclass(frozen=True)
class MonthRecord:
    """What is recorded of a month.

    `manifests` are those of the lake and the sinks, by asset. `running` is the id of a run in progress, `failures` counts the
    failed runs of automation by `run_history.attempt`, and `failed` are the assets whose last check failed, in a run or in
    an audit.
    """

    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    running: str | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, Literal["run", "audit"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The state of a month and the reason for it.

    `assets` are those to load again, None for all. `cells` are the states of the sinks. `rules` are the cleaning rules of a
    month that was cleaned by others than the settings', on purpose: it keeps them when it is loaded again.
    """

    month: Month
    state: State
    reason: str
    assets: frozenset[str] | None = None
    cells: Mapping[str, Cell] = field(default_factory=dict)
    rules: Mapping[str, object] | None = None

    def __str__(self) -> str:
        return f"{self.month}: {self.reason}"


def decide(
    month: Month,
    published: Published | None,
    record: MonthRecord,
    assets: Assets,
    expected: Expected,
    *,
    probed: bool = True,
) -> Decision:
    """Decide about a month. `probed=False`: whether it is published is unknown, so only its record counts."""
    manifests = record.manifests
    if not manifests and not record.running:
        nothing = State.MISSING if published else State.UNPUBLISHED
        reason = nothing.value if published or probed else "never loaded"
        return Decision(month, nothing, reason, cells=_none(assets))
    current = reference(published, manifests, assets)
    state, reasons, cells = due(current, record, assets, expected) if current else (State.MISSING, {}, _none(assets))
    rules = current.extra.get("rules") if current and current.extra.get("own_rules") else None

    def decision(state: State, reason: str, to_load: Collection[str] | None = None) -> Decision:
        return Decision(month, state, reason, None if to_load is None else frozenset(to_load), cells, rules)

    if record.running:
        return decision(State.RUNNING, f"run {record.running[:8]} is loading it")
    loaded = manifests.get(assets.raw) or current
    if published and (current is None or changed(published, current)):
        if loaded and not changed(published, loaded):
            if (made_by := loaded.extra.get("code_version")) != expected.code_version:
                return decision(State.OUTDATED, f"{assets.raw} {_older_code(made_by, expected)}")
            return decision(
                State.UNFINISHED, f"{assets.clean} is older than {assets.raw}", set(assets.all) - {assets.raw}
            )
        location = loaded.extra.get("location") if loaded else None
        if location is not None and location != published.location:
            cells = {name: cell if cell is Cell.MISSING else Cell.OTHER_SOURCE for name, cell in cells.items()}
            return decision(State.OTHER_SOURCE, f"loaded from {location}")
        cells = {name: cell if cell is Cell.MISSING else Cell.STALE for name, cell in cells.items()}
        return decision(State.CHANGED, State.CHANGED.value)
    source = "from the published version" if published else "no longer published" if probed else "source not checked"
    if current is None:
        if assets.raw not in manifests:
            return decision(State.UNPUBLISHED, f"loaded in part, {source}")
        return decision(State.UNFINISHED, f"{assets.clean} {_NOT_IN_LAKE}", set(assets.all) - {assets.raw})
    if not reasons:
        differing = [name for name in assets.all if name in record.failed]
        found = f"; an audit found that {', '.join(differing)} differs from the lake" if differing else ""
        return decision(State.CURRENT, f"every asset is loaded by the current code, {source}{found}")
    first = next(name for name, why in reasons.items() if why != _NOT_IN_LAKE)
    to_load = None if reasons.keys() >= set(assets.all) else reasons.keys()
    return decision(state, f"{first} {reasons[first]}", to_load)


def reference(published: Published | None, manifests: Mapping[str, Manifest], assets: Assets) -> Manifest | None:
    """Return the manifest of the clean month that the sinks should have; None if there is no clean month.

    Of those that are of the published version, as far as it is known, it is the one that was cleaned last: another machine,
    with a lake of its own, may have loaded the sinks. The lake's is preferred to a sink's copy of it.
    """
    lake = manifests.get(assets.clean)
    found = [manifests[name] for name in assets.sinks if name in manifests and "version" in manifests[name].extra]
    candidates = [*([lake] if lake else []), *found]
    fresh = [each for each in candidates if not (published and changed(published, each))]
    if not candidates:
        return None
    newest = max(
        fresh or candidates, key=lambda each: each.extra.get("cleaned_at") or each.extra.get("loaded_at") or ""
    )
    return lake if lake and not lake.stale(newest) and not newest.stale(lake) else newest


def _older_code(made_by: object, expected: Expected) -> str:
    return f"was loaded by code version {made_by}, now {expected.code_version}"


_NOT_IN_LAKE = "is not in the lake"


def due(
    current: Manifest, record: MonthRecord, assets: Assets, expected: Expected
) -> tuple[State, dict[str, str], dict[str, Cell]]:
    """Return OUTDATED or UNFINISHED, the assets that must be loaded, each with the reason, and the state of each sink.

    `current` is the manifest of the clean month that the sinks should have.
    """
    manifests, reasons, state = record.manifests, dict[str, str](), State.UNFINISHED
    failed = {name for name, by in record.failed.items() if by == "run" or expected.repair}
    compared = {name: _compare(manifests.get(name), current, derived=name in assets.derived) for name in assets.outputs}
    cells = {
        name: Cell.DIFFERS if cell is Cell.LOADED and name in record.failed else cell
        for name, (cell, _) in compared.items()
    }
    raw, clean = manifests.get(assets.raw), manifests.get(assets.clean)
    lake_is_current = clean is not None and not clean.stale(current) and assets.rejected in manifests
    raw_is_current = raw is not None and not raw.stale(current)
    if raw and current is clean and raw.stale(clean) and raw.extra.get("code_version") == expected.code_version:
        reasons = dict.fromkeys(set(assets.all) - {assets.raw}, f"is older than {assets.raw}")
    elif (made_by := current.extra.get("code_version")) not in (None, expected.code_version):
        state = State.OUTDATED
        reasons = dict.fromkeys(assets.all, _older_code(made_by, expected))
    elif (why := expected.outdated(current)) or failed & {assets.raw, assets.clean}:
        state = State.OUTDATED if why else State.UNFINISHED
        name = assets.raw if assets.raw in failed else assets.clean
        reasons = dict.fromkeys(assets.all, f"is downstream of {name}") | {name: why or "has a check that failed"}
        if name == assets.clean and raw_is_current:
            del reasons[assets.raw]
    else:
        for name, cell in cells.items():
            if cell is not Cell.LOADED and (name in failed or name not in record.failed):
                reasons[name] = compared[name][1]
        if reasons and not lake_is_current:
            reasons |= dict.fromkeys((assets.clean, assets.rejected), _NOT_IN_LAKE)
            if not raw_is_current:
                reasons[assets.raw] = _NOT_IN_LAKE
    if reasons:
        cells = {name: Cell.STALE if cell is Cell.LOADED and name in reasons else cell for name, cell in cells.items()}
    if current.extra.get("generated"):
        cells = {name: Cell.GENERATED if cell is Cell.LOADED else cell for name, cell in cells.items()}
    return state, {name: reasons[name] for name in assets.all if name in reasons}, cells


def _compare(found: Manifest | None, current: Manifest, *, derived: bool) -> tuple[Cell, str]:
    """Return the state of a sink that records `found` of a month whose clean trips are `current`, and why it is loaded again.

    What is `derived` from the month has rows and sums of its own.
    """
    if found is None:
        return Cell.MISSING, "does not have it"
    if stale := found.stale(current):
        cell = Cell.GENERATED if found.extra.get("generated") else Cell.STALE
        return cell, f"has another {' and '.join(stale).replace('_', ' ')}"
    if found.rows < 0:
        return Cell.DIFFERS, "is not the same in every place"
    if not derived and found.rows != current.rows:
        return Cell.DIFFERS, f"has {found.rows:,} rows of {current.rows:,}"
    if not derived and found.contradicts(current):
        return Cell.DIFFERS, "has other sums"
    return Cell.LOADED, "has a check that failed"


def _none(assets: Assets) -> dict[str, Cell]:
    return dict.fromkeys(assets.outputs, Cell.MISSING)


def changed(published: Published, loaded: Manifest) -> bool:
    """Return whether the published file differs from the loaded one: by version, or by size if there is no version."""
    if published.version is not None:
        return loaded.extra.get("version") != published.version
    size = loaded.extra.get("published_bytes")
    return published.size is not None and size is not None and published.size != size


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
