"""Deadline checks: within some days of its publication the newest month must be in every sink.

They are asset checks and not a dagster.FreshnessPolicy, which evaluates an asset's last materialization, so that loading any
old month would count as fresh. They do not block and belong to no month's job; a job of their own runs them daily.
"""

import datetime as dt

import dagster as dg

from taxi_assets.assets.month_status import month_status, resource_keys
from taxi_assets.assets.sinks import sinks
from taxi_assets.automation.schedules import LOOK_BACK, job_schedule
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import key, months
from taxi_assets.settings import Settings
from taxi_assets.status.decide import Cell, Decision, State
from taxi_assets.status.probing import ProbeResults, newest_published

DEADLINE = "newest_published_month_is_loaded"
LATE = "is late"
"""In the description of a check that failed because a month is late, and not because the publisher did not answer."""
USUAL_DELAY = dt.timedelta(days=60)
"""Assumed delay of a month whose publication date the publisher does not report (TLC: median 51 days)."""


def check_keys(kind: TaxiKind, settings: Settings) -> list[dg.AssetCheckKey]:
    """Return the keys of the deadline checks, one per sink."""
    return [dg.AssetCheckKey(key(kind, sink.name), DEADLINE) for sink in sinks(settings)]


def deadline_checks(kind: TaxiKind, settings: Settings) -> dg.AssetChecksDefinition:
    """Define the deadline checks of a kind of taxi; they share one probe of the publisher."""

    @dg.multi_asset_check(
        name=f"{kind.name}_deadlines",
        specs=[
            dg.AssetCheckSpec(
                DEADLINE,
                asset=check.asset_key,
                description=f"Fails when the newest month was published more than {settings.deadline_days} days ago and is "
                "not in this sink. Warns when it is not known which month is the newest. See the month's last run, or the ticks "
                "of the new-months sensor.",
            )
            for check in check_keys(kind, settings)
        ],
        required_resource_keys=resource_keys(settings),
        can_subset=True,
    )
    def deadlines(context: dg.AssetCheckExecutionContext):
        results = newest_published(context.resources.publisher.open(), kind, months(kind)[-LOOK_BACK:])
        assets = context.op_execution_context.job_def.asset_layer.asset_graph
        while assets is not assets.source_asset_graph:  # from the job's part to the whole graph
            assets = assets.source_asset_graph
        months_status = month_status(context.op_execution_context.instance, assets, kind, settings, context.resources)
        recorded = months_status.read([results.newest] if results.newest else [])
        decisions = months_status.decide(results.published, recorded)
        for check in sorted(context.op_execution_context.selected_asset_check_keys):
            loaded = any(is_loaded(decision, check.asset_key) for decision in decisions)
            yield check_result(check, results, loaded=loaded, days=settings.deadline_days, now=dt.datetime.now(dt.UTC))

    return deadlines


def is_loaded(decision: Decision, sink: dg.AssetKey) -> bool:
    """Return whether the sink has the published version of the month, loaded by the current code."""
    has_it = decision.cells.get(sink.to_user_string()) in (Cell.LOADED, Cell.GENERATED)
    return has_it and decision.state not in (State.CHANGED, State.OTHER_SOURCE)


def check_result(
    check: dg.AssetCheckKey, results: ProbeResults, *, loaded: bool, days: int, now: dt.datetime
) -> dg.AssetCheckResult:
    """Return the result of a check: a month is late if it is not loaded after its due date.

    A month that is not late passes only if it is known to be the newest.
    """
    newest = results.newest
    if newest is None:
        return dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=results.error is None,
            severity=dg.AssetCheckSeverity.WARN,
            description=results.error or f"None of the last {LOOK_BACK} months is published.",
        )
    published = results.published[newest]
    modified = published.modified if published else None
    date = modified or newest.end.replace(tzinfo=dt.UTC) + USUAL_DELAY
    due = date + dt.timedelta(days=days)
    late = not loaded and now > due
    state = "is loaded" if loaded else LATE if late else "is not loaded yet"
    text = f"{newest} {state} (published {'' if modified else 'about '}{date:%Y-%m-%d}, due {due:%Y-%m-%d})."
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=not late and results.error is None,
        severity=dg.AssetCheckSeverity.ERROR if late else dg.AssetCheckSeverity.WARN,
        description=f"{results.error} {text}" if results.error else text,
        metadata={"newest_published": str(newest), "published": date.isoformat(), "due": due.isoformat()},
    )


def deadline_job(kind: TaxiKind, settings: Settings):
    """Define the job that runs the deadline checks."""
    return dg.define_asset_job(
        job_of(kind),
        selection=dg.AssetSelection.checks(*check_keys(kind, settings)),
        tags={"taxi": kind.name},
        description="Checks that the newest published month is in every sink.",
    )


def job_of(kind: TaxiKind) -> str:
    """Return the name of the deadline job."""
    return f"check_{kind.name}_deadlines"


def deadline_schedule(kind: TaxiKind, settings: Settings) -> dg.ScheduleDefinition:
    """Define the schedule of the deadline checks: at the time of the reconciliation."""
    name = f"{kind.name}_deadlines"
    description = (
        "Checks that the newest published month is in every sink; a missed deadline is a failed check and an alert."
    )
    return job_schedule(name, job_of(kind), settings.reconcile_cron, settings, description)
