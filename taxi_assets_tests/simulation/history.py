"""Random histories of the simulated world, and what must be true of each: during it, and after enough quiet ticks."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taxi_assets.core.month import Month
from taxi_assets.status.decide import TO_LOAD, Decision, State, decide
from taxi_assets.status.plan import new_and_changed, reconcile
from taxi_assets_tests.simulation.model import (
    ASSETS,
    DAY,
    DERIVED,
    LAKE,
    MONTHS,
    NEWEST,
    SINKS,
    Failed,
    Machine,
    World,
    finish,
    load,
    run,
)

STEPS = 3 + len(SINKS) + len(DERIVED)
MAX_RUNS = 2
QUIET_ROUNDS = 16
MAX_FAILURES = 3


class Wrong(AssertionError):
    """A history ended wrongly, or something happened in it that must not happen."""


@dataclass(frozen=True)
class Event:
    """Something that happens: its name, the machine and the month that it concerns, and a number that it draws from."""

    name: str
    machine: int
    month: Month
    number: int

    def __str__(self) -> str:
        return f"{self.name}({self.machine}, {self.month}, {self.number})"


EVENTS = {
    "publish": 8, "withdraw": 1, "silence": 1, "refuse": 1, "sensor": 10, "reconcile": 10, "audit": 3, "load": 2,
    "load_with_rules": 1, "backfill": 2, "race": 2, "new_code": 1, "new_rules": 1, "forget": 1, "lose_lake": 1,
    "move_sink": 1, "foreign_write": 2, "delete_month": 1, "sensors_off_or_on": 1, "wait": 2,
}  # fmt: skip
"""How often each event happens, relative to the others."""


def random_history(chance: random.Random, length: int = 24) -> list[Event]:
    """Draw a history."""
    names = chance.choices(list(EVENTS), EVENTS.values(), k=length)
    return [Event(name, chance.randrange(2), chance.choice(MONTHS), chance.randrange(1000)) for name in names]


def simulate(history: Sequence[Event], *, etag: bool = True, world: World | None = None) -> World:
    """Play a history, then quiet ticks, and check the world, which is a model by default.

    Raises:
        Wrong: with what is wrong.
    """
    world = world or World(etag=etag)
    for event in history:
        _play(world, event)
        world.clock += 600
    world.answers, world.refuses = True, False
    for machine in world.machines:
        machine.on = True
    for settled in range(QUIET_ROUNDS):
        before = world.loads
        for machine in world.machines:
            for tick in (_sensor, _reconcile, _audit, _reconcile):
                tick(world, machine, None)
            if settled == 2:
                _load_what_failed_too_often(world, machine)
        world.clock += DAY
        if world.loads == before and settled > 2:
            break
    else:
        raise Wrong("the world does not come to rest: months are loaded again and again")
    _check(world)
    return world


def _check(world: World) -> None:
    for month in MONTHS:
        if month in world.versions:
            contents = {sink: (held := world.sinks[sink].get(month)) and held.content for sink in (*SINKS, *DERIVED)}
            wrong = {
                sink: content for sink, content in contents.items() if not content or not world.is_right(month, content)
            }
            if wrong or len(set(contents.values())) > 1:
                raise Wrong(f"{month} is {contents}, published is version {world.versions[month]}, code {world.code}")


def _decisions(world: World, machine: Machine) -> tuple[list[Decision], dict]:
    recorded = {month: world.record(machine, month) for month in MONTHS}
    published = {month: world.published(month) for month in MONTHS} if world.answers else {}
    expected = world.expectation()
    return [
        decide(month, published.get(month), record, ASSETS, expected, probed=month in published)
        for month, record in recorded.items()
    ], recorded


def _launch(world: World, machine: Machine, decision: Decision, stop_after: int | None) -> None:
    month = decision.month
    audited = machine.failed_checks.get(month)  # another machine may have repaired it since
    if not audited and not world.needs(machine, month):
        raise Wrong(f"{decision} is loaded without need")
    before = _own_rules(world, month)
    run(world, machine, month, decision, stop_after)
    if before and (after := world.sinks["object"].get(month)) and after.content.rules not in before:
        raise Wrong(f"{decision}: the month had the rules {before} on purpose, and lost them")


def _own_rules(world: World, month: Month) -> set[int]:
    """The rules that the month has in every sink and was given on purpose; none if it has others anywhere."""
    rules = {held.content.rules if (held := world.sinks[sink].get(month)) else None for sink in SINKS}
    lakes = {held.content.rules for machine in world.machines if (held := machine.lake["clean"].get(month))}
    return {rule for rule in rules if rule is not None} if rules | lakes <= world.own_rules.get(month, set()) else set()


def _stop(number: int | None) -> int | None:
    """After how many steps a run is killed: one in three is."""
    return None if number is None or number % 3 else 1 + number // 3 % STEPS


def _sensor(world: World, machine: Machine, number: int | None) -> None:
    if not machine.on or not world.answers:
        return
    decisions, recorded = _decisions(world, machine)
    for decision in new_and_changed(decisions, NEWEST):
        loaded = {manifest.extra.get("version") for manifest in recorded[decision.month].manifests.values()}
        key = f"{decision.month}-{sorted(map(str, loaded))}->{world.attempt(decision.month)}"
        if key not in machine.run_keys:
            machine.run_keys.add(key)
            _launch(world, machine, decision, _stop(number))
    _alert(world, machine)


def _reconcile(world: World, machine: Machine, number: int | None) -> None:
    if not machine.on:
        return
    decisions, recorded = _decisions(world, machine)
    plan = reconcile(decisions, recorded, lambda decision: world.attempt(decision.month), MAX_RUNS)
    for decision in plan.launch:
        if machine.failures.get(decision.month, {}).get(world.attempt(decision.month), 0) >= MAX_FAILURES:
            raise Wrong(f"{decision} is tried for ever")
        _launch(world, machine, decision, _stop(number))
    _alert(world, machine)


def _load_what_failed_too_often(world: World, machine: Machine) -> None:
    """Load, as an operator does, the months that the reconciliation lists as not retried."""
    decisions, recorded = _decisions(world, machine)
    for decision in reconcile(decisions, recorded, lambda decision: world.attempt(decision.month), MAX_RUNS).failed:
        _launch(world, machine, decision, None)


def _backfill(world: World, machine: Machine, number: int | None) -> None:
    decisions, _ = _decisions(world, machine)
    for decision in decisions:
        if decision.state in TO_LOAD or decision.state is State.OTHER_SOURCE:
            _launch(world, machine, decision, _stop(number))


def _audit(world: World, machine: Machine, _: int | None) -> None:
    for month in MONTHS:
        failed = machine.failed_checks.setdefault(month, {})
        for sink in SINKS:
            if held := world.sinks[sink].get(month):
                failed.pop(sink, None)
                if held.content.foreign:
                    failed[sink] = "audit"


def _alert(world: World, machine: Machine) -> None:
    """Send what is due: no problem is reported twice within a day unless it was resolved in between."""
    world.clock += 1
    causes = {problem.cause for problem in machine.alerts.problems.values()}
    messages = machine.alerts.due(world.clock, "")
    if len(messages) > len(causes):
        raise Wrong(f"{len(messages)} alerts for {len(causes)} causes")
    for key, problem in machine.alerts.problems.items():
        if problem.reported == world.clock:
            if world.clock - machine.sent.get(key, -DAY) < DAY:
                raise Wrong(f"{key} was reported twice within a day")
            machine.sent[key] = world.clock


def _race(world: World, event: Event) -> None:
    """Both machines load the month at the same time."""
    chance = random.Random(event.number)
    runs: dict[int, Iterator[str]] = {
        index: load(world, machine, event.month, None) for index, machine in enumerate(world.machines)
    }
    while runs:
        index = chance.choice(list(runs))
        machine = world.machines[index]
        try:
            next(runs[index])
            if chance.random() < 0.05:
                finish(world, machine, event.month, f"{event.month}: killed")
                del runs[index]
        except StopIteration:
            finish(world, machine, event.month, "")
            del runs[index]
        except Failed as failed:
            finish(world, machine, event.month, str(failed))
            del runs[index]


def _play(world: World, event: Event) -> None:
    machine, month, number = world.machines[event.machine], event.month, event.number
    sink = (*SINKS, *DERIVED)[number % (len(SINKS) + len(DERIVED))]
    match event.name:
        case "publish":
            world.versions[month] = max(world.versions.get(month, 0), _newest(world, month)) + 1
        case "withdraw":
            world.versions.pop(month, None)
        case "silence":
            world.answers = not world.answers
        case "refuse":
            world.refuses = not world.refuses
        case "sensor":
            _sensor(world, machine, number)
        case "reconcile":
            _reconcile(world, machine, number)
        case "audit":
            _audit(world, machine, number)
        case "load":
            run(world, machine, month, None, _stop(number))
        case "load_with_rules":
            rules = 5 + number % 4
            world.own_rules.setdefault(month, set()).add(rules)
            run(world, machine, month, None, _stop(number), own_rules=rules)
        case "backfill":
            _backfill(world, machine, number)
        case "race":
            _race(world, event)
        case "new_code":
            world.code += 1
        case "new_rules":
            world.rules = (world.rules + 1) % 4
        case "forget":
            machine.forget()
        case "lose_lake":
            machine.lake = {name: {} for name in LAKE}
        case "move_sink":
            world.move(sink)
        case "foreign_write":
            world.tamper(sink, month)
        case "delete_month":
            world.delete(sink, month)
        case "sensors_off_or_on":
            machine.on = not machine.on
        case "wait":
            world.clock += number / 100 * DAY


def _newest(world: World, month: Month) -> int:
    """The newest version of the month that is loaded anywhere: a month that was withdrawn is published as a new version."""
    places = [*world.sinks.values(), *(machine.lake["raw"] for machine in world.machines)]
    return max((held.content.version for place in places if (held := place.get(month))), default=0)


def shrink(history: Sequence[Event], *, etag: bool) -> list[Event]:
    """Leave out events while the history still ends wrongly."""
    smallest = list(history)
    shorter = True
    while shorter:
        shorter = False
        for index in range(len(smallest)):
            candidate = [*smallest[:index], *smallest[index + 1 :]]
            try:
                simulate(candidate, etag=etag)
            except Wrong:
                smallest, shorter = candidate, True
                break
    return smallest


def find_wrong(seeds: Sequence[int]) -> str | None:
    """Return a description of the first seed whose history ends wrongly, with the history made as short as possible."""
    for seed in seeds:
        chance = random.Random(seed)
        etag, history = chance.random() < 0.8, random_history(chance)
        try:
            simulate(history, etag=etag)
        except Wrong:
            smallest = shrink(history, etag=etag)
            try:
                simulate(smallest, etag=etag)
            except Wrong as wrong:
                events = "\n  ".join(map(str, smallest))
                return f"seed {seed} (etag={etag}): {wrong}\n  {events}"
    return None
