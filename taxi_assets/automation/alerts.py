"""The `alerts` sensor: reports failed runs, failed checks, missed deadlines and recoveries, each once.

The sensor reads the runs that finished since its last tick, keeps the open problems in its cursor, and reports new ones in
its log and through the configured channels (`alert_channels`). Problems with the same cause are one message, for any number
of months.
"""

import itertools
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from taxi_assets.automation.alert_channels import Message, channels, deliver
from taxi_assets.automation.deadlines import DEADLINE
from taxi_assets.automation.outcomes import Problem, month_of, outcomes
from taxi_assets.settings import Settings
from taxi_assets.status.run_history import RETRY_SECONDS, retry

INTERVAL_SECONDS = 30
GROUP_SECONDS = 900.0
"""After a cause was reported, further months with it are collected for this long and then reported in one message."""
INITIAL_SECONDS = 3600.0
"""The first tick ignores runs that finished earlier than this."""
MAX_RUNS = 100
"""Maximum number of finished runs of a status that a tick reads; each is a query."""
MAX_PROBLEMS = 500
"""Maximum number of open problems in the cursor; the oldest is dropped."""
RESEND_SECONDS = 24 * 3600.0
"""How long delivery of a message is retried."""
STATUSES: tuple[Any, ...] = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)


@dataclass
class AlertState:
    """The sensor's cursor: the last event read by status, the open problems, and the messages not delivered yet."""

    seen: dict[str, int] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    unsent: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str | None) -> "AlertState":
        """Read a cursor; an invalid one counts as empty."""
        try:
            state = cls(**json.loads(text or "{}"))
            state.problems = {key: Problem(**problem) for key, problem in state.problems.items()}  # ty: ignore[invalid-argument-type]
        except (ValueError, TypeError, AttributeError):
            return cls()
        return state

    def dump(self) -> str:
        """Return the cursor as text."""
        return json.dumps(asdict(self))

    def add(self, problem: Problem, repeat_seconds: float) -> None:
        """Add a problem. A known one is counted, and reported again if its last report is older than `repeat_seconds`."""
        known = self.problems.get(problem.key)
        if known is None or known.cause != problem.cause:
            self.problems[problem.key] = problem
            while len(self.problems) > MAX_PROBLEMS:
                self.problems.pop(next(iter(self.problems)))
        elif not known.warning:
            known.count += 1
            known.run_id, known.message = problem.run_id, problem.message
            if problem.since - known.reported > repeat_seconds:
                known.reported = 0.0

    def resolve(self, month: str, what: str) -> Problem | None:
        """Remove a problem; return it if it had been reported."""
        problem = self.problems.pop(f"{month}|{what}", None)
        return problem if problem and (problem.reported or problem.count > 1) else None

    def due(self, now: float, ui_url: str) -> list[Message]:
        """Return the messages that are due, one per cause, and mark their problems as reported."""
        by_cause: dict[str, list[Problem]] = defaultdict(list)
        for problem in self.problems.values():
            by_cause[problem.cause].append(problem)
        messages = []
        for problems in by_cause.values():
            new = [problem for problem in problems if not problem.reported]
            last = max(problem.reported for problem in problems)
            if new and (not last or now - last >= GROUP_SECONDS):
                messages.append(failure(new, ui_url))
                for problem in new:
                    problem.reported = now
        return messages


def failure(problems: list[Problem], ui_url: str) -> Message:
    """Return the message about problems with the same cause."""
    latest = problems[-1]
    link = f"{ui_url}/runs/{latest.run_id}"
    if latest.warning:
        return Message("warning", latest.what, latest.message, link)
    months = sorted(problem.month for problem in problems)
    listed = ", ".join(months[:12]) + ", …" * (len(months) > 12)
    which = months[0] if len(months) == 1 else f"{len(months)} months ({listed})"
    title = f"{latest.what} {'missed its deadline' if latest.what.endswith(DEADLINE) else 'failed'}"
    title += f": {which}" if which else ""
    title += f" ({latest.count} times since {_clock(latest.since)})" if latest.count > 1 else ""
    return Message("failure", title, latest.message, link)


