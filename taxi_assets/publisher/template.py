"""Templates of addresses and paths: `/data/{kind}/{year}/{month_number}/trips.csv`."""

from __future__ import annotations

import re

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind

FIELDS = ("{month}", "{year}", "{month_number}", "{kind}")
"""What a template may contain: `2021-01`, `2021`, `01` and `yellow`."""


def unknown_fields(template: str) -> list[str]:
    """Return what stands in braces and is no field."""
    return sorted(set(re.findall(r"{[^{}]*}|[{}]", template)) - set(FIELDS))


def names_month(template: str) -> bool:
    """Return whether each month has a name of its own."""
    return "{month}" in template or ("{year}" in template and "{month_number}" in template)


def filled(template: str, kind: TaxiKind, month: Month) -> str:
    """Return the address or path of a month."""
    values = (str(month), f"{month.year:04}", f"{month.month:02}", kind.name)
    for name, value in zip(FIELDS, values, strict=True):
        template = template.replace(name, value)
    return template
