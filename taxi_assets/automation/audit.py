"""The audit: measures loaded months in every sink against the lake, a bounded number of months per run.

What it finds are evaluations of the sinks' own checks, so they are in the Checks tab of the assets, and the decision about a
month takes them into account. It continues with the months that were checked least recently.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from taxi_assets.assets.checks import MATCHES, NO_ROW_LOST, SUMMARY_WHOLE, held, same_month, summary_is_whole
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

Findings = dict[Month, dict[str, str]]
"""By month: the assets that differ from the lake, each with what differs."""


def audit(
    kind: TaxiKind,
    settings: Settings,
    months_status: MonthStatus,
    resources: Any,
    instance: dg.DagsterInstance,
    months: Sequence[Month],
    log: Callable[[str], object],
    report: Callable[[dg.AssetCheckEvaluation], object],
) -> Findings:
    """Measure the months in every sink that has them, report each outcome, and return what differs.

    A month that a sink has and this Dagster instance does not know of, because its history is another, is recorded as
    materialized.

    Raises:
        TaxiError: the lake or a sink cannot be read.
    """
    findings: Findings = {}
    recorded = months_status.read(months)
    known = {name: instance.get_materialized_partitions(asset) for name, asset in months_status.keys.items()}
    for done, (month, record) in enumerate(recorded.items(), 1):
        clean = reference(None, record.manifests, months_status.assets)
        if clean is None:
            continue
        for name, manifest in record.manifests.items():
            if month.key not in known[name]:
                _record_materialization(instance, months_status.keys[name], month, manifest.rows)
        outcomes = {}
        if record.manifests.get(months_status.assets.clean):
            lake = resources.clean_lake.measure(kind.table, month)
            outcomes["clean_trips", NO_ROW_LOST] = same_month(month, "the lake", clean, lake)[0]
        for sink in sinks(settings):
            if key(kind, sink.name).to_user_string() in record.manifests:
                found = getattr(resources, sink.io_manager).measure(kind.table, month)
                outcomes[sink.name, MATCHES.format(sink=sink.name)] = same_month(month, sink.name, clean, found)[0]
        if key(kind, "daily_summary").to_user_string() in record.manifests:
            summaries = held(resources.summary, kind, month)
            outcomes["daily_summary", SUMMARY_WHOLE] = summary_is_whole(kind, month, clean, summaries)[0]
        differing = _report(report, kind, month, outcomes)
        if differing:
            findings[month] = differing
        log(f"{month} ({done}/{len(recorded)}): {' '.join(differing.values()) or f'{len(outcomes)} places match.'}")
    return findings


def _report(
    report: Callable[[dg.AssetCheckEvaluation], object],
    kind: TaxiKind,
    month: Month,
    outcomes: Mapping[tuple[str, str], Sequence[str]],
) -> dict[str, str]:
    """Report the outcomes as evaluations of the assets' checks; return the assets that differ, with what differs."""
    differing = {}
    for (asset, check), problems in outcomes.items():
        text = " ".join(problems)
        if problems:
            differing[key(kind, asset).to_user_string()] = text
        report(
            dg.AssetCheckEvaluation(
                key(kind, asset),
                check,
                passed=not problems,
                description=text or None,
                blocking=True,
                partition=month.key,
            )
        )
    return differing


def _record_materialization(instance: dg.DagsterInstance, asset: dg.AssetKey, month: Month, rows: int) -> None:
    metadata = {ROW_COUNT: rows, "recorded_by": "audit"}
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=month.key, metadata=metadata))


def check_keys(kind: TaxiKind, settings: Settings) -> list[dg.AssetCheckKey]:
    """Return the checks that an audit evaluates in any case: one per sink."""
    return [dg.AssetCheckKey(key(kind, sink.name), MATCHES.format(sink=sink.name)) for sink in sinks(settings)]


def select(months_status: MonthStatus, checks: Sequence[dg.AssetCheckKey], limit: int) -> list[Month]:
    """Return the loaded months to audit next: those that were checked least recently, at most `limit`."""
    months = list(months_status.read())
    checked = months_status.history.last_checked(checks, months)
    return sorted(sorted(months, key=lambda month: (checked.get(month, 0), month))[:limit])


def repair_command(kind: TaxiKind, settings: Settings) -> str:
    """Return the command that loads again what differs."""
    return f"make audit REPAIR=1{kind_option(kind, settings)}"


def describe(findings: Findings, total: int, kind: TaxiKind, settings: Settings) -> str:
    """Return the outcome of an audit in one line."""
    texts = " ".join(text for differing in findings.values() for text in differing.values())
    remedy = "They are loaded again by the reconciliation." if settings.repair else (
        f"Load them again with `{repair_command(kind, settings)}`, or set TAXI_REPAIR=true."
    )  # fmt: skip
    return f"{len(findings)} of {total} audited months differ from the lake: {texts} {remedy}"


def measure_name(kind: TaxiKind) -> str:
    """Return the name of the op: it is one op in all jobs of a code location."""
    return f"measure_{kind.name}_months"


def audit_jobs(kinds: Iterable[TaxiKind], settings: Settings) -> list[dg.JobDefinition]:
    """Define the audit of each kind."""
    return [_audit_job(kind, settings) for kind in kinds]


class AuditConfig(dg.Config):
    """What to audit."""

    months: list[str] = Field([], description="Months, YYYY-MM; empty: those that were checked least recently.")


def _audit_job(kind: TaxiKind, settings: Settings) -> dg.JobDefinition:
    @dg.op(
        name=measure_name(kind),
        required_resource_keys=resource_keys(settings),
        description="Measures months in every sink, against the lake.",
    )
    def measure_months(context: dg.OpExecutionContext, config: AuditConfig) -> None:
        months_status = month_status(context.instance, None, kind, settings, context.resources)
        selected = [Month.parse(month) for month in config.months]
        months = selected or select(months_status, check_keys(kind, settings), settings.audit_months)
        findings = audit(
            kind,
            settings,
            months_status,
            context.resources,
            context.instance,
            months,
            context.log.info,
            context.log_event,  # ty: ignore[invalid-argument-type] - its annotation lacks evaluations, its code takes them
        )
        if findings:
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
