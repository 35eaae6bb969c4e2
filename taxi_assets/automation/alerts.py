"""The `alerts` sensor: reports failed runs, checks and ticks, missed deadlines and recoveries, each once.

The sensor reads the runs of this code location that finished since its last tick, and the ticks of its sensors and schedules,
keeps the open problems in its cursor, and reports new ones in its log and through the configured channels
(`alert_channels`). Problems with the same cause are one message, for any number of months.
"""

import copy
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from taxi_assets.automation.alert_channels import Message, channels, deliver
from taxi_assets.automation.deadlines import DEADLINE, LATE
from taxi_assets.automation.outcomes import CodeLocation, Problem, outcomes, tick_outcomes
from taxi_assets.settings import Settings
from taxi_assets.status.run_history import RETRY_SECONDS, retry

INTERVAL_SECONDS = 30
GROUP_SECONDS = 900.0
"""After a cause was reported, further months with it are collected for this long and then reported in one message."""
INITIAL_SECONDS = 3600.0
"""The first tick ignores runs and ticks that finished earlier than this."""
MAX_EVENTS = 500
"""Maximum number of events of a status that a tick reads: one query for all. They are of every code location."""
MAX_RUNS = 100
"""Maximum number of finished runs of this code location that a tick reads; each is a query."""
MAX_PROBLEMS = 500
"""Maximum number of open problems in the cursor; the oldest is dropped."""
RESEND_SECONDS = 24 * 3600.0
"""How long delivery of a message is retried."""
OWN_PAGE = "automation"
"""The page in the UI of this sensor's own problems."""
STATUSES: tuple[Any, ...] = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)


@dataclass
class AlertState:
    """The sensor's cursor: the last event read, the open problems, and the messages not delivered yet.

    `since` is where reading began (a timestamp); `ticks` are the ends of the last ticks read, by sensor and schedule.
    """

    since: float = 0.0
    seen: int | None = None
    ticks: dict[str, float] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    unsent: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str | None) -> "AlertState":
        """Read a cursor; an invalid one counts as empty."""
        try:
            fields = json.loads(text or "{}")
            if isinstance(seen := fields.get("seen"), dict):  # by status, as earlier versions wrote it; 0 was none
                fields["seen"] = min(filter(None, seen.values()), default=None)
            problems = [Problem(**problem) for problem in fields.pop("problems", {}).values()]
            return cls(**fields, problems={problem.key: problem for problem in problems})
        except (ValueError, TypeError, AttributeError):
            return cls()

    def dump(self) -> str:
        """Return the cursor as text."""
        return json.dumps(asdict(self))

    def add(self, problem: Problem, repeat_seconds: float) -> None:
        """Add a problem. A known one is counted, and reported again if its last report is older than `repeat_seconds`."""
        known = self.problems.get(problem.key)
        if known is None:
            self.problems[problem.key] = problem
            while len(self.problems) > MAX_PROBLEMS:
                self.problems.pop(next(iter(self.problems)))
        elif not known.warning:
            known.count += 1
            known.run_id, known.message, known.left = problem.run_id, problem.message, problem.left
            if problem.since - known.reported > repeat_seconds:
                known.reported = 0.0

    def resolve(self, months: list[str], what: str) -> list[Problem]:
        """Record a success of `what` in these months. Return the reported problems of which no month is left."""
        resolved = []
        for problem in list(self.problems.values()):
            if problem.what == what and not problem.warning:
                problem.left = [month for month in problem.left if month not in months]
                if not problem.left:
                    del self.problems[problem.key]
                    resolved += [problem] * bool(problem.reported or problem.count > 1)
        return resolved

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
    link = f"{ui_url}/{latest.page or f'runs/{latest.run_id}'}"
    if latest.warning:
        return Message("warning", latest.what, latest.message, link)
    months = sorted(problem.month for problem in problems)
    number = len({month for problem in problems for month in problem.left})
    listed = ", ".join(months[:12]) + ", …" * (len(months) > 12)
    unit = "days" if len(latest.left[0]) == len("2021-01-31") else "months"
    which = months[0] if len(months) == 1 else f"{number} {unit} ({listed})"
    late = latest.what.endswith(DEADLINE) and LATE in latest.message
    title = f"{latest.what} {'missed its deadline' if late else 'failed'}"
    title += f": {which}" if which else ""
    title += f" ({latest.count} times since {_clock(latest.since)})" if latest.count > 1 else ""
    return Message("failure", title, latest.message, link)


def recoveries(solved: list[tuple[Problem, str]], ui_url: str) -> list[Message]:
    """Return the messages that these problems are resolved, each with its page in the UI: one per page and month."""
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem, page in solved:
        groups[page, problem.month].append(problem)
    messages = []
    for (page, month), problems in groups.items():
        names, times = ", ".join(dict.fromkeys(each.what for each in problems)), sum(each.count for each in problems)
        since = _clock(min(problem.since for problem in problems))
        details = f"It had failed {times} time{'s' * (times > 1)} since {since}."
        messages.append(Message("recovery", f"recovered: {names} {month}".rstrip(), details, f"{ui_url}/{page}"))
    return messages


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


