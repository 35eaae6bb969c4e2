"""What all assets share: metadata, the backfill policy, and how they report progress."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from taxi_assets.core.failures import RETRY
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.table import Table
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import CODE_VERSION, INGEST, OWNERS, REPORTS, group, monthly, prefix
from taxi_assets.publisher.published import Fetched
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import table_metadata

Months = MonthFile | list[MonthFile]
"""What flows between assets: a month, or the months of a run over several."""
MONTHS = dg.DagsterType(
    lambda _, value: (
        isinstance(value, MonthFile) or (isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)))
    ),
    "Months",
    description="A month's file, or the files of several months in a run over several (a list, or an iterator when they are "
    "passed on one by one).",
)
"""Their type in the graph."""
FOLLOW_MONTHS = dt.timedelta(days=31 * 13)
"""How far back sinks follow clean_trips by conditions: a year of corrections, and the publisher's delay."""


def each(months: Months) -> list[MonthFile]:
    """Return the months as a list."""
    return months if isinstance(months, list) else [months]


def labels(kind: TaxiKind, group_name: str, layer: str) -> dict[str, Any]:
    """How the UI shows an asset of a kind of taxi, as arguments of `dg.asset` and `dg.AssetOut`."""
    return {
        "group_name": group(kind, group_name),
        "owners": OWNERS,
        "code_version": CODE_VERSION,
        "tags": {"taxi": kind.name, "layer": layer},
    }


def monthly_asset(kind: TaxiKind, name: str, settings: Settings, group_name: str, layer: str) -> dict[str, Any]:
    """The arguments of `dg.asset` that are the same for every asset whose partitions are months."""
    return {
        "name": name,
        "key_prefix": prefix(kind),
        "partitions_def": monthly(kind),
        "retry_policy": RETRY,
        "backfill_policy": backfill_policy(settings),
        "automation_condition": follow_upstream(kind, group_name) if settings.automation == "declarative" else None,
        **labels(kind, group_name, layer),
    }


def backfill_policy(settings: Settings) -> dg.BackfillPolicy | None:
    """The backfill policy: the number of months per run of a backfill.

    None is Dagster's default, one run per month. `multi_run(1)` would create runs over ranges of one month, without the
    month's tag and with checks that belong to no month.
    """
    if settings.months_per_run == "1":
        return None
    if settings.months_per_run == "all":
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=int(settings.months_per_run))


def follow_upstream(kind: TaxiKind, group_name: str) -> dg.AutomationCondition | None:
    """The condition of sinks and reports: the upstream month is newer, complete, and passed its blocking checks.

    `eager()` alone considers only the latest time window, a month that is not published yet, and ignores checks. Reports follow
    the sinks, which have the clean month later than the lake.
    """
    if group_name == INGEST:
        return None
    window = dg.AutomationCondition.in_latest_time_window
    condition = (
        dg.AutomationCondition.eager().replace(window(), window(FOLLOW_MONTHS))
        & dg.AutomationCondition.all_deps_blocking_checks_passed()
    )
    if group_name == REPORTS:
        condition = condition.ignore(dg.AssetSelection.groups(group(kind, INGEST)))
    return condition.with_label("follow clean_trips")


def metadata(table: Table, upstream: dg.AssetKey | None = None) -> Mapping[str, Any]:
    """Definition metadata of an asset that keeps months; `upstream` has the same columns, and they come from there."""
    same = {name: (name,) for name in table.names}
    return {**table_metadata(table), **({"dagster/column_lineage": lineage(upstream, same)} if upstream else {})}


def lineage(upstream: dg.AssetKey, columns: Mapping[str, Sequence[str]]) -> dg.TableColumnLineage:
    """The column lineage: the columns of `upstream` from which each column is computed."""
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(upstream, source) for source in sources] for name, sources in columns.items()}
    )


def origin(source: str, fetched: Fetched) -> dict[str, Any]:
    """What manifests record of the file that `source` published."""
    return {
        "source": source,
        "location": fetched.published.location,
        "sha256": fetched.sha256,
        "generated": fetched.generated,
        "code_version": CODE_VERSION,
    }


def add_seconds(context: dg.AssetExecutionContext, asset: dg.AssetKey, month: Month, **seconds: float) -> None:
    """Add how long the month's stages took to its metadata; publishing it is `seconds`, from its IO manager."""
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    context.add_asset_metadata(rounded, asset_key=asset, partition_key=month.key)


class RateLimiter:
    """Logs a line at most every few seconds, so that long work shows its progress and short work stays quiet."""

    seconds = 3.0
    """Seconds between two lines; less at a terminal, which draws them as a bar."""

    def __init__(self, log: Callable[[str], Any]) -> None:
        self._log, self._last = log, time.monotonic()

    def __call__(self, line: Callable[[], str]) -> None:
        """Log `line()` if it is time."""
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            self._log(line())


def share(done: float, total: float | None) -> str:
    """`37 %`, or nothing when the total is not known."""
    return f" ({100 * done / total:.0f} %)" if total else ""
