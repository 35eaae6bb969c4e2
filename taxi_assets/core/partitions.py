"""Partitions: months since 2009, and days within them."""

import dagster as dg

from taxi_assets.datasets.schema import TaxiKind


def monthly(kind: TaxiKind) -> dg.MonthlyPartitionsDefinition:
    """Every month from the kind's first to the current one.

    Months are published about two months late (TLC; median 51 days). They are partitions all the same, so that a month that
    appears early needs no change here; asking for one that is not published yet is one clear error.
    """
    year, month = kind.first_month
    return dg.MonthlyPartitionsDefinition(
        start_date=f"{year}-{month:02d}-01", timezone="America/New_York", end_offset=0
    )


def daily(kind: TaxiKind) -> dg.DailyPartitionsDefinition:
    """Every day from the kind's first month on."""
    year, month = kind.first_month
    return dg.DailyPartitionsDefinition(start_date=f"{year}-{month:02d}-01", timezone="America/New_York")