def evaluate(
    instance: dg.DagsterInstance,
    location: CodeLocation,
    state: AlertState,
    settings: Settings,
    now: float,
    log: logging.Logger,
) -> tuple[AlertState, list[Message]]:
    """Read the runs and ticks that finished since the last tick, oldest first; return the messages that are due. Never raises.

    Runs or ticks that cannot be read are a problem like others, and are read again by the next tick.
    """
    state.since = state.since or now - INITIAL_SECONDS
    messages, repeat_seconds = [], settings.alert_repeat_hours * 3600
    for read in (_read_runs, _read_ticks):
        changed, what = copy.deepcopy(state), f"sensor alerts ({read.__name__.removeprefix('_').replace('_', ' ')})"
        try:
            solved = read(instance, location, changed, repeat_seconds, now)
            solved += [(problem, OWN_PAGE) for problem in changed.resolve([""], what)]
            messages += recoveries(solved, settings.ui_url)
            state = changed
        except Exception as error:
            log.exception(f"{what} failed.")
            text = f"{type(error).__name__}: {error}".partition("\n")[0]
            state.add(Problem("", what, text, "", now, page=OWN_PAGE), repeat_seconds)
    return state, [*state.due(now, settings.ui_url), *messages]


def _read_runs(
    instance: dg.DagsterInstance, location: CodeLocation, state: AlertState, repeat_seconds: float, now: float
) -> list[tuple[Problem, str]]:
    """Add the problems of the runs that finished; return those that are resolved, with the page of the run that did it."""
    solved = []
    for run, finished in _finished_runs(instance, location, state, now):
        if retry(run.tags) == "begun":  # the last attempt is reported
            continue
        problems, succeeded = outcomes(instance, run, finished)
        for months, what in succeeded:
            solved += [(problem, f"runs/{run.run_id}") for problem in state.resolve(months, what)]
        for problem in problems:
            state.add(problem, repeat_seconds)
    return solved


def _read_ticks(
    instance: dg.DagsterInstance, location: CodeLocation, state: AlertState, repeat_seconds: float, _: float
) -> list[tuple[Problem, str]]:
    """Add the problems of the ticks that finished; return those that are resolved, with the page of the sensor."""
    solved = []
    for what, failed in tick_outcomes(instance, location, state.ticks, state.since):
        if failed:
            state.add(failed, repeat_seconds)
        else:
            solved += [(problem, problem.page) for problem in state.resolve([""], what)]
    return solved


def _finished_runs(
    instance: dg.DagsterInstance, location: CodeLocation, state: AlertState, now: float
) -> Iterator[tuple[dg.DagsterRun, float]]:
    """Yield the runs of this code location that finished, with the time, and advance `state.seen` past them.

    The events of both statuses are read in their order, so that a success after a failure is seen as a recovery.
    """
    records, last = [], float("inf")
    for status in STATUSES:
        filters = dg.RunStatusChangeRecordsFilter(
            event_type=status, after_storage_id=state.seen, after_timestamp=state.since if state.seen is None else None
        )
        found = instance.fetch_run_status_changes(filters, limit=MAX_EVENTS, ascending=True).records
        records += found
        if len(found) == MAX_EVENTS:  # there are more, and the other status may have later ones
            last = min(last, found[-1].storage_id)
    if not records:
        return
    run_ids = list({record.event_log_entry.run_id for record in records})
    runs = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=run_ids))}
    number = 0
    for record in sorted(records, key=lambda record: record.storage_id):
        if record.storage_id > last or number == MAX_RUNS:
            return
        run = runs.get(record.event_log_entry.run_id)
        if run and location.owns(instance, run):
            finished = record.event_log_entry.timestamp
            if not _is_final(instance, run, finished, now):
                return
            number += 1
            yield run, finished
        state.seen = record.storage_id


def _is_final(instance: dg.DagsterInstance, run: dg.DagsterRun, finished: float, now: float) -> bool:
    """Return whether it is known if the daemon retries the run: Dagster tags a failed run some time after the event."""
    if not instance.run_retries_enabled or now - finished > RETRY_SECONDS:
        return True
    return run.status is not dg.DagsterRunStatus.FAILURE or retry(run.tags) not in (None, "coming")


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
        description="Reports failed runs, checks and ticks, missed deadlines and recoveries: in its log, and to "
        "TAXI_ALERT_WEBHOOK and TAXI_ALERT_EMAIL where they are set. TAXI_ALERT_REPEAT_HOURS is the minimum time between "
        "repeats of an alert.",
    )
    def alerts(context: dg.SensorEvaluationContext):
        now, state = time.time(), AlertState.parse(context.cursor)
        assert context.repository_def is not None
        origin = context.code_location_origin
        location = CodeLocation(origin.location_name if origin else None, context.repository_def)
        state, messages = evaluate(context.instance, location, state, settings, now, context.log)
        for message in messages:
            (context.log.info if message.kind == "recovery" else context.log.warning)(str(message))
        delivered = send(messages, state, settings, now, context.log)
        context.update_cursor(state.dump())
        recovered = sum(message.kind == "recovery" for message in messages)
        return dg.SkipReason(
            f"Reported {len(messages) - recovered} failures and {recovered} recoveries (messages delivered: {delivered}, "
            f"pending: {len(state.unsent)}); open problems: {len(state.problems)}."
        )

    return alerts
