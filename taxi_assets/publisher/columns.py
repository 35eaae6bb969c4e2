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
from taxi_assets.publisher.options import PUBLISHED_FILES, NewColumns, ReadOptions
from taxi_assets.publisher.source_file import SourceFile


@dataclass(frozen=True)
class MatchedColumns:
    """The columns of a file.

    `header` has their published names. `known` maps canonical names, and `new` the names of columns in the raw month, to
    positions in it. A new column is unknown to this version, or the second one of a known name. `missing` are the canonical
    names of those that the month's era has besides, `ignored` the published names of those that hold no trip data, `problems`
    what stands in the way of reading the file.
    """

    header: Sequence[str]
    known: Mapping[str, int]
    new: Mapping[str, int]
    missing: Sequence[str]
    ignored: Sequence[str] = ()
    problems: Sequence[str] = ()

    def record(self, types: Mapping[str, str], changed_types: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the record of the file's columns in a raw month's manifest, as JSON values.

        `types` are those of new columns, `changed_types` the expected and actual type families of known ones that differ.
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


def written(columns: Mapping[str, Any]) -> str:
    """Return how a file was written, for the log."""
    how = columns["written"]
    header = "" if how.get("header", True) else ", without a header"
    separated = f", separated by {how['separator']!r}" if "separator" in how else ""
    comma = ", numbers with decimal commas" if how["decimal_comma"] else ""
    return f"{how['format']}{header}{separated}, times {how['times']}{comma}"


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


def canonical_name(published: str, kind: TaxiKind, aliases: Mapping[str, str] = PUBLISHED_FILES.aliases) -> str:
    """Return the canonical name of a published column; the normalized name if it has no alias."""
    name = normalized(published)
    name = aliases.get(name, name)
    return (ALIASES if kind.meter else FOR_HIRE_ALIASES).get(name, name).replace(METER, kind.meter)


def partition_columns(file: SourceFile, names: Sequence[str]) -> list[str]:
    """Return the columns of a trip that the file's Hive partition has, and its own `names` have not."""
    missing = set(file.kind.schema.names).difference(canonical_name(name, file.kind) for name in names)
    return [folder for folder in file.parts[0].partition if canonical_name(folder, file.kind) in missing]


def match_columns(
    file: SourceFile,
    names: Sequence[str],
    publication: Literal["csv", "parquet"],
    options: ReadOptions = PUBLISHED_FILES,
) -> MatchedColumns:
    """Match a file's header.

    Its problems: a required column is missing; with `refuse`, a column is unknown or duplicated.

    Raises:
        PermanentError: the file belongs to another dataset.
    """
    kind, known, new = file.kind, dict[str, int](), dict[str, int]()
    problems, unknown = list[str](), list[str]()
    if (kinds := kinds_of(names, options)) and kind not in kinds:
        raise file.error(of_another_kind(kind, kinds, "columns"))
    era = era_of(kind.name, publication, str(file.month))
    published = era.header if era else ()
    expected = [canonical_name(name, kind) for name in published]
    ignored = [i for i, name in enumerate(names) if IGNORED.fullmatch(normalized(name)) or options.ignores(name)]
    positions = [i for i in range(len(names)) if i not in ignored]
    # of two columns of one name, the one in the publisher's spelling is the known one, else the first
    for position in sorted(positions, key=lambda i: names[i] not in published):
        name = canonical_name(names[position], kind, options.aliases)
        if name in kind.schema.names and name not in known:
            known[name] = position
            continue
        if options.new_columns == "refuse" and (name not in known or expected.count(name) < 2):  # as in FHV of 2018
            if name in known:
                both = " and ".join(repr(_short(names[i])) for i in sorted((known[name], position)))
                problems.append(
                    f"has two columns for {name} ({both}); remove one of them, or set TAXI_NEW_COLUMNS=keep to load one"
                )
            else:
                unknown.append(repr(_short(names[position])))
        number, unique = 1, names[position]
        while unique in new or unique.lower() in kind.raw_schema.names:
            number += 1
            unique = f"{names[position]}_{number}"
        new[unique] = position
    if unknown:
        problems.append(_not_known(unknown))
    if missing := [column.name for column in kind.columns if column.required and column.name not in known]:
        problems.insert(
            0,
            f"has no column for {', '.join(missing)} (its header is {_short(', '.join(names), 300)!r}); if it has another name "
            f"there, set TAXI_COLUMN_ALIASES=<that name>={missing[0]}",
        )
    missing = [name for name in expected if name not in known]
    return MatchedColumns(names, known, new, missing, [names[i] for i in ignored if names[i].strip()], problems)


def kinds_of(names: Sequence[str], options: ReadOptions = PUBLISHED_FILES) -> list[TaxiKind]:
    """Return the datasets that a header can belong to; none if it has not the columns of any.

    It belongs to the dataset that published it; else to those with all their required columns in it, of them the one with the
    most (a high-volume file has those of FHV, too), then the one that knows more of its columns. Where a required one is
    missing, the name of the pickup tells yellow from green; else it is the one that knows most columns, at least half of them.
    """
    lower = {normalized(name) for name in names}
    published = {era.kind for era in ERAS if {normalized(name) for name in era.header} == lower}
    complete, known = {}, {}
    for kind in KINDS.values():
        columns = {canonical_name(name, kind, options.aliases) for name in names}
        required = {column.name for column in kind.columns if column.required}
        known[kind] = len(columns.intersection(kind.schema.names))
        if required <= columns:
            complete[kind] = (len(required), known[kind])
    return (
        [KINDS[name] for name in published]
        or [kind for kind, counts in complete.items() if counts == max(complete.values())]
        or [kind for kind in KINDS.values() if kind.meter and lower & {kind.pickup, kind.dropoff}]
        or [kind for kind, count in known.items() if count == max(known.values()) and 2 * count > len(names)]
    )


def of_another_kind(kind: TaxiKind, found: Sequence[TaxiKind], by: Literal["columns", "values"]) -> str:
    """Return the error for a file of other datasets than `kind`."""
    titles, names = " or ".join(other.title for other in found), [other.name for other in found]
    return (
        f"is a {titles} file by its {by}; load it as {' or '.join(names)} trips, with TAXI_KINDS={names[0]} (make run "
        f"KIND={names[0]}), or set TAXI_SOURCE to the {kind.name} file"
    )


def _not_known(names: Sequence[str]) -> str:
    """Return what stands in the way of a file with columns that `refuse` does not allow."""
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    what, them = ("a column that is", "it") if len(names) == 1 else ("columns that are", "them")
    return (
        f"has {what} not known, {shown}; set TAXI_NEW_COLUMNS=keep to load the month without {them} or add to load {them} too, "
        f"or add {them} to TAXI_COLUMN_ALIASES or TAXI_IGNORED_COLUMNS"
    )


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
