"""Matches the columns of a published file: known ones to their canonical names, new ones by their published names.

The publisher adds a column about once a year. A new one does not fail the month: its values are kept in the raw month,
and `raw_month` loads them if TAXI_NEW_COLUMNS is `add`, or when a later version knows the column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from taxi_assets.datasets.eras import ALIASES, ERAS, FOR_HIRE_ALIASES, IGNORED, METER, era_of, normalized
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
    `missing` are the canonical names of columns that other files of the month's era have and this one does not, `ignored` the
    published names of those that hold no trip data.
    """

    header: Sequence[str]
    known: Mapping[str, int]
    new: Mapping[str, int]
    missing: Sequence[str]
    ignored: Sequence[str] = ()

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
            "ignored": [*self.ignored],
            "changed_types": {**changed_types},
        }


def recorded_columns(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of the file's columns in a raw month's manifest; empty if an older version wrote it."""
    empty: dict[str, Any] = {"header": [], "known": [], "new": {}, "missing": [], "ignored": [], "changed_types": {}}
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
    name = normalized(published)
    return (ALIASES if kind.meter else FOR_HIRE_ALIASES).get(name, name).replace(METER, kind.meter)


def match_columns(
    file: SourceFile, names: Sequence[str], publication: Literal["csv", "parquet"], new_columns: NewColumns = "keep"
) -> MatchedColumns:
    """Match a file's header.

    Raises:
        PermanentError: a required column is missing, or the file belongs to another dataset; with `refuse` also when a
            column is unknown or duplicated.
    """
    kind, known, new = file.kind, dict[str, int](), dict[str, int]()
    if other := _other_kind(kind, names):
        raise file.error(other)
    era = era_of(kind.name, publication, str(file.month))
    published = era.header if era else ()
    expected = [canonical_name(name, kind) for name in published]
    ignored = [i for i, name in enumerate(names) if IGNORED.fullmatch(normalized(name))]
    positions = [i for i in range(len(names)) if i not in ignored]
    # of two columns of one name, the one in the publisher's spelling is the known one, else the first
    for position in sorted(positions, key=lambda i: names[i] not in published):
        name = canonical_name(names[position], kind)
        if name in kind.schema.names and name not in known:
            known[name] = position
            continue
        if new_columns == "refuse" and (name not in known or expected.count(name) < 2):  # as in FHV of 2018
            raise file.error(_why_refused(names, position, known.get(name), name))
        number, unique = 1, names[position]
        while unique in new or unique.lower() in kind.raw_schema.names:
            number += 1
            unique = f"{names[position]}_{number}"
        new[unique] = position
    if missing := [column.name for column in kind.columns if column.required and column.name not in known]:
        raise file.error(
            f"has no column for {', '.join(missing)} (its header is {_short(', '.join(names), 300)!r}); if the publisher "
            "renamed it, add the new name to ALIASES in taxi_assets.datasets.eras"
        )
    missing = [name for name in expected if name not in known]
    return MatchedColumns(names, known, new, missing, [names[i] for i in ignored if names[i].strip()])


def _other_kind(kind: TaxiKind, names: Sequence[str]) -> str | None:
    """Return the error for a header that belongs to another dataset, or None.

    It belongs to the dataset that published it. If none did, to the datasets of whose required columns it has all, and of those
    to the one with the most: a high-volume file has those of FHV, too. Where one is missing, the name of the pickup tells
    yellow from green.
    """
    lower = {normalized(name) for name in names}
    published = {era.kind for era in ERAS if {normalized(name) for name in era.header} == lower}
    required = {
        other: len(needed)
        for other in KINDS.values()
        if (needed := {column.name for column in other.columns if column.required})
        <= {canonical_name(name, other) for name in names}
    }
    found = (
        [KINDS[name] for name in published]
        or [other for other, count in required.items() if count == max(required.values())]
        or [other for other in KINDS.values() if other.meter and lower & {other.pickup, other.dropoff}]
    )
    if not found or kind in found:
        return None
    titles, names_ = " or ".join(other.title for other in found), [other.name for other in found]
    return (
        f"is a {titles} file by its columns; load it as {' or '.join(names_)} trips, with TAXI_KINDS={names_[0]} (make run "
        f"KIND={names_[0]}), or set TAXI_SOURCE to the {kind.name} file"
    )


def _why_refused(names: Sequence[str], position: int, first: int | None, name: str) -> str:
    if first is not None:
        both = " and ".join(repr(_short(names[i])) for i in sorted((first, position)))
        return f"has two columns for {name} ({both}); remove one of them"
    return (
        f"has a column that is not known, {_short(names[position])!r}; set TAXI_NEW_COLUMNS=keep to load the month without "
        f"it or add to load it too, or add one line to ALIASES (or to IGNORED) in taxi_assets.datasets.eras"
    )


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
