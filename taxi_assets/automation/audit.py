"""The audit: measures loaded months in every sink against the lake, a bounded number of months per run.

What it finds are evaluations of the sinks' own checks, so they are in the Checks tab of the assets, and the decision about a
month takes them into account. It continues with the months that were checked least recently.
"""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from taxi_assets.assets.checks import MATCHES, NO_ROW_LOST, SUMMARY_WHOLE, same_month, summary_is_whole
from taxi_assets.assets.month_status import month_status, resource_keys
from taxi_assets.assets.sinks import sinks
from taxi_assets.automation.schedules import job_schedule
from taxi_assets.automation.sensors import kind_option
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import audit_name, key
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import ROW_COUNT
from taxi_assets.status.decide import reference
from taxi_assets.status.months import MonthStatus

Findings = dict[Month, str]
"""By month: what differs from the lake."""


def audit(
    context: dg.OpExecutionContext,
    kind: TaxiKind,
    settings: Settings,
    months_status: MonthStatus,
    months: Sequence[Month],
) -> Findings:
    """Measure the months in every sink that has them, log each outcome as an evaluation of a check, and return what differs.

    A month that a sink has and this Dagster instance does not know of, because its history is another, is recorded as
    materialized.

    Raises:
        TaxiError: the lake or a sink cannot be read.
    """
    findings: Findings = {}
    instance, resources, recorded = context.instance, context.resources, months_status.read(months)
    known = {name: instance.get_materialized_partitions(asset) for name, asset in months_status.keys.items()}
    for done, (month, record) in enumerate(recorded.items(), 1):
        clean = reference(None, record.manifests, months_status.assets)
        if clean is None:
            continue
        for name, manifest in record.manifests.items():
            if month.key not in known[name]:
                metadata = {ROW_COUNT: manifest.rows, "recorded_by": "audit"}
                asset = months_status.keys[name]
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(asset, partition=month.key, metadata=metadata)
                )
        outcomes: dict[tuple[str, str], list[str]] = {}
        if months_status.assets.clean in record.manifests:
            lake = resources.clean_lake.measure(kind.table, month)
            outcomes["clean_trips", NO_ROW_LOST] = same_month(month, "the lake", clean, lake)[0]
        for sink in sinks(settings):
            if key(kind, sink.name).to_user_string() in record.manifests:
                found = getattr(resources, sink.io_manager).measure(kind.table, month)
                outcomes[sink.name, MATCHES.format(sink=sink.name)] = same_month(month, sink.name, clean, found)[0]
        if key(kind, "daily_summary").to_user_string() in record.manifests:
            summary, _ = summary_is_whole(kind, month, clean, resources.summary)
            outcomes["daily_summary", SUMMARY_WHOLE] = summary
        for (name, check), problems in outcomes.items():
            text = " ".join(problems)
            evaluation = dg.AssetCheckEvaluation(
                key(kind, name), check, passed=not text, description=text or None, blocking=True, partition=month.key
            )
            context.log_event(evaluation)  # ty: ignore[invalid-argument-type] - its annotation lacks them, its code takes them
        if differing := " ".join(problem for problems in outcomes.values() for problem in problems):
            findings[month] = differing
        context.log.info(f"{month} ({done}/{len(recorded)}): {differing or f'{len(outcomes)} places match.'}")
    return findings


def select(months_status: MonthStatus, kind: TaxiKind, settings: Settings) -> list[Month]:
    """Return the loaded months to audit next: those of which the sinks were checked least recently."""
    checks = [dg.AssetCheckKey(key(kind, sink.name), MATCHES.format(sink=sink.name)) for sink in sinks(settings)]
    months = list(months_status.read())
    checked = months_status.history.last_checked(checks, months)
    return sorted(sorted(months, key=lambda month: (checked.get(month, 0), month))[: settings.audit_months])


def repair_command(kind: TaxiKind, settings: Settings) -> str:
    """Return the command that loads again what differs."""
    return f"make audit REPAIR=1{kind_option(kind, settings)}"


def describe(findings: Findings, total: int, kind: TaxiKind, settings: Settings) -> str:
    """Return the outcome of an audit in one line."""
    remedy = f"Load them again with `{repair_command(kind, settings)}`, or set TAXI_REPAIR=true."
    if settings.repair:
        remedy = "They are loaded again by the reconciliation."
    return f"{len(findings)} of {total} audited months differ from the lake: {' '.join(findings.values())} {remedy}"


def measure_name(kind: TaxiKind) -> str:
    """Return the name of the op: it is one op in all jobs of a code location."""
    return f"measure_{kind.name}_months"


class AuditConfig(dg.Config):
    """What to audit."""

    months: list[str] = Field([], description="Months, YYYY-MM; empty: those that were checked least recently.")


def audit_job(kind: TaxiKind, settings: Settings) -> dg.JobDefinition:
    """Define the audit of a kind of taxi."""

    @dg.op(
        name=measure_name(kind),
        required_resource_keys=resource_keys(settings),
        description="Measures months in every sink, against the lake.",
    )
    def measure_months(context: dg.OpExecutionContext, config: AuditConfig) -> None:
        months_status = month_status(context.instance, None, kind, settings, context.resources)
        selected = [Month.parse(month) for month in config.months]
        months = selected or select(months_status, kind, settings)
        if findings := audit(context, kind, settings, months_status, months):
            raise dg.Failure(describe(findings, len(months), kind, settings), allow_retries=False)

    @dg.job(
        name=audit_name(kind),
        tags={"taxi": kind.name},
        description=f"Measures loaded {kind.name} months in every sink against the lake, up to {settings.audit_months} per run.",
    )
    def audit_months() -> None:
        measure_months()

    return audit_months


def audit_schedule(kind: TaxiKind, settings: Settings) -> dg.ScheduleDefinition:
    """Define the schedule of the audit: weekly by default."""
    name = audit_name(kind)
    description = "Measures loaded months in every sink against the lake; what differs is a failed check and an alert."
    return job_schedule(name, name, settings.audit_cron, settings, description)
