"""Read the outcomes of runs and of the ticks of sensors and schedules: the problems, each with a message, and what succeeded."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import dagster as dg

from taxi_assets.assets.month_check import CAUSES
from taxi_assets.core.failures import failure_sentence
from taxi_assets.core.month import Month

MAX_TICKS = 20
"""Newest ticks of a sensor or schedule that are read: several times as many as there are between two ticks of `alerts`."""
_MARKED_FAILED = "This run has been marked as failed from outside"
"""Dagster's message for a run whose process was killed or never started."""
_VARIABLE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8,}|[0-9]+")
"""What of a message differs between two problems with the same cause: ids and numbers."""
_Event = dg.DagsterEventType
_STEPS = {_Event.STEP_START, _Event.STEP_SUCCESS, _Event.STEP_FAILURE, _Event.STEP_SKIPPED}


@dataclass
class Problem:
    """A failed step, check, sensor or schedule (`what`): since when, how often, and when it was reported (0: not yet).

    `month` is the month or the range of months for people, empty where there is none. `left` are those of its months in which
    `what` has not succeeded since. `page` is a page of the UI other than the run's. A `warning` belongs to no month, is
    reported once and never recovers: a new column, an unknown code.
    """

    month: str
    what: str
    message: str
    run_id: str
    since: float
    count: int = 1
    reported: float = 0.0
    warning: bool = False
    left: list[str] = field(default_factory=list)
    page: str = ""

    def __post_init__(self) -> None:
        """One month is its own range."""
        self.left = self.left or [self.month]

    @property
    def key(self) -> str:
        """Identifies the problem."""
        return f"{self.month}|{self.cause}"

    @property
    def cause(self) -> str:
        """Equal for the same problem of several months: the message without numbers."""
        return self.what if self.warning else f"{self.what}|{_VARIABLE.sub('#', self.message)}"


