"""Reads a lookup of the bases of for-hire vehicles; `lookups` fetches it, the columns are in `datasets.bases`."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.bases import BASES, HEADERS
from taxi_assets.datasets.encodings import LICENSE


def read_bases(path: Path) -> pa.Table:
    """Read a lookup as CSV into the columns of `BASES`, in the order of the numbers; of several rows of a base the last counts.

    Raises:
        PermanentError: the file is no such lookup: it is no CSV in UTF-8, lacks a column, or has no base.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unusable(path, f"cannot be read as CSV in UTF-8 ({error})") from None
    header = [name.strip().lower().replace(" ", "_") for name in rows[0]] if rows else []
    at = {
        name: next((header.index(alias) for alias in aliases if alias in header), None)
        for name, aliases in HEADERS.items()
    }
    if missing := [name for name in ("base_number", "base_name") if at[name] is None]:
        raise _unusable(path, f"has no column {' or '.join(missing)} (its header is {', '.join(header)[:200]!r})")
    bases: dict[str, dict[str, str | None]] = {}
    for row in rows[1:]:
        values = {
            name: row[place].strip() or None if place is not None and place < len(row) else None
            for name, place in at.items()
        }
        number = (values["base_number"] or "").upper()
        if LICENSE.fullmatch(number):
            bases[number] = values | {"base_number": number}
    if not bases:
        raise _unusable(path, "has no row with a base number (B and digits)")
    return pa.Table.from_pylist([bases[number] for number in sorted(bases)], BASES.schema)


def _unusable(path: Path, fault: str) -> PermanentError:
    return PermanentError(
        f"The lookup of bases {path} {fault}; name a CSV with the columns base_number and base_name in TAXI_FHV_BASES."
    )