def recovery(problems: list[Problem], run_id: str, ui_url: str) -> Message:
    """Return the message that these problems of a month are resolved."""
    names, times = ", ".join(problem.what for problem in problems), sum(problem.count for problem in problems)
    since = _clock(min(problem.since for problem in problems))
    details = f"It had failed {times} time{'s' * (times > 1)} since {since}."
    return Message("recovery", f"recovered: {names} {problems[0].month}".rstrip(), details, f"{ui_url}/runs/{run_id}")


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


def evaluate(instance: dg.DagsterInstance, state: AlertState, settings: Settings, now: float) -> list[Message]:
    """Read the runs that finished since the last tick, oldest first; return the messages that are due."""
    changes, recoveries = [], []
    for status in STATUSES:
        seen = state.seen.get(status.value)
        filters = dg.RunStatusChangeRecordsFilter(
            event_type=status,
            after_storage_id=seen,
            after_timestamp=now - INITIAL_SECONDS if seen is None else None,
        )
        records = instance.fetch_run_status_changes(filters, limit=MAX_RUNS, ascending=True).records
        final = list(itertools.takewhile(lambda record: _is_final(instance, record.event_log_entry, now), records))
        state.seen[status.value] = max([seen or 0, *(record.storage_id for record in final)])
        changes += [(record.storage_id, record.event_log_entry) for record in final]
    for _, entry in sorted(changes, key=lambda change: change[0]):
        run = instance.get_run_by_id(entry.run_id)
        if run is None or retry(run.tags) == "begun":  # the last attempt is reported
            continue
        problems, succeeded = outcomes(instance, run, entry.timestamp)
        resolved = [problem for what in succeeded if (problem := state.resolve(month_of(run.tags), what))]
        if resolved:
            recoveries.append(recovery(resolved, run.run_id, settings.ui_url))
        for problem in problems:
            state.add(problem, settings.alert_repeat_hours * 3600)
    return [*state.due(now, settings.ui_url), *recoveries]


def _is_final(instance: dg.DagsterInstance, entry: dg.EventLogEntry, now: float) -> bool:
    """Return whether it is known if the daemon retries the run: Dagster tags a failed run some time after the event."""
    if not instance.run_retries_enabled or now - entry.timestamp > RETRY_SECONDS:
        return True
    run = instance.get_run_by_id(entry.run_id)
    return run is None or run.status is not dg.DagsterRunStatus.FAILURE or retry(run.tags) not in (None, "coming")


def send(messages: Iterable[Message], state: AlertState, settings: Settings, now: float, log: logging.Logger) -> int:
    """Deliver the messages and those left from earlier ticks; keep what a channel did not accept. Never raises.

    Returns the number of delivered messages.
    """
    pending = [item for item in state.unsent if now - item["since"] < RESEND_SECONDS]
    pending += [
        {"channel": channel, "message": asdict(message), "since": now}
        for message in messages
        for channel in channels(settings)
    ]
    unsent, failed = [], set()
    for item in pending:
        if item["channel"] not in failed:
            error = deliver(item["channel"], Message(**item["message"]), settings)
            if error is None:
                continue
            failed.add(item["channel"])  # one attempt per tick: a tick has 60 seconds
            log.warning(error)
        unsent.append(item)
    state.unsent = unsent[-MAX_RUNS:]
    return len(pending) - len(unsent)


def alerts_sensor(settings: Settings) -> dg.SensorDefinition:
    """Define the sensor."""
    on = settings.automated or bool(channels(settings))

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED,
        description="Reports failed runs, failed checks, missed deadlines and recoveries: in its log, and to "
        "TAXI_ALERT_WEBHOOK and TAXI_ALERT_EMAIL where they are set. TAXI_ALERT_REPEAT_HOURS is the minimum time between "
        "repeats of an alert.",
    )
    def alerts(context: dg.SensorEvaluationContext):
        now, state = time.time(), AlertState.parse(context.cursor)
        messages = evaluate(context.instance, state, settings, now)
        for message in messages:
            (context.log.info if message.kind == "recovery" else context.log.warning)(str(message))
        delivered = send(messages, state, settings, now, context.log)
        context.update_cursor(state.dump())
        recoveries = sum(message.kind == "recovery" for message in messages)
        return dg.SkipReason(
            f"Reported {len(messages) - recoveries} failures and {recoveries} recoveries (messages delivered: {delivered}, "
            f"pending: {len(state.unsent)}); open problems: {len(state.problems)}."
        )

    return alerts
