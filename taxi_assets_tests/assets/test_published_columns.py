"""The warning about columns that changed since the month before, by the names as published."""

from taxi_assets.assets.raw_warnings import changed_columns
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month

MONTH = Month(2025, 1)


def of(*header: str) -> Manifest:
    return Manifest(10, extra={"columns": {"header": list(header)}})


def test_the_same_columns_in_any_order_pass():
    problems, shown = changed_columns(MONTH, of("VendorID", "tip_amount"), of("tip_amount", "VendorID"))
    assert problems == []
    assert shown["compared_with"] == "2024-12"


def test_added_dropped_and_renamed_columns_are_named_and_are_one_cause():
    (sentence,), shown = changed_columns(
        MONTH, of("VendorID", "Airport_fee", "cbd_congestion_fee"), of("VendorID", "airport_fee")
    )
    assert sentence == (
        "2025-01: the published columns changed since 2024-12: 'Airport_fee', 'cbd_congestion_fee' added; 'airport_fee' dropped."
    )
    assert shown["causes"] == {"columns of 2025-01": sentence}


def test_without_the_month_before_or_its_record_there_is_nothing_to_compare():
    for before in (None, Manifest(10), Manifest(10, extra={"columns": {"known": ["vendorid"]}})):
        problems, shown = changed_columns(MONTH, of("VendorID"), before)
        assert problems == []
        assert shown["compared_with"].startswith("nothing")
