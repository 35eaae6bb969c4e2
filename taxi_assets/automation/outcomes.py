"""Read the outcome of a finished run: the problems, each with a message, and the steps and checks that succeeded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import dagster as dg

from taxi_assets.assets.month_check import CAUSES
from taxi_assets.core.failures import failure_sentence

_MARKED_FAILED = "This run has been marked as failed from outside"
"""Dagster's message for a run whose process was killed or never started."""
_Event = dg.DagsterEventType
_OUTCOMES = {_Event.STEP_SUCCESS, _Event.STEP_FAILURE, _Event.ASSET_CHECK_EVALUATION}


@dataclass
class Problem:
    """A failed step or check (`what`) of a month: since when, how often, and when it was reported (0: not yet).

    A `warning` belongs to no month, is reported once and never recovers: a new column, an unknown code.
    """

    month: str
    what: str
    message: str
    run_id: str
    since: float
    count: int = 1
    reported: float = 0.0
    warning: bool = False

    @property
    def key(self) -> str:
        """Identifies the problem."""
        return f"{self.month}|{self.what}"

    @property
    def cause(self) -> str:
        """Equal for the same problem of several months: the message without numbers."""
        return self.what if self.warning else f"{self.what}|{re.sub(r'[0-9a-f]{8,}|[0-9]+', '#', self.message)}"


def month_of(tags: Mapping[str, str]) -> str:
    """Return the month or months of a run for people; an empty string if it has none."""
    if partition := tags.get("dagster/partition"):
        return partition[:7]
    start, end = (tags.get(f"dagster/asset_partition_range_{edge}", "")[:7] for edge in ("start", "end"))
    return start if start == end else f"{start} to {end}"


def outcomes(instance: dg.DagsterInstance, run: dg.DagsterRun, finished: float) -> tuple[list[Problem], list[str]]:
    """Return the problems of a finished run, and the steps and checks that succeeded."""
    month, succeeded, failed_checks = month_of(run.tags), [], set()
    problems: list[Problem] = []
    steps: dict[str, str] = {}
    for entry in instance.all_logs(run.run_id, of_type=_OUTCOMES):
        event = entry.dagster_event
        if event is None:
            continue
        step = event.step_key or ""
        if event.event_type is _Event.STEP_SUCCESS:
            succeeded.append(step)
        elif event.event_type is _Event.STEP_FAILURE:
            steps[step] = failure_sentence(event)
        else:
            check = event.asset_check_evaluation_data
            what = f"{check.asset_key.to_user_string()} {check.check_name}"
            causes = check.metadata.get(CAUSES)
            if check.passed:
                succeeded.append(what)
            elif check.severity is dg.AssetCheckSeverity.WARN and causes is not None:
                problems += [
                    Problem("", f"{what}: {cause}", message, run.run_id, finished, warning=True)
                    for cause, message in cast(dict[str, str], causes.value).items()
                ]
            else:
                failed_checks.add(step)
                problems.append(Problem(month, what, check.description or "the check failed.", run.run_id, finished))
    problems += [
        Problem(month, step, message, run.run_id, finished)
        for step, message in steps.items()
        if step not in failed_checks
    ]
    if run.status is dg.DagsterRunStatus.SUCCESS:
        succeeded.append(run.job_name)
    elif all(problem.warning for problem in problems):
        problems.append(Problem(month, run.job_name, _reason(instance, run), run.run_id, finished))
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
