"""The product, whole and in parts. `python -m benchmarks.ours NAME` runs a part that needs no Dagster run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import inputs
from benchmarks.measure import Case

if TYPE_CHECKING:
    from taxi_assets.sinks.contract import WriteContext

LAUNCH = (sys.executable, "-m", "benchmarks.launch", "taxi_assets.definitions")
API_TO_POSTGRES = "raw_trips,clean_trips,rejected_trips,postgres_table"
SIX = f"{API_TO_POSTGRES},gcs_parquet,gcs_partitioned,bq_table"
"""The original's three pipelines as assets; clean_trips and rejected_trips are one."""
SINKS = ("postgres", "parquet_object", "day_folders", "warehouse")


def library_api_to_postgres() -> Callable[[], object]:
    """API to Postgres with our functions alone: fetch, read, clean, publish, load, and the same checks; no Dagster run."""
    from taxi_assets.assets import checks
    from taxi_assets.assets.publisher import Publisher
    from taxi_assets.core.month import Month
    from taxi_assets.core.staging import stage
    from taxi_assets.datasets.rules import CleaningRules
    from taxi_assets.datasets.schema import KINDS
    from taxi_assets.lake.cleaning import clean_month
    from taxi_assets.publisher.reader import open_trips
    from taxi_assets.resources import resources
    from taxi_assets.settings import load_settings

    settings, kind, month = load_settings(), KINDS["yellow"], Month.parse(inputs.MONTH)
    managers = resources(settings)
    publisher: Publisher = managers["publisher"]

    def passed(problems: checks.Problems) -> None:
        if problems[0]:
            raise SystemExit(" ".join(problems[0]))

    def work() -> None:
        fetched = publisher.open().fetch(kind, month, settings.home_folder / "downloads")
        with stage(settings.staging_folder, month, kind.raw_schema, kind.table, "raw", "lz4") as writer:
            for batch in open_trips(fetched.path, kind, month).batches:
                writer.write(batch)
            writer.extra = {"source": "benchmark", "location": "local", "version": fetched.sha256, "generated": True}
            staged = writer.close()
        raw_lake, clean_lake, rejected_lake = (managers[f"{layer}_lake"] for layer in ("raw", "clean", "rejected"))
        raw_lake.replace(kind.table, staged, _writing())
        raw = raw_lake.read(kind.table, month)
        passed(checks.raw_has_rows(kind, month, raw))
        clean, rejected = clean_month(raw, kind, CleaningRules(), settings.staging_folder)
        clean_lake.replace(kind.table, clean, _writing())
        rejected_lake.replace(kind.table, rejected, _writing())
        clean = clean_lake.read(kind.table, month)
        passed(checks.clean_is_clean(kind, month, clean))
        passed(checks.nothing_lost(month, raw.manifest, clean.manifest, rejected_lake.measure(kind.table, month)))
        managers["postgres"].replace(kind.table, clean, _writing())
        passed(checks.same_month(month, "postgres", clean.manifest, managers["postgres"].measure(kind.table, month)))

    return work


def sink(name: str) -> Callable[[], object]:
    """One sink's replace alone, of a clean month that lies on disk."""
    import taxi_assets.sinks.day_folders.split  # noqa: F401 - Arrow and NumPy in memory, as for the floors
    from taxi_assets.core.month import Month
    from taxi_assets.core.month_file import MonthFile
    from taxi_assets.datasets.schema import KINDS
    from taxi_assets.resources import resources
    from taxi_assets.settings import load_settings

    settings, kind = load_settings(), KINDS["yellow"]
    managers = resources(settings)
    manager, clean = managers[name], MonthFile(Path(inputs.CLEAN), Month.parse(inputs.MONTH))
    if name == "warehouse" and settings.bigquery_project:  # which loads the object that parquet_object has written
        clean = managers["parquet_object"].read(kind.table, clean.month)
    if name == "postgres":  # a running server and a driver in memory, as for the floor
        import pgpq  # noqa: F401

        manager.measure(kind.table, clean.month)
    return lambda: manager.replace(kind.table, clean, _writing())


def _writing() -> WriteContext:
    import uuid

    from taxi_assets.sinks.contract import WriteContext

    return WriteContext("benchmark", uuid.uuid4().hex[:12], lambda _: None, {})


def _part(name: str, what: str) -> Case:
    return Case(name, what, (sys.executable, "-m", "benchmarks.ours", name), inside=True)


CASES = [
    Case("api_to_postgres", "API to Postgres in Dagster, process start and checks included: raw, clean and rejected "
         "trips, postgres_table.", (*LAUNCH, "--assets", API_TO_POSTGRES)),
    _part("library_api_to_postgres", "The same with our functions alone, without a Dagster run."),
    *(_part(f"sink_{name}", f"The {name} sink alone: its whole replace of a clean month on disk.") for name in SINKS),
    Case("graph", "The six assets from API to warehouse with all checks, process start included.",
         (*LAUNCH, "--assets", SIX)),
    Case("graph_unreadable", "The six assets with all checks, of the same month with its unreadable lines.",
         (*LAUNCH, "--assets", SIX), folder="damaged/"),
    Case("job", "The job load_month, all of it: the six assets, what is made of them (daily summary, report), all checks.",
         LAUNCH),
    Case("import_package", "Start Python and import taxi_assets.definitions.",
         (sys.executable, "-c", "import taxi_assets.definitions")),
]  # fmt: skip


if __name__ == "__main__":
    from benchmarks.floors import timed

    asked = sys.argv[1]
    timed(library_api_to_postgres() if asked == "library_api_to_postgres" else sink(asked.removeprefix("sink_")))
    os._exit(0)
