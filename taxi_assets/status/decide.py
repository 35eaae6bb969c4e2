"""What is to be done about a month: pure functions over what is published and what was materialized.

Sensors, schedules, the deadline check and `make backfill` all decide by `judge`, so that they agree. What is known of a
month comes from `month_records`, what is published from `probing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from taxi_assets.core.month import Month

if TYPE_CHECKING:
    from taxi_assets.publisher.source import Published


class State(Enum):
    """Where a month stands; the value is how people read it."""

    CURRENT = "up to date"
    RUNNING = "being loaded"
    UNPUBLISHED = "not published"
    MISSING = "published and not loaded"
    CHANGED = "published anew since it was loaded"
    OTHER_SOURCE = "loaded from another source"
    OUTDATED = "loaded by older code"
    UNFINISHED = "not finished"


TO_DO = (State.MISSING, State.CHANGED, State.UNFINISHED, State.OUTDATED)
"""States that automation acts on, most pressing first. OTHER_SOURCE is an operator's doing: told, not undone."""


@dataclass(frozen=True)
class Made:
    """The latest materialization of an asset's month: its place in the order of events, the code that made it, and
    whether every blocking check of the asset passed on it."""

    order: int
    code_version: str | None
    checked: bool


@dataclass(frozen=True)
class Known:
    """What the instance knows of a month.

    `version`, `location` and `size` (bytes) are of the published file that raw_trips was made from; `running` is the id
    of a run that is under way; `failures` counts by source version the runs that automation started in vain; `outdated`
    has a reason for each asset that this version or these settings would materialize with other columns.
    """

    made: Mapping[str, Made] = field(default_factory=dict)
    version: str | None = None
    location: str | None = None
    size: int | None = None
    running: str | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    outdated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """What is to be done about a month and why; `assets` are the unfinished ones, None for all."""

    month: Month
    state: State
    reason: str
    assets: frozenset[str] | None = None

    def __str__(self) -> str:
        return f"{self.month}: {self.reason}"


Graph = Mapping[str, frozenset[str]]
"""The assets of a month, each with those of them it is made from; parents before children."""


def unfinished(
    graph: Graph, made: Mapping[str, Made], code: Mapping[str, str], outdated: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The assets that are not as the present code and their upstream would have them, each with the reason.

    `code` is the code version of each asset, `outdated` is `Known.outdated`.
    """
    found: dict[str, str] = {}
    for asset, parents in graph.items():
        mine = made.get(asset)
        if mine is None:
            found[asset] = "was never materialized"
        elif mine.code_version != code[asset]:
            found[asset] = f"was made by code version {mine.code_version}, now {code[asset]}"
        elif outdated and asset in outdated:
            found[asset] = outdated[asset]
        elif late := sorted(parent for parent in parents if parent in made and made[parent].order > mine.order):
            found[asset] = f"is older than {late[0]}"
        elif upstream := sorted(parents & found.keys()):
            found[asset] = f"is made from {upstream[0]}"
        elif not mine.checked:
            found[asset] = "has a blocking check that did not pass"
    return found


def judge(
    month: Month,
    published: Published | None,
    known: Known,
    graph: Graph,
    code: Mapping[str, str],
    *,
    asked: bool = True,
) -> Judgement:
    """Decide about a month. `asked=False`: the publisher was not asked, so only what is here is judged."""
    if known.running:
        return Judgement(month, State.RUNNING, f"run {known.running[:8]} is loading it")
    if not known.made:
        if published is None:
            return Judgement(month, State.UNPUBLISHED, "it is not published" if asked else "it was never loaded")
        return Judgement(month, State.MISSING, "it is published and was never loaded")
    if published and changed(published, known):
        if known.location is not None and known.location != published.location:
            return Judgement(month, State.OTHER_SOURCE, f"it was loaded from {known.location}")
        return Judgement(month, State.CHANGED, "the publisher has replaced it since it was loaded")
    left = unfinished(graph, known.made, code, known.outdated)
    if not left:
        if published:
            seen = "from the version that is published now"
        else:
            seen = "and it is published no more" if asked else "and its source was not compared"
        return Judgement(month, State.CURRENT, f"every asset is loaded by this code, {seen}")
    first = next(iter(left))
    reason = f"{first} {left[first]}"
    older = all(known.made[asset].code_version != code[asset] for asset in left if asset in known.made)
    complete = left.keys() <= known.made.keys()
    return Judgement(
        month,
        State.OUTDATED
        if (older and complete and first == next(iter(graph))) or first in known.outdated
        else State.UNFINISHED,
        reason,
        None if left.keys() == graph.keys() else frozenset(left),
    )


def changed(published: Published, known: Known) -> bool:
    """Whether the published file is another than the loaded one: by version, or by size where there is no version."""
    if published.version is not None:
        return known.version != published.version
    return published.size is not None and known.size is not None and published.size != known.size


def by_urgency(judgements: Iterable[Judgement]) -> list[Judgement]:
    """What automation should do, most pressing first, within a state the newest month first."""
    due = [judgement for judgement in judgements if judgement.state in TO_DO]
    return sorted(due, key=lambda j: (TO_DO.index(j.state), -j.month.year, -j.month.month))


def ranges(months: Iterable[Month]) -> str:
    """Months for people: `2019-01 to 2019-03, 2020-05`."""
    runs: list[list[Month]] = []
    for month in sorted(months):
        if runs and runs[-1][-1].next == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def rotate(months: list[Month], after: str | None, count: int) -> list[Month]:
    """The next `count` months behind `after`, beginning again at the end; every month has its turn."""
    start = next((i for i, month in enumerate(months) if after is None or str(month) > after), 0)
    return (months[start:] + months[:start])[:count]
