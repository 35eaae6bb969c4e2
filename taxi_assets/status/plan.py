"""What a tick of a sensor or schedule launches: pure functions over decisions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from taxi_assets.core.month import Month
from taxi_assets.status.decide import TO_LOAD, Decision, MonthRecord, State

ATTEMPTS = 3
"""Failed runs after which automation does not retry a month until its version or the code changes."""


@dataclass(frozen=True)
class Plan:
    """The months to launch now, those left for the next tick, and those that failed too often."""

    launch: Sequence[Decision] = ()
    later: Sequence[Decision] = ()
    failed: Sequence[Decision] = ()


def by_urgency(decisions: Iterable[Decision]) -> list[Decision]:
    """Return the months that automation should load, most urgent state first, newest month first within a state."""
    to_load = [decision for decision in decisions if decision.state in TO_LOAD]
    return sorted(to_load, key=lambda d: (TO_LOAD.index(d.state), -d.month.year, -d.month.month))


def reconcile(
    decisions: Iterable[Decision],
    recorded: Mapping[Month, MonthRecord],
    attempt: Callable[[Decision], str],
    max_runs: int,
) -> Plan:
    """Return what a schedule launches, by the decisions and the records that they are based on.

    `attempt` returns what a run of a month would try to load, by which failed runs are counted.
    """
    failed, remaining = [], []
    for decision in by_urgency(decisions):
        tried = recorded[decision.month].failures.get(attempt(decision), 0)
        (failed if tried >= ATTEMPTS else remaining).append(decision)
    return Plan(remaining[:max_runs], remaining[max_runs:], failed)


def new_and_changed(decisions: Iterable[Decision], newest: Collection[Month]) -> list[Decision]:
    """Return what the new-months sensor launches: republished months, and new ones among the newest."""
    return [d for d in decisions if d.state is State.CHANGED or (d.state is State.MISSING and d.month in newest)]
