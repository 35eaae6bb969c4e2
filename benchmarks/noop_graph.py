"""A graph of the shape of ours that does nothing: what Dagster costs. Loaded by `launch`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from taxi_assets.terminal import terminal_logger

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2009-01-01")


class NoopIOManager(dg.ConfigurableIOManager):
    """Keeps nothing and hands out nothing."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Tell as much metadata as ours do."""
        context.add_output_metadata({"dagster/partition_row_count": 1, "path": "nowhere", "bytes": 1, "seconds": 0.0})

    def load_input(self, context: dg.InputContext) -> Any:
        """Nothing."""
        return 1


@dg.asset(partitions_def=MONTHS)
def raw_trips() -> int:
    return 1


@dg.multi_asset(
    partitions_def=MONTHS,
    ins={"raw_trips": dg.AssetIn()},
    outs={"clean_trips": dg.AssetOut(), "rejected_trips": dg.AssetOut()},
    name="clean_trips",
)
def clean_trips(raw_trips: Any) -> Iterator[dg.Output]:
    yield dg.Output(raw_trips, "clean_trips")
    yield dg.Output(raw_trips, "rejected_trips")


def _sink(name: str, upstream: str) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=MONTHS, ins={"trips": dg.AssetIn(upstream)})
    def deliver(trips: Any) -> Any:
        return trips

    return deliver


def _checks(asset: str, blocking: int, warnings: int) -> dg.AssetChecksDefinition:
    """The checks of an asset: one step, as ours."""
    names = [f"{asset}_{number}" for number in range(blocking + warnings)]

    @dg.multi_asset_check(
        name=f"{asset}_checks",
        specs=[
            dg.AssetCheckSpec(name, asset=asset, blocking=number < blocking, partitions_def=MONTHS)
            for number, name in enumerate(names)
        ],
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for name in names:
            passed = bool(context.op_execution_context.partition_keys)
            yield dg.AssetCheckResult(check_name=name, passed=passed, metadata={"rows": 1})

    return check


SINKS = {
    "postgres_table": "clean_trips",
    "gcs_parquet": "clean_trips",
    "gcs_partitioned": "clean_trips",
    "bq_table": "gcs_parquet",
}
CHECKS = [("raw_trips", 1, 3), ("clean_trips", 2, 1), *((sink, 1, 0) for sink in SINKS)]

defs = dg.Definitions(
    assets=[raw_trips, clean_trips, *(_sink(name, upstream) for name, upstream in SINKS.items())],
    asset_checks=[_checks(*each) for each in CHECKS],
    jobs=[dg.define_asset_job("load_month", selection="*")],
    resources={"io_manager": NoopIOManager()},
    loggers={"terminal": dg.LoggerDefinition(terminal_logger)},
    executor=dg.in_process_executor,
)
