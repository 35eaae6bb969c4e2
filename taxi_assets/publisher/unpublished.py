"""Months that are not published: that cannot be, are not yet, or are not at an address."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from taxi_assets.core.errors import NotPublishedYet, PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind

NEW_YORK = ZoneInfo("America/New_York")
LATE_MONTHS = 6
"""A month younger than this may not be published yet: TLC's lag is 47 to 105 days, median 51 (Last-Modified of 23 months)."""


def cannot_exist(kind: TaxiKind, month: Month) -> str | None:
    """Return why no publisher can have the month, or None; no request is sent."""
    if month.start > dt.datetime.now(NEW_YORK).replace(tzinfo=None):
        return f"{kind.name} {month} is in the future; choose a past month."
    first = Month(*kind.first_month)
    return f"{kind.name} {month} is before {first}, the first published month." if month < first else None


def not_published(kind: TaxiKind, month: Month, address: str = "", missing: str = "") -> PermanentError:
    """Return the error about a month that is not published at `address`, or whose local file is `missing`."""
    if reason := cannot_exist(kind, month):
        return PermanentError(reason)
    today = dt.datetime.now(NEW_YORK)
    if (today.year - month.year) * 12 + today.month - month.month <= LATE_MONTHS:
        return NotPublishedYet(
            missing
            or f"{kind.name} {month} is not published yet ({address}); the newest month is usually about two months old, so "
            "run it again later."
        )
    return PermanentError(
        missing or f"{kind.name} {month} is not published at {address}; check the month and TAXI_SOURCE."
    )
