"""Runs the month's job of a definitions module in this process, as `python -m taxi_assets run` does, or a part of it:

`python -m benchmarks.launch MODULE [--assets a,b] [--job NAME] [--months N]`
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import import_module
from typing import Any


def subset(job: Any, assets: set[Any]) -> Any:
    """The job with these of its assets and their checks."""
    graph = job.asset_layer.asset_graph  # the checks are named, as leaving them out would mean every check there is
    wanted = {key for key in graph.asset_check_keys if key.asset_key in assets}
    return job.get_subset(asset_selection=assets, asset_check_selection=wanted)


def check_seconds(result: Any) -> float:
    """The seconds that a run's check steps took, those without a materialization, by Dagster's own clock."""
    made = {event.step_key for event in result.all_events if event.event_type_value == "ASSET_MATERIALIZATION"}
    ended = [event for event in result.all_events if event.event_type_value == "STEP_SUCCESS"]
    return sum(event.step_success_data.duration_ms for event in ended if event.step_key not in made) / 1000


def main() -> int:
    """Run it; more than one month: one after another in this process, the seconds of each reported."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--assets", default="")
    parser.add_argument("--job", default="load_month")
    parser.add_argument("--months", type=int, default=1)
    asked = parser.parse_args()
    import dagster as dg

    from benchmarks.measure import report

    job = import_module(asked.module).defs.resolve_job_def(asked.job)
    assets = {dg.AssetKey(name) for name in asked.assets.split(",") if name}
    if assets:
        job = subset(job, assets)
    year, month = map(int, os.environ["BENCH_MONTH"].split("-"))
    seconds, checks = [], []
    with dg.DagsterInstance.get() as instance:
        for ahead in range(asked.months):
            started = time.monotonic()
            result = job.execute_in_process(
                partition_key=f"{year + (month - 1 + ahead) // 12}-{(month - 1 + ahead) % 12 + 1:02d}-01",
                instance=instance,
                raise_on_error=False,
                run_config={"loggers": {"terminal": {}}},
            )
            seconds.append(time.monotonic() - started)
            if not result.success:
                return 1
            checks.append(check_seconds(result))
    report(checks=sum(checks), first=seconds[0], later=sum(seconds[1:]) / max(len(seconds) - 1, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
