"""Alerts: what failed, for whom it concerns, once. Failed runs, failed checks, missed deadlines, and their recovery.

A sensor reads the finished runs since it last looked, keeps what is still broken in its cursor, and tells what is new:
to its log always, to a webhook and by mail where they are set (`alert_channels`). Problems of one cause are one message
however many months they hit.
"""

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import dagster as dg

from taxi_assets.automation.alert_channels import Message, channels, deliver
from taxi_assets.automation.deadlines import DEADLINE
from taxi_assets.automation.outcomes import RETRY_SECONDS, Problem, month_of, outcomes, retry
from taxi_assets.settings import Settings

EVERY_SECONDS = 30
FOLD_SECONDS = 900.0
"""A cause that was just told is not told again for other months before so long: they then come in one message."""
LOOK_BACK_SECONDS = 3600.0
"""Runs that had finished so long before the first look are history."""
RUNS = 100
"""Most finished runs of a status looked at in a tick (each is a query)."""
REMEMBERED = 500
"""Most open problems kept in the cursor; the oldest is forgotten."""
RESEND_SECONDS = 24 * 3600.0
"""How long a message is offered again to a channel that could not be reached."""
STATUSES: dict[str, Literal[dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS]] = {
    "failed": dg.DagsterEventType.RUN_FAILURE,
    "succeeded": dg.DagsterEventType.RUN_SUCCESS,
}


