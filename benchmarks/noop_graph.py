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


def _check(asset: str, name: str, blocking: bool = True) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, blocking=blocking, partitions_def=MONTHS)
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=bool(context.op_execution_context.partition_keys), metadata={"rows": 1})

    return check


SINKS = {
    "postgres_table": "clean_trips",
    "gcs_parquet": "clean_trips",
    "gcs_partitioned": "clean_trips",
    "bq_table": "gcs_parquet",
}
CHECKS = [("raw_trips", "a"), ("clean_trips", "a"), ("clean_trips", "b"), *((sink, "a") for sink in SINKS)]
WARNINGS = [("raw_trips", "b"), ("raw_trips", "c"), ("clean_trips", "c")]

defs = dg.Definitions(
    assets=[raw_trips, clean_trips, *(_sink(name, upstream) for name, upstream in SINKS.items())],
    asset_checks=[
        *(_check(*names) for names in CHECKS),
        *(_check(*names, blocking=False) for names in WARNINGS),
    ],
    jobs=[dg.define_asset_job("load_month", selection="*")],
    resources={"io_manager": NoopIOManager()},
    loggers={"terminal": dg.LoggerDefinition(terminal_logger)},
    executor=dg.in_process_executor,
)