@dataclass(frozen=True)
class CodeLocation:
    """A code location: its name, unknown (None) in a test, and the repository it has loaded."""

    name: str | None
    repository: dg.RepositoryDefinition

    def owns(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
        """Return whether a run is of this code location.

        A run that was executed in the process that began it (`make run`) names no location: its job and assets decide.
        """
        if origin := run.remote_job_origin:
            return self.defines(origin.repository_origin.get_selector())
        if run.job_name not in self.repository.job_names:
            return False
        planned = (
            entry.dagster_event
            for entry in instance.all_logs(run.run_id, of_type={_Event.ASSET_MATERIALIZATION_PLANNED})
        )
        assets = {*(run.asset_selection or ()), *(event.asset_key for event in planned if event)}
        return not assets or not assets.isdisjoint(self.repository.asset_graph.get_all_asset_keys())

    def defines(self, repository: Any) -> bool:
        """Return whether Dagster's selector of a repository selects this one."""
        return (repository.location_name, repository.repository_name) == (self.name, self.repository.name)


def months_of(tags: Mapping[str, str]) -> list[str]:
    """Return the months of a run, or its days if its assets have a partition per day; an empty text if it has neither."""
    if partition := tags.get("dagster/partition"):
        return [partition.removesuffix("-01")]
    start, end = (tags.get(f"dagster/asset_partition_range_{edge}", "") for edge in ("start", "end"))
    if not start or not end:
        return [""]
    if start.endswith("-01") and end.endswith("-01"):
        return [str(month) for month in Month.parse(start).through(Month.parse(end))]
    first, last = dt.date.fromisoformat(start), dt.date.fromisoformat(end)
    return [str(first + dt.timedelta(days=day)) for day in range((last - first).days + 1)]


def outcomes(
    instance: dg.DagsterInstance, run: dg.DagsterRun, finished: float
) -> tuple[list[Problem], list[tuple[list[str], str]]]:
    """Return the problems of a finished run, and the steps and checks that succeeded, each with its months."""
    of_run = months_of(run.tags)
    problems: list[Problem] = []
    succeeded: list[tuple[list[str], str]] = []
    steps: dict[str, str] = {}
    started: dict[str, None] = {}
    failed_checks: set[str] = set()
    skipped = False

    def problem(what: str, message: str, months: list[str] = of_run) -> Problem:
        month = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
        return Problem(month, what, message, run.run_id, finished, left=months)

    for entry in instance.all_logs(run.run_id, of_type={*_STEPS, _Event.ASSET_CHECK_EVALUATION}):
        event = entry.dagster_event
        if event is None:
            continue
        step = event.step_key or ""
        if event.event_type is _Event.STEP_START:
            started[step] = None
        elif event.event_type is _Event.STEP_SUCCESS:
            started.pop(step, None)
            succeeded.append((of_run, step))
        elif event.event_type is _Event.STEP_SKIPPED:
            skipped = True
        elif event.event_type is _Event.STEP_FAILURE:
            started.pop(step, None)
            steps[step] = failure_sentence(event)
        else:
            check = event.asset_check_evaluation_data
            what = f"{check.asset_key.to_user_string()} {check.check_name}"
            months = [check.partition.removesuffix("-01")] if check.partition else of_run
            causes = check.metadata.get(CAUSES)
            if check.passed:
                succeeded.append((months, what))
            elif check.severity is dg.AssetCheckSeverity.WARN and causes is not None:
                problems += [
                    Problem("", f"{what}: {cause}", message, run.run_id, finished, warning=True)
                    for cause, message in cast(dict[str, str], causes.value).items()
                ]
            else:
                failed_checks.add(step)
                problems.append(problem(what, check.description or "the check failed.", months))
    problems += [problem(step, message) for step, message in steps.items() if step not in failed_checks]
    if run.status is dg.DagsterRunStatus.SUCCESS and skipped:  # a month that is not published yet: nothing was loaded
        succeeded = []
    elif run.status is dg.DagsterRunStatus.SUCCESS:
        succeeded.append((of_run, run.job_name))
    elif all(each.warning for each in problems):
        problems.append(problem(next(iter(started), run.job_name), _reason(instance, run)))
    return problems, succeeded


def _reason(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return the message of the event that failed the run; if it was marked as failed, the last message before that."""
    last = ""
    for entry in instance.all_logs(run.run_id, of_type={_Event.RUN_FAILURE, _Event.ENGINE_EVENT}):
        if (event := entry.dagster_event) is None:
            continue
        message = (event.message or "").strip().partition("\n")[0]
        if event.is_run_failure:
            return (last if message.startswith(_MARKED_FAILED) else message) or _MARKED_FAILED
        last = message or last
    return last or "the run exited without reporting an error; see its log."


def tick_outcomes(
    instance: dg.DagsterInstance, location: CodeLocation, seen: dict[str, float], since: float
) -> Iterator[tuple[str, Problem | None]]:
    """Yield each sensor and schedule with a problem for a failed tick, and with None for one that did not fail.

    `seen` has, by sensor and schedule, the end of the last tick that was read, and is updated; at first it is `since`.
    Dagster's reference names no method that reads ticks; `all_instigator_state` and `get_ticks` are those of
    `DagsterInstance` that its daemon and its UI call.
    """
    for each in instance.all_instigator_state():
        if not location.defines(each.repository_selector):
            continue
        what = f"{each.instigator_type.value.lower()} {each.instigator_name}"
        page = f"locations/{location.repository.name}@{location.name}/{what.replace(' ', 's/', 1)}"
        ticks = instance.get_ticks(each.instigator_origin_id, each.selector_id, limit=MAX_TICKS)
        for tick in reversed(ticks):
            ended = tick.end_timestamp
            if tick.is_completed and ended and ended > seen.get(what, since):
                seen[what] = ended
                yield (
                    what,
                    Problem("", what, _tick_error(tick.error), "", ended, page=page) if tick.is_failure else None,
                )


def _tick_error(error: Any) -> str:
    """Return the first line of a tick's error: of the exception in our code, else of what the daemon reports."""
    while error and error.cause and error.cls_name.startswith(("Sensor", "Schedule", "DagsterUserCode")):
        error = error.cause
    text = (error.message if error else "").strip().partition("\n")[0]
    return re.sub(r"^taxi_assets\.core\.errors\.\w+: ", "", text) or "the tick failed; see its page."
