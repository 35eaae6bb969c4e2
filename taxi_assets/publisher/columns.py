"""Matches the columns of a published file: known ones to their canonical names, new ones by their published names.

The publisher adds a column about once a year. A new one does not fail the month: its values are kept in the raw month,
and `raw_month` loads them if TAXI_NEW_COLUMNS is `add`, or when a later version knows the column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from taxi_assets.datasets.eras import ALIASES, IGNORED, METER, era_of
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.publisher.source_file import SourceFile

NewColumns = Literal["keep", "add", "refuse"]
"""What happens to a column unknown to this version (TAXI_NEW_COLUMNS): it is kept in the raw month only, it is also added
to every sink, or the file is rejected."""


@dataclass(frozen=True)
class MatchedColumns:
    """The columns of a file.

    `header` has their published names, blanks included. `known` maps canonical names, and `new` the names of columns in
    the raw month, to positions in the header. A new column is unknown to this version, or the second one of a known name.
    `missing` are the canonical names of columns that other files of the month's era have and this one does not.
    """

    header: Sequence[str]
    known: Mapping[str, int]
    new: Mapping[str, int]
    missing: Sequence[str]

    def record(self, types: Mapping[str, str], changed_types: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the record of the file's columns in a raw month's manifest, as JSON values.

        Args:
            types: the type of each new column.
            changed_types: expected and actual type family of each known column, by published name, where they differ.
        """
        new = {name: {"published": self.header[i], "type": types[name]} for name, i in self.new.items()}
        return {
            "header": [*self.header],
            "known": [*self.known],
            "new": new,
            "missing": [*self.missing],
            "changed_types": {**changed_types},
        }


def recorded_columns(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of the file's columns in a raw month's manifest; empty if an older version wrote it."""
    empty: dict[str, Any] = {"header": [], "known": [], "new": {}, "missing": [], "changed_types": {}}
    return {**empty, **(manifest.get("columns") or {})}


def new_columns_of(kind: TaxiKind, manifest: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the `published` name and `type` of a raw month's new columns, by name in the raw month.

    Columns unknown to the version that wrote it are new; the second column of a known name is not.
    """
    columns = recorded_columns(manifest)
    known = columns["known"]
    return {name: new for name, new in columns["new"].items() if canonical_name(new["published"], kind) not in known}


def to_load(kind: TaxiKind, new: Mapping[str, Mapping[str, str]], policy: NewColumns) -> list[str]:
    """Return which new columns of a raw month are loaded: this version knows them, or the policy adds them."""
    known = {column.name for column in kind.columns}
    return [
        name
        for name, column in new.items()
        if canonical_name(column["published"], kind) in known or (policy == "add" and column["type"] != "null")
    ]


def canonical_name(published: str, kind: TaxiKind) -> str:
    """Return the canonical name of a published column; the normalized name if it has no alias."""
    name = published.strip().lower()
    return ALIASES.get(name, name).replace(METER, kind.meter)


def match_columns(
    file: SourceFile, names: Sequence[str], publication: Literal["csv", "parquet"], new_columns: NewColumns = "keep"
) -> MatchedColumns:
    """Match a file's header.

    Raises:
        PermanentError: a required column is missing, or the file belongs to another dataset; with `refuse` also when a
            column is unknown or duplicated.
    """
    kind, known, new = file.kind, dict[str, int](), dict[str, int]()
    era = era_of(kind.name, publication, str(file.month))
    published = era.header if era else ()
    positions = [i for i, name in enumerate(names) if not IGNORED.fullmatch(name.strip().lower())]
    # of two columns of one name, the one in the publisher's spelling is the known one, else the first
    for position in sorted(positions, key=lambda i: names[i] not in published):
        name = canonical_name(names[position], kind)
        if name in kind.schema.names and name not in known:
            known[name] = position
            continue
        if new_columns == "refuse":
            raise file.error(_why_refused(kind, names, position, known.get(name), name))
        number, unique = 1, names[position]
        while unique in new or unique in kind.raw_schema.names:
            number += 1
            unique = f"{names[position]}_{number}"
        new[unique] = position
    if missing := [column.name for column in kind.columns if column.required and column.name not in known]:
        raise file.error(
            _other_kind(kind, names)
            or f"has no column for {', '.join(missing)} (its header is {_short(', '.join(names), 300)!r}); if the publisher "
            "renamed it, add the new name to ALIASES in taxi_assets.datasets.eras"
        )
    expected = [canonical_name(name, kind) for name in published]
    return MatchedColumns(names, known, new, [name for name in expected if name not in known])


def _other_kind(kind: TaxiKind, names: Sequence[str]) -> str | None:
    """Return the error for a header that belongs to another dataset, or None."""
    for other in KINDS.values():
        for name in names:
            if other is not kind and name.strip().lower() in (other.pickup, other.dropoff):
                return (
                    f"is a {other.name} file (it has the column {name.strip()!r}); load it as {other.name} trips, with "
                    f"TAXI_KINDS={other.name} (make run KIND={other.name}), or set TAXI_SOURCE to the {kind.name} file"
                )
    return None


def _why_refused(kind: TaxiKind, names: Sequence[str], position: int, first: int | None, name: str) -> str:
    if first is not None:
        both = " and ".join(repr(_short(names[i])) for i in sorted((first, position)))
        return f"has two columns for {name} ({both}); remove one of them"
    return _other_kind(kind, names) or (
        f"has a column that is not known, {_short(names[position])!r}; set TAXI_NEW_COLUMNS=keep to load the month without "
        f"it or add to load it too, or add one line to ALIASES (or to IGNORED) in taxi_assets.datasets.eras"
    )


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
