"""The landing time: within some days of its publication the newest month is in every sink.

A check of each sink, not a dagster.FreshnessPolicy: that judges an asset by its last materialization, so that loading
any old month would call it fresh. This one asks the publisher which month is the newest, and looks for that month.
It never blocks and is in no month's job; a job of its own runs it daily.
"""

import datetime as dt

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import JobScopedAssetGraph

from taxi_assets.assets.common import key
from taxi_assets.assets.ingest import Publisher
from taxi_assets.assets.sinks import sinks
from taxi_assets.automation.schedules import LOOK_BACK, TIMEZONE, status
from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.core.partitions import monthly
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.settings import Settings
from taxi_assets.status.decide import Known, changed, unfinished
from taxi_assets.status.month_records import MonthRecords
from taxi_assets.status.probing import Answers, newest_published

DEADLINE = "newest_published_month_is_loaded"
USUAL_DELAY = dt.timedelta(days=60)
"""When a month is taken to have been published where the publisher does not say (TLC: median 51 days)."""


def check_keys(kind: TaxiKind, settings: Settings) -> list[dg.AssetCheckKey]:
    """The deadline check of each sink."""
    return [dg.AssetCheckKey(key(kind, sink.name), DEADLINE) for sink in sinks(settings)]


def deadline_checks(kind: TaxiKind, settings: Settings) -> dg.AssetChecksDefinition:
    """The deadline checks of a kind of taxi, answered by one look at the publisher."""

    @dg.multi_asset_check(
        name=f"{kind.name}_deadlines",
        specs=[
            dg.AssetCheckSpec(
                DEADLINE,
                asset=check.asset_key,
                description=f"Red: the newest month was published more than {settings.deadline_days} days ago and is not in "
                "this sink. See the month's last run, or the ticks of the new-months sensor.",
            )
            for check in check_keys(kind, settings)
        ],
        can_subset=True,
    )
    def deadlines(context: dg.AssetCheckExecutionContext, publisher: Publisher):
        months = [Month.parse(each) for each in monthly(kind).get_partition_keys()]
        answers = newest_published(publisher.open(), kind, months[-LOOK_BACK:])
        assets = context.op_execution_context.job_def.asset_layer.asset_graph
        while isinstance(assets, JobScopedAssetGraph):  # the job's own part of the graph
            assets = assets.source_asset_graph
        records = MonthRecords(context.op_execution_context.instance, assets, kind)
        newest = answers.newest
        known = records.read([newest])[newest] if newest else Known()
        for check in sorted(context.op_execution_context.selected_asset_check_keys):
            sink = check.asset_key.to_user_string()
            missing = not newest or not is_loaded(answers, newest, known, sink, records)
            yield verdict(check, answers, missing=missing, days=settings.deadline_days, now=dt.datetime.now(dt.UTC))

    return deadlines


def is_loaded(answers: Answers, newest: Month, known: Known, sink: str, records: MonthRecords) -> bool:
    """Whether the sink has the month, from the version that is published, with every check passed."""
    published = answers.published[newest]
    if published is None or changed(published, known):
        return False
    return sink in known.made and sink not in unfinished(records.graph, known.made, records.code)


def verdict(
    check: dg.AssetCheckKey, answers: Answers, *, missing: bool, days: int, now: dt.datetime
) -> dg.AssetCheckResult:
    """Whether the deadline is kept, in a sentence: a month is late when it is missing after its due day."""
    newest = answers.newest
    if newest is None:
        return dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=answers.trouble is None,
            severity=dg.AssetCheckSeverity.WARN,
            description=answers.trouble or f"None of the last {LOOK_BACK} months is published.",
        )
    published = answers.published[newest]
    since = published.modified if published else None
    appeared = since or newest.end.replace(tzinfo=dt.UTC) + USUAL_DELAY
    due = appeared + dt.timedelta(days=days)
    late = missing and now > due
    told = f"published {'about ' if since is None else ''}{appeared:%Y-%m-%d}, due {due:%Y-%m-%d}"
    state = "is loaded" if not missing else "is late" if late else "is not loaded yet"
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=not late,
        description=f"{newest} {state} ({told}).",
        metadata={"newest_published": str(newest), "published": appeared.isoformat(), "due": due.isoformat()},
    )


def deadline_job(kind: TaxiKind, settings: Settings):
    """The job that checks the deadlines."""
    return dg.define_asset_job(
        job_of(kind),
        selection=dg.AssetSelection.checks(*check_keys(kind, settings)),
        tags={"taxi": kind.name},
        description="Is the newest published month in every sink?",
    )


def job_of(kind: TaxiKind) -> str:
    """Name of the kind's deadline job."""
    return f"check_{kind.name}_deadlines"


def deadline_schedule(kind: TaxiKind, settings: Settings) -> dg.ScheduleDefinition:
    """Checks the deadlines when months are reconciled."""
    name = f"{kind.name}_deadlines"
    return dg.ScheduleDefinition(
        name=name,
        job_name=job_of(kind),
        cron_schedule=settings.reconcile_cron,
        execution_timezone=TIMEZONE,
        default_status=status(settings),
        tags={run_tags.STARTED_BY: f"schedule {name}"},
        description="Asks whether the newest published month is in every sink; a missed deadline is a red check and an alert.",
    )
