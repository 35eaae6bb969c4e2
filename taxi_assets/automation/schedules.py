"""Schedules that load months: the newest published one, and the daily reconciliation of all.

Each decides before it launches a run; what is up to date is skipped, and the tick says why.
"""

import datetime as dt

import dagster as dg

from taxi_assets.assets.month_status import month_status, resource_keys, run_config
from taxi_assets.automation.sensors import kind_option, loaded_version, tags_of_run
from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import job_name, months
from taxi_assets.settings import Settings
from taxi_assets.status.decide import TO_LOAD, Decision, State, ranges
from taxi_assets.status.months import MonthStatus
from taxi_assets.status.plan import ATTEMPTS, reconcile
from taxi_assets.status.probing import ProbeResults, newest_published, probe_months
from taxi_assets.status.run_history import attempt

TIMEZONE = "America/New_York"
LOOK_BACK = 12
"""Number of newest months that are probed to find the newest published one."""


def status(settings: Settings) -> dg.DefaultScheduleStatus:
    """Return whether schedules are on by default."""
    return dg.DefaultScheduleStatus.RUNNING if settings.automated else dg.DefaultScheduleStatus.STOPPED


def job_schedule(name: str, job: str, cron: str, settings: Settings, description: str) -> dg.ScheduleDefinition:
    """Define a schedule that launches a job without deciding anything before."""
    return dg.ScheduleDefinition(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=TIMEZONE,
        default_status=status(settings),
        tags={run_tags.STARTED_BY: f"schedule {name}"},
        description=description,
    )


def monthly_schedule(kind: TaxiKind, settings: Settings) -> dg.ScheduleDefinition:
    """Define the schedule that loads the newest published month unless it is loaded."""
    name = f"newest_{kind.name}_month"

    @dg.schedule(
        name=name,
        job_name=job_name(kind),
        cron_schedule=settings.monthly_cron,
        execution_timezone=TIMEZONE,
        default_status=status(settings),
        required_resource_keys=resource_keys(settings),
        description=f"Loads the newest published {kind.name} month unless that version is loaded.",
    )
    def newest_month(context: dg.ScheduleEvaluationContext):
        results = newest_published(context.resources.publisher.open(), kind, months(kind)[-LOOK_BACK:])
        if results.newest is None:
            return dg.SkipReason(results.error or f"None of the last {LOOK_BACK} months is published.")
        return _launch(context, kind, settings, name, results, [results.newest], max_runs=1)

    return newest_month


def reconciliation(kind: TaxiKind, settings: Settings) -> dg.ScheduleDefinition:
    """Define the schedule that loads months which are missing, changed, incomplete or outdated."""
    name = f"reconcile_{kind.name}"

    @dg.schedule(
        name=name,
        job_name=job_name(kind),
        cron_schedule=settings.reconcile_cron,
        execution_timezone=TIMEZONE,
        default_status=status(settings),
        required_resource_keys=resource_keys(settings),
        description=f"Checks the newest {settings.reconcile_months} months and every loaded month. Loads up to "
        f"{settings.reconcile_runs} that are missing, republished, incomplete or loaded by an older code version, and lists "
        "the others.",
    )
    def reconcile_months(context: dg.ScheduleEvaluationContext):
        every = months(kind)
        loaded = set(_status(context, kind, settings).read())  # again below: probing takes a while, and runs may begin
        window = {*every[-settings.reconcile_months - LOOK_BACK :], *loaded}
        probed = [month for month in reversed(every) if month in window]
        results = probe_months(context.resources.publisher.open(), kind, probed)
        newest = results.newest
        first = every[max(every.index(newest) + 1 - settings.reconcile_months, 0)] if newest else every[-1]
        selected = [month for month in probed if month in loaded or month >= first]
        return _launch(context, kind, settings, name, results, selected, max_runs=settings.reconcile_runs)

    return reconcile_months


def _status(context: dg.ScheduleEvaluationContext, kind: TaxiKind, settings: Settings) -> MonthStatus:
    assert context.repository_def is not None
    return month_status(context.instance, context.repository_def.asset_graph, kind, settings, context.resources)


def _launch(
    context: dg.ScheduleEvaluationContext,
    kind: TaxiKind,
    settings: Settings,
    name: str,
    results: ProbeResults,
    months: list[Month],
    max_runs: int,
):
    """Return run requests for the most urgent months, or a SkipReason."""
    records = _status(context, kind, settings)
    recorded = records.read(months)
    decisions = records.decide(results.published, recorded)

    def tags(decision: Decision) -> dict[str, str]:
        version = results.version(decision.month) or loaded_version(recorded[decision.month])
        return tags_of_run(f"schedule {name}", version)

    plan = reconcile(decisions, recorded, lambda decision: attempt(tags(decision)), max_runs)
    later, failed = ([decision.month for decision in part] for part in (plan.later, plan.failed))
    text = summary(results, decisions, later, failed, kind_option(kind, settings))
    if not plan.launch:
        return dg.SkipReason(text)
    context.log.info(text)
    moment = context.scheduled_execution_time or dt.datetime.now(dt.UTC)
    requests = []
    for decision in plan.launch:
        context.log.info(f"Loading {decision}.")
        resume_tags = records.history.resume_tags(decision.month) if decision.assets else {}
        requests.append(
            dg.RunRequest(
                run_key=f"{kind.name}-{decision.month}-{moment:%Y%m%dT%H%M}",
                partition_key=decision.month.key,
                run_config=run_config(kind, decision),
                tags={**tags(decision), **resume_tags},
                **records.request_arguments(decision.assets),
            )
        )
    return requests


def summary(
    results: ProbeResults, decisions: list[Decision], later: list[Month], failed: list[Month], option: str
) -> str:
    """Describe a tick: the months by state, so that no month that is behind is hidden by a skip.

    `option` is the `kind_option` of the commands.
    """

    def backfill(months: list[Month]) -> str:
        return f"make backfill FROM={min(months)} TO={max(months)}{option}"

    lines = [results.error] if results.error else []
    for state in (*TO_LOAD, State.OTHER_SOURCE, State.RUNNING, State.CURRENT):
        if months := [decision.month for decision in decisions if decision.state is state]:
            lines.append(f"{state.value.capitalize()}: {ranges(months)}.")
    current = [decision.month for decision in decisions if decision.state is State.CURRENT]
    withdrawn = [month for month in current if month in results.published and not results.published[month]]
    if len(decisions) == len(current) == 1:
        lines[-1] = f"{current[0]} is up to date: {decisions[0].reason}."
    elif withdrawn:
        lines.append(f"Up to date but no longer published: {ranges(withdrawn)}.")
    if later:
        lines.append(f"Remaining for the next tick: {ranges(later)} (or run {backfill(later)}).")
    if failed:
        lines.append(
            f"Failed {ATTEMPTS} times and not retried until the source or the code changes: {ranges(failed)}; fix the cause "
            f"that the month's last run shows, then run {backfill(failed)}."
        )
    return " ".join(lines) or "No month is published."
