"""What became of a finished run: what went wrong, each with its sentence, and what went well."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import dagster as dg

from taxi_assets.assets.month_check import CAUSES
from taxi_assets.core import run_tags
from taxi_assets.core.failures import failure_sentence

_FROM_OUTSIDE = "This run has been marked as failed from outside"
"""What Dagster says of a run whose process was killed or never came."""
RETRY_SECONDS = 300.0
"""How long the daemon is given to start a killed run again. Now and then it never does, though it said it would: it had
read the failure's event before the run's status."""
_EVENTS = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


def retry(tags: Mapping[str, str]) -> Literal["none", "coming", "begun"] | None:
    """Whether the daemon starts a failed run again, by its tags; None where that is not noted yet (or retries are off)."""
    noted = tags.get("dagster/will_retry")
    if noted is None:
        return None
    if (
        noted != "true" or run_tags.PROCESS in tags
    ):  # the daemon cannot start what `make backfill` and `make run` execute
        return "none"
    return "begun" if "dagster/auto_retry_run_id" in tags else "coming"


@dataclass
class Problem:
    """Something that is broken: `what` (a step or a check) of a month, since when, how often, when told (0: not yet).

    A `warning` stops nothing, belongs to no month, is reported once and never recovers: a new column, an unknown code.
    """

    month: str
    what: str
    sentence: str
    run_id: str
    since: float
    count: int = 1
    told: float = 0.0
    warning: bool = False

    @property
    def key(self) -> str:
        """What it is the same problem as."""
        return f"{self.month}|{self.what}"

    @property
    def cause(self) -> str:
        """What it shares with the same problem of other months: numbers and the month left out."""
        if self.warning:
            return self.what
        return f"{self.what}|{re.sub(r'[0-9a-f]{8,}|[0-9]+', '#', self.sentence)}"


def month_of(tags: Mapping[str, str]) -> str:
    """The months a run was about, for people; empty when it was about none."""
    if partition := tags.get("dagster/partition"):
        return partition[:7]
    start, end = (tags.get(f"dagster/asset_partition_range_{edge}", "")[:7] for edge in ("start", "end"))
    return start if start == end else f"{start} to {end}"


def outcomes(instance: dg.DagsterInstance, run: dg.DagsterRun, finished: float) -> tuple[list[Problem], list[str]]:
    """Of a finished run: what went wrong, and the steps and checks that went well."""
    month, problems, well, red_steps = month_of(run.tags), [], [], set()
    steps: list[tuple[str, str]] = []
    for entry in instance.all_logs(run.run_id, of_type=_EVENTS):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            what = f"{evaluation.asset_key.to_user_string()} {evaluation.check_name}"
            causes = evaluation.metadata.get(CAUSES)
            if evaluation.passed:
                well.append(what)
            elif evaluation.severity is dg.AssetCheckSeverity.WARN and causes is not None:
                problems += [
                    Problem("", f"{what}: {cause}", sentence, run.run_id, finished, warning=True)
                    for cause, sentence in cast(dict[str, str], causes.value).items()
                ]
            else:
                red_steps.add(event.step_key)
                told = evaluation.description or "the check did not pass."
                problems.append(Problem(month, what, told, run.run_id, finished))
        elif event.is_step_failure:
            steps.append((event.step_key or "", failure_sentence(event)))
        else:
            well.append(event.step_key or "")
    problems += [
        Problem(month, step, sentence, run.run_id, finished) for step, sentence in steps if step not in red_steps
    ]
    if run.status is dg.DagsterRunStatus.SUCCESS:
        well.append(run.job_name)
    elif all(problem.warning for problem in problems):
        reason = _last_word(instance, run) or "the run ended without a word from a step; see its log."
        problems.append(Problem(month, run.job_name, reason, run.run_id, finished))
    return problems, well


def _last_word(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What the event that failed the run says; where it was ended from outside, what was noted last before that."""
    told = ""
    for entry in instance.all_logs(
        run.run_id, of_type={dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.ENGINE_EVENT}
    ):
        event = entry.dagster_event
        if event is None:
            continue
        line = (event.message or "").strip().partition("\n")[0]
        if not event.is_run_failure:
            told = line or told
        elif not line.startswith(_FROM_OUTSIDE):
            return line
        else:
            break
    return told or _FROM_OUTSIDE
