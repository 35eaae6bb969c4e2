"""Random histories end well; and the simulator finds out when the product's decisions are broken on purpose."""

from __future__ import annotations

import dataclasses
import random

import pytest

from taxi_assets.automation.alerts import AlertState
from taxi_assets.core import manifest
from taxi_assets.status import decide as decisions
from taxi_assets.status import plan
from taxi_assets_tests.simulation.history import find_wrong, random_history, simulate

HISTORIES = 1_500
"""`make simulate` plays as many as it has time for."""


def test_random_histories_end_with_every_month_right_and_nothing_loaded_without_need():
    assert find_wrong(range(HISTORIES)) is None


def test_a_history_is_the_same_each_time():
    logs = [simulate(random_history(random.Random(7))).loads for _ in range(2)]
    assert logs[0] == logs[1] > 0


def no_change_is_seen(monkeypatch):
    monkeypatch.setattr(decisions, "changed", lambda published, loaded: False)


def copies_are_never_stale(monkeypatch):
    monkeypatch.setattr(manifest.Manifest, "stale", lambda self, current: [])


def rules_are_not_compared(monkeypatch):
    monkeypatch.setattr(manifest, "CONTENT", tuple(name for name in manifest.CONTENT if name != "rules"))


def the_lake_is_always_believed(monkeypatch):
    usual = decisions.reference
    monkeypatch.setattr(
        decisions, "reference", lambda published, held, assets: held.get(assets.clean) or usual(published, held, assets)
    )


def _with_due(monkeypatch, change):
    usual = decisions.due
    monkeypatch.setattr(decisions, "due", lambda *arguments: change(usual, *arguments))


def the_code_version_is_ignored(monkeypatch):
    def change(usual, current, record, assets, expected):
        return usual(current, record, assets, dataclasses.replace(expected, code_version=current.extra["code_version"]))

    _with_due(monkeypatch, change)


def audits_are_ignored(monkeypatch):
    _with_due(
        monkeypatch, lambda usual, current, record, *rest: usual(current, dataclasses.replace(record, failed={}), *rest)
    )


def a_missing_lake_is_forgotten(monkeypatch):
    def change(usual, current, record, assets, expected):
        state, reasons, cells = usual(current, record, assets, expected)
        if reasons.keys() & set(assets.outputs) and assets.clean in reasons:
            reasons = {name: why for name, why in reasons.items() if name in assets.outputs}
        return state, reasons, cells

    _with_due(monkeypatch, change)


def outdated_months_are_left(monkeypatch):
    monkeypatch.setattr(
        plan, "TO_LOAD", tuple(state for state in plan.TO_LOAD if state is not decisions.State.OUTDATED)
    )


def failed_runs_are_not_counted(monkeypatch):
    monkeypatch.setattr(plan, "ATTEMPTS", 10**9)


def rules_of_a_run_are_dropped(monkeypatch):
    usual = decisions.Decision
    monkeypatch.setattr(decisions, "Decision", lambda *arguments, **more: usual(*arguments[:5], **more))


def problems_are_reported_at_every_tick(monkeypatch):
    usual = AlertState.add

    def add(self, problem, repeat_seconds):
        usual(self, problem, 0)

    monkeypatch.setattr(AlertState, "add", add)


BREAKS = (
    no_change_is_seen,
    copies_are_never_stale,
    rules_are_not_compared,
    the_lake_is_always_believed,
    the_code_version_is_ignored,
    audits_are_ignored,
    a_missing_lake_is_forgotten,
    outdated_months_are_left,
    failed_runs_are_not_counted,
    rules_of_a_run_are_dropped,
    problems_are_reported_at_every_tick,
)


@pytest.mark.parametrize("break_it", BREAKS, ids=lambda each: each.__name__)
def test_the_simulator_finds_a_product_that_was_broken_on_purpose(break_it, monkeypatch):
    break_it(monkeypatch)
    assert find_wrong(range(HISTORIES)) is not None
