"""`taxi-assets audit`: measures loaded months in every sink, and loads what differs again if that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from taxi_assets.assets.month_status import month_status, run_config
from taxi_assets.automation.audit import measure_name, repair_command
from taxi_assets.cli.backfill_worker import load_month
from taxi_assets.cli.execute import execute
from taxi_assets.cli.interrupts import Interrupts
from taxi_assets.cli.sinks import require_sinks
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.failures import run_failures
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.definitions import build_defs
from taxi_assets.keys import audit_name
from taxi_assets.resources import resources
from taxi_assets.settings import Settings
from taxi_assets.status.decide import count


def audit_months(
    settings: Settings, kind: TaxiKind, months: Sequence[Month], interrupts: Interrupts, *, repair: bool
) -> int:
    """Audit those of the months that are loaded, and return the exit code: 1 if one differs and was not loaded again.

    Raises:
        PermanentError: the lake or a sink cannot be read.
    """
    settings = settings.model_copy(update={"repair": repair})
    require_sinks(settings, kind, months[0])
    defs = build_defs(settings)
    graph = defs.get_repository_def().asset_graph
    with dg.DagsterInstance.get() as instance, dg.build_resources(resources(settings), instance) as opened:
        status = month_status(instance, graph, kind, settings, opened)
        loaded = [month for month in status.read() if month in set(months)]
        if not loaded:
            print("None of these months is loaded.")
            return 0
        differing = _audit(defs, instance, kind, loaded, interrupts)
        if differing and repair:
            for decision in status.decide({}, status.read(differing)):
                print(f"\nLoading {decision} ...", flush=True)
                assets = None if decision.assets is None else sorted(decision.assets)
                config = run_config(kind, decision)
                load_month(
                    instance, defs, kind, status, str(decision.month), assets, {}, config, "make audit", interrupts
                )
            differing = _audit(defs, instance, kind, differing, interrupts)
    if not differing:
        print(f"\nEvery sink has {count(len(loaded))} as the lake has them.")
        return 0
    advice = "see the messages above" if repair else f"load them again with {repair_command(kind, settings)}"
    print(f"\n{count(len(differing))} of {len(loaded)} differ from the lake; {advice}.")
    return 1


def _audit(
    defs: dg.Definitions, instance: dg.DagsterInstance, kind: TaxiKind, months: Sequence[Month], interrupts: Interrupts
) -> list[Month]:
    """Run the audit's job in this process; return the months that differ.

    Raises:
        PermanentError: the lake or a sink could not be read.
    """
    print(f"Measuring {count(len(months))} ...", flush=True)
    config = {"ops": {measure_name(kind): {"config": {"months": [str(month) for month in months]}}}}
    result = execute(defs.resolve_job_def(audit_name(kind)), instance, "make audit", config, interrupts=interrupts)
    evaluations = [
        entry.dagster_event.asset_check_evaluation_data
        for entry in instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if entry.dagster_event
    ]
    failed = {Month.parse(each.partition) for each in evaluations if not each.passed and each.partition}
    if not result.success and not failed:
        raise PermanentError(" ".join(run_failures(result)))
    return sorted(failed)
