"""Schedules: what starts runs at a time of day. The month's run, the daily reconciliation, and upkeep.

Each looks before it launches: what is up to date is skipped, with the reason in the tick.
"""

import datetime as dt

import dagster as dg

from taxi_assets.assets.common import key
from taxi_assets.assets.ingest import Publisher
from taxi_assets.assets.jobs import job_name
from taxi_assets.automation.sensors import tags_of_run
from taxi_assets.core.month import Month
from taxi_assets.core.partitions import monthly
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.settings import Settings
from taxi_assets.status.decide import TO_DO, Judgement, State, by_urgency, judge, ranges
from taxi_assets.status.month_records import MonthRecords, attempt
from taxi_assets.status.probing import Answers, ask, newest_published

TIMEZONE = "America/New_York"
LOOK_BACK = 12
"""Months from the newest on that are asked for to find the newest published one."""
ATTEMPTS = 3
"""Runs that automation spends on a version of a month that keeps failing; then it is named until something changes."""


def status(settings: Settings) -> dg.DefaultScheduleStatus:
    """Whether schedules run without being switched on."""
    return dg.DefaultScheduleStatus.RUNNING if settings.automated else dg.DefaultScheduleStatus.STOPPED


def monthly_schedule(kind: TaxiKind, settings: Settings) -> dg.ScheduleDefinition:
    """Loads the newest published month, unless it is loaded."""
    name = f"newest_{kind.name}_month"

    @dg.schedule(
        name=name,
        job_name=job_name(kind),
        cron_schedule=settings.monthly_cron,
        execution_timezone=TIMEZONE,
        default_status=status(settings),
        description=f"Loads the newest {kind.name} month that is published, unless it is loaded from that version.",
    )
    def newest_month(context: dg.ScheduleEvaluationContext, publisher: Publisher):
        months = [Month.parse(each) for each in monthly(kind).get_partition_keys()]
        answers = newest_published(publisher.open(), kind, months[-LOOK_BACK:])
        if answers.newest is None:
            return dg.SkipReason(answers.trouble or f"None of the last {LOOK_BACK} months is published.")
        return _launch(context, kind, settings, name, answers, [answers.newest], runs=1)

    return newest_month


def reconciliation(kind: TaxiKind, settings: Settings) -> dg.ScheduleDefinition:
    """Finds months that are published and missing, failed, or older than their source or the code, and loads some."""
    name = f"reconcile_{kind.name}"

    @dg.schedule(
        name=name,
        job_name=job_name(kind),
        cron_schedule=settings.reconcile_cron,
        execution_timezone=TIMEZONE,
        default_status=status(settings),
        description=f"Looks at the newest {settings.reconcile_months} months and at every loaded one: loads up to "
        f"{settings.reconcile_runs} that are missing, changed at the publisher, unfinished or made by older code, and names "
        "the others.",
    )
    def reconcile(context: dg.ScheduleEvaluationContext, publisher: Publisher):
        keys = list(monthly(kind).get_partition_keys())
        loaded = context.instance.get_materialized_partitions(key(kind, "raw_trips"))
        window = set(keys[-settings.reconcile_months - LOOK_BACK :])
        months = [Month.parse(each) for each in reversed(keys) if each in window or each in loaded]
        answers = ask(publisher.open(), kind, months)
        newest = answers.newest
        first = keys[max(keys.index(newest.key) + 1 - settings.reconcile_months, 0)] if newest else keys[-1]
        wanted = [month for month in months if month.key in loaded or month.key >= first]
        return _launch(context, kind, settings, name, answers, wanted, runs=settings.reconcile_runs)

    return reconcile


def _launch(
    context: dg.ScheduleEvaluationContext,
    kind: TaxiKind,
    settings: Settings,
    name: str,
    answers: Answers,
    months: list[Month],
    runs: int,
):
    """Ask for a run of the most pressing months; a SkipReason when there is none."""
    assert context.repository_def is not None
    records = MonthRecords(context.instance, context.repository_def.asset_graph, kind, settings.new_columns)
    known = records.read(months)
    judged = [
        judge(m, answers.published.get(m), known[m], records.graph, records.code, asked=m in answers.published)
        for m in months
    ]
    due, hopeless = [], []
    for judgement in by_urgency(judged):
        version = answers.version(judgement.month) or known[judgement.month].version
        tags = tags_of_run(f"schedule {name}", version)
        failures = known[judgement.month].failures.get(attempt(tags), 0)
        if failures >= ATTEMPTS:
            hopeless.append(judgement.month)
        else:
            due.append((judgement, tags))
    told = summary(answers, judged, [judgement for judgement, _ in due[runs:]], hopeless)
    if not due:
        return dg.SkipReason(told)
    context.log.info(told)
    moment = context.scheduled_execution_time or dt.datetime.now(dt.UTC)
    for judgement, _ in due[:runs]:
        context.log.info(f"Loading {judgement}.")
    return [
        dg.RunRequest(
            run_key=f"{kind.name}-{judgement.month}-{moment:%Y%m%dT%H%M}",
            partition_key=judgement.month.key,
            tags={**tags, **(records.going_on(judgement.month) if judgement.assets else {})},
            **(records.part(judgement.assets) if judgement.assets else {}),
        )
        for judgement, tags in due[:runs]
    ]


def summary(answers: Answers, judged: list[Judgement], later: list[Judgement], hopeless: list[Month]) -> str:
    """The tick in sentences: every month in a state worth a word, so that a skip never hides one that is behind."""
    lines = [answers.trouble] if answers.trouble else []
    for state in (*TO_DO, State.OTHER_SOURCE, State.RUNNING, State.CURRENT):
        if months := [j.month for j in judged if j.state is state]:
            lines.append(f"{state.value.capitalize()}: {ranges(months)}.")
    current, asked = [j.month for j in judged if j.state is State.CURRENT], answers.published
    if len(judged) == len(current) == 1:
        lines = [*lines[:-1], f"{judged[0].month} is skipped: {judged[0].reason}."]
    elif gone := [month for month in current if month in asked and not asked[month]]:
        lines.append(f"Of these the publisher has no more: {ranges(gone)}.")
    if later:
        lines.append(f"Left for the next time: {ranges(j.month for j in later)} (or make backfill).")
    if hopeless:
        lines.append(
            f"Failed {ATTEMPTS} times and not tried again until source or code changes: {ranges(hopeless)}; see the last "
            "run of the month, mend the cause, then make backfill."
        )
    return " ".join(lines) or "No month is published."