@dataclass
class Memory:
    """The sensor's cursor: events seen by status, what is broken, and messages that a channel has not taken yet."""

    seen: dict[str, int] = field(default_factory=dict)
    broken: dict[str, Problem] = field(default_factory=dict)
    unsent: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, text: str | None) -> "Memory":
        """The memory; an empty one where the text is not ours."""
        try:
            raw = json.loads(text or "{}")
            broken = {key: Problem(**problem) for key, problem in raw.get("broken", {}).items()}
            return cls(raw.get("seen", {}), broken, raw.get("unsent", []))
        except (ValueError, TypeError, AttributeError):
            return cls()

    def write(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    def note(self, problem: Problem, repeat: float) -> None:
        """Remember a problem; one that is known counts once more, and is told again when the last time is long ago."""
        known = self.broken.get(problem.key)
        if known is None or known.cause != problem.cause:
            self.broken[problem.key] = problem
            while len(self.broken) > REMEMBERED:
                self.broken.pop(next(iter(self.broken)))
            return
        if known.warning:
            return
        known.count += 1
        known.run_id, known.sentence = problem.run_id, problem.sentence
        if problem.since - known.told > repeat:
            known.told = 0.0

    def mend(self, month: str, what: str) -> Problem | None:
        """Forget a problem that is over; the problem if it had been told."""
        problem = self.broken.pop(f"{month}|{what}", None)
        return problem if problem and (problem.told or problem.count > 1) else None


def failures_to_tell(memory: Memory, now: float, ui_url: str) -> Iterator[Message]:
    """The messages that are due, one a cause; their problems count as told."""
    by_cause: dict[str, list[Problem]] = defaultdict(list)
    for problem in memory.broken.values():
        by_cause[problem.cause].append(problem)
    for problems in by_cause.values():
        new = [problem for problem in problems if not problem.told]
        last = max(problem.told for problem in problems)
        if not new or (now - last < FOLD_SECONDS and last):
            continue
        for problem in new:
            problem.told = now
        yield _failure(new, ui_url)


def _failure(problems: list[Problem], ui_url: str) -> Message:
    first = problems[-1]
    if first.warning:
        return Message("warning", first.what, first.sentence, f"{ui_url}/runs/{first.run_id}")
    months = sorted(problem.month for problem in problems)
    some = ", ".join(months[:12]) + ", …" * (len(months) > 12)
    named = months[0] if len(months) == 1 else f"{len(months)} months ({some})"
    missed = first.what.endswith(DEADLINE)
    verb = "missed its deadline" if missed else "failed"
    count = f" ({first.count} times since {_clock(first.since)})" if first.count > 1 else ""
    title = f"{first.what} {verb}: {named}{count}" if named else f"{first.what} {verb}{count}"
    return Message("failure", title, first.sentence, f"{ui_url}/runs/{first.run_id}")


def recovery(problems: list[Problem], run_id: str, ui_url: str) -> Iterator[Message]:
    """One message a month for what works again."""
    by_month: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_month[problem.month].append(problem)
    for month, mended in by_month.items():
        names = ", ".join(problem.what for problem in mended)
        since = _clock(min(problem.since for problem in mended))
        times = sum(problem.count for problem in mended)
        title = f"recovered: {names} {month}".rstrip()
        told = f"It had failed {times} time{'s' * (times > 1)} since {since}."
        yield Message("recovery", title, told, f"{ui_url}/runs/{run_id}")


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


def look(
    instance: dg.DagsterInstance, memory: Memory, settings: Settings, now: float
) -> tuple[list[Message], list[Message]]:
    """Read the runs that finished since the last look, oldest first; failures to tell and recoveries."""
    changes = []
    for status, event_type in STATUSES.items():
        seen = memory.seen.get(status)
        wanted = dg.RunStatusChangeRecordsFilter(
            event_type=event_type,
            after_storage_id=seen,
            after_timestamp=now - LOOK_BACK_SECONDS if seen is None else None,
        )
        records = instance.fetch_run_status_changes(wanted, limit=RUNS, ascending=True).records
        records = list(itertools.takewhile(lambda record: _is_settled(instance, record.event_log_entry, now), records))
        memory.seen[status] = max([seen or 0, *(record.storage_id for record in records)])
        changes += [(record.storage_id, record.event_log_entry) for record in records]
    recovered = []
    for _, entry in sorted(changes, key=lambda change: change[0]):
        run = instance.get_run_by_id(entry.run_id)
        if run is None or retry(run.tags) == "begun":  # the last attempt will tell
            continue
        problems, well = outcomes(instance, run, entry.timestamp)
        month = month_of(run.tags)
        mended = [problem for what in well if (problem := memory.mend(month, what))]
        recovered += recovery(mended, run.run_id, settings.ui_url)
        for problem in problems:
            memory.note(problem, settings.alert_repeat_hours * 3600)
    return list(failures_to_tell(memory, now, settings.ui_url)), recovered


def _is_settled(instance: dg.DagsterInstance, entry: dg.EventLogEntry, now: float) -> bool:
    """Whether it is known if the daemon retries the run: Dagster notes that on a failed run some moments after the event."""
    if not instance.run_retries_enabled or now - entry.timestamp > RETRY_SECONDS:
        return True
    run = instance.get_run_by_id(entry.run_id)
    return run is None or run.status is not dg.DagsterRunStatus.FAILURE or retry(run.tags) not in (None, "coming")


def send(messages: Iterable[Message], memory: Memory, settings: Settings, now: float, log: Any) -> int:
    """Offer messages, and those left from before, to every channel; what a channel does not take is kept for it.

    How many messages were delivered; never raises for a channel's sake.
    """
    left = [item for item in memory.unsent if now - item["since"] < RESEND_SECONDS]
    left += [
        {"channel": channel, "message": asdict(message), "since": now}
        for message in messages
        for channel in channels(settings)
    ]
    memory.unsent, dead, delivered = [], set(), 0
    for item in left:
        if item["channel"] not in dead:
            trouble = deliver(item["channel"], Message(**item["message"]), settings)
            if trouble is None:
                delivered += 1
                continue
            dead.add(item["channel"])  # one attempt a tick: a tick has 60 seconds
            log.warning(trouble)
        memory.unsent = [*memory.unsent, item][-RUNS:]
    return delivered


def alerts_sensor(settings: Settings) -> dg.SensorDefinition:
    """Tells what fails and what works again."""
    wanted = settings.automated or bool(channels(settings))

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if wanted else dg.DefaultSensorStatus.STOPPED,
        description="Tells failed runs, failed checks, missed deadlines and recoveries: here, to TAXI_ALERT_WEBHOOK and to "
        "TAXI_ALERT_EMAIL where they are set. The same failure is told once in TAXI_ALERT_REPEAT_HOURS.",
    )
    def alerts(context: dg.SensorEvaluationContext):
        now = time.time()
        memory = Memory.read(context.cursor)
        failures, recoveries = look(context.instance, memory, settings, now)
        for message in (*failures, *recoveries):
            (context.log.info if message.kind == "recovery" else context.log.warning)(message.text)
        delivered = send([*failures, *recoveries], memory, settings, now, context.log)
        context.update_cursor(memory.write())
        return dg.SkipReason(
            f"{len(failures)} failures and {len(recoveries)} recoveries told ({delivered} messages delivered, "
            f"{len(memory.unsent)} waiting); {len(memory.broken)} problems open."
        )

    return alerts
