"""Execute a job in the process of a command."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import dagster as dg

from taxi_assets.cli.interrupts import Interrupts
from taxi_assets.core import run_tags


def changed_a_month(result: dg.ExecuteInProcessResult) -> bool:
    """Return whether the run materialized anything of a month; dimensions have no months."""
    return any(event.partition for event in result.get_asset_materialization_events())


def execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    starter: str,
    run_config: Mapping[str, Any],
    *,
    partition: str | None = None,
    tags: Mapping[str, str] | None = None,
    interrupts: Interrupts | None = None,
) -> dg.ExecuteInProcessResult:
    """Execute a job with its log on the terminal; a failure is in the result.

    The run's tags name the command that began it, `starter`, and this process, so that a killed one is recognized. A run that
    is ended by one of `interrupts` is recorded as canceled.
    """
    run_id = str(uuid.uuid4())

    def cancel() -> None:
        if (run := instance.get_run_by_id(run_id)) and not run.is_finished:
            instance.report_run_canceled(run, "Interrupted by Ctrl-C.")

    with interrupts.last_action(cancel) if interrupts else nullcontext():
        return job.execute_in_process(
            instance=instance,
            partition_key=partition,
            raise_on_error=False,
            run_config={"loggers": {"terminal": {}}, **run_config},
            tags={run_tags.STARTED_BY: starter, run_tags.PROCESS: run_tags.this_process(), **(tags or {})},
            run_id=run_id,
        )
