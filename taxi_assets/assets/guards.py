"""Refuses a month that would replace a loaded one by much less, or real trips by generated ones, before it is published."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import dagster as dg
from pydantic import Field

from taxi_assets.core.errors import PermanentError, TaxiError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import TaxiKind

MOST_SHRINKING = 0.1
"""Share of its rows that a month may lose when it is loaded again."""


class Replacing(dg.Config):
    """What raw_trips may replace. By default a month may not lose more than a tenth of its rows, nor become generated."""

    accept_smaller: bool = Field(
        False, description="Load a month although it has over 10 % fewer rows than are loaded."
    )
    replace_real: bool = Field(False, description="Replace real trips by generated ones (TAXI_SOURCE=sample).")


def loaded_month(kind: TaxiKind, month: Month, resources: Any, sinks: Iterable[str]) -> Manifest | None:
    """Return the manifest of the raw month in the lake; if the lake does not have it, of a sink; None if it is not loaded.

    `resources` has the lake and the IO managers named in `sinks` as attributes. A sink that cannot be read is left out: its
    own step reports why.
    """
    if raw := resources.raw_lake.manifest(kind.raw_table, month):
        return raw
    for sink in sinks:
        with suppress(TaxiError):
            if manifest := getattr(resources, sink).manifest(kind.table, month):
                return manifest
    return None


def require_replaceable(raw: MonthFile, loaded: Manifest | None, kind: TaxiKind, allowed: Replacing) -> None:
    """Compare a staged raw month with the loaded one.

    Raises:
        PermanentError: it must not replace the loaded month; nothing was changed.
    """
    if loaded is None:
        return
    where, rows = f"{raw.month}: nothing was changed, because", loaded.extra.get("raw_rows", loaded.rows)
    generated = bool(raw.manifest.extra["generated"])
    was_generated = bool(loaded.extra.get("generated"))
    if generated and not was_generated and not allowed.replace_real:
        source = loaded.extra.get("location", "the publisher")
        raise PermanentError(
            f"{where} {rows:,} real {kind.name} trips from {source} are loaded, and "
            "TAXI_SOURCE=sample would replace them by generated ones; choose another TAXI_SOURCE, or allow it with "
            "--replace-real (run config of raw_trips: replace_real)."
        )
    if generated == was_generated and raw.rows < (1 - MOST_SHRINKING) * rows and not allowed.accept_smaller:
        cut = " Its last line is incomplete: the file looks cut off." if _ends_in_a_cut_line(raw) else ""
        raise PermanentError(
            f"{where} the file has {raw.rows:,} rows, {100 - 100 * raw.rows / rows:.0f} % fewer than the {rows:,} that are "
            f"loaded.{cut} Compare the file with the publisher's; if it is right, load it with --accept-smaller (run config of "
            "raw_trips: accept_smaller)."
        )


def _ends_in_a_cut_line(raw: MonthFile) -> bool:
    last = deque(raw.batches(["reject_reason"]), maxlen=1)
    return bool(last) and last[0].num_rows > 0 and last[0].column(0)[-1].is_valid
