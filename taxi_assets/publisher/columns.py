"""Which column of a published file is which: known ones by their canonical name, new ones under their published name.

The publisher adds a column about once a year. A new one does not stop a month: its values stay in the raw month, and
`raw_month` hands them on when they are to be loaded (TAXI_NEW_COLUMNS), or when a later version knows the column.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from taxi_assets.datasets.eras import ALIASES, IGNORED, METER, Era, era_of
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.publisher.published import PublishedFile

NewColumns = Literal["keep", "add", "refuse"]
"""What happens to a column that this version does not know (TAXI_NEW_COLUMNS): it stays in the raw month only, it is also
added to every sink, or the file is refused."""


@dataclass(frozen=True)
class NewColumn:
    """A column that this version does not know, or the second one of a known name: its position and published name."""

    position: int
    published: str


@dataclass(frozen=True)
class MatchedColumns:
    """The columns of a file.

    `known` maps canonical names to positions in the header; `new` maps the names of columns in the raw month; `missing` are
    the canonical names of optional columns that other files of the month's era have and this one does not.
    """

    known: Mapping[str, int]
    new: Mapping[str, NewColumn] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def record(self, types: Mapping[str, str], changed_types: Mapping[str, list[str]]) -> dict[str, Any]:
        """What a raw month's manifest says of the file's columns, as JSON values.

        Args:
            types: the type of each new column.
            changed_types: expected and published type of each known column, by published name, where they differ.
        """
        new = {name: {"published": c.published, "type": types[name]} for name, c in self.new.items()}
        return {
            "known": list(self.known),
            "new": new,
            "missing": list(self.missing),
            "changed_types": dict(changed_types),
        }


def recorded_columns(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a raw month's manifest says of the file's columns; that of an older version of the package says nothing."""
    nothing: dict[str, Any] = {"known": [], "new": {}, "missing": [], "changed_types": {}}
    return manifest.get("columns") or nothing


def new_columns_of(kind: TaxiKind, manifest: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The raw month's columns that were not known when it was read, by name in the raw month: `published` name and `type`.

    The second column of a known name is none of them.
    """
    columns = recorded_columns(manifest)
    known = columns["known"]
    return {name: new for name, new in columns["new"].items() if canonical_name(new["published"], kind) not in known}


def to_load(kind: TaxiKind, new: Mapping[str, Mapping[str, str]], policy: NewColumns) -> list[str]:
    """Those of the new columns of a raw month that are loaded now: this version knows them, or the policy adds them."""
    known = {column.name for column in kind.columns}
    return [
        name
        for name, column in new.items()
        if canonical_name(column["published"], kind) in known or (policy == "add" and column["type"] != "null")
    ]


def canonical_name(published: str, kind: TaxiKind) -> str:
    """The canonical name of a published column, or the normalized name itself where no alias exists."""
    name = published.strip().lower()
    return ALIASES.get(name, name).replace(METER, kind.meter)


def match_columns(
    file: PublishedFile, names: Sequence[str], publication: Literal["csv", "parquet"], new_columns: NewColumns = "keep"
) -> MatchedColumns:
    """Match a file's header.

    Raises:
        PermanentError: a required column is missing, or the file is of another kind of taxi; with `refuse` also when a
            column is unknown or there twice.
    """
    era = era_of(file.kind.name, publication, str(file.month))
    known: dict[str, int] = {}
    new: dict[str, NewColumn] = {}
    taken = set(file.kind.raw_schema.names)
    positions = [i for i, name in enumerate(names) if not IGNORED.fullmatch(name.strip().lower())]
    exact = set(era.header) if era else set()
    # of two columns of one name, the one spelled as the publisher does is the known one, else the first
    for position in sorted(positions, key=lambda i: names[i] not in exact):
        published = names[position]
        name = canonical_name(published, file.kind)
        if name in file.kind.schema.names and name not in known:
            known[name] = position
            continue
        if new_columns == "refuse":
            raise file.refused(_why_refused(file.kind, names, position, known.get(name), name))
        unique = _unique(published, taken)
        taken.add(unique)
        new[unique] = NewColumn(position, published)
    if missing := [column.name for column in file.kind.columns if column.required and column.name not in known]:
        raise file.refused(_other_kind(file.kind, names) or _missing(names, missing))
    return MatchedColumns(known, new, _disappeared(file.kind, era, known))


def _disappeared(kind: TaxiKind, era: Era | None, known: Collection[str]) -> tuple[str, ...]:
    expected = [canonical_name(name, kind) for name in era.header] if era else []
    return tuple(name for name in expected if name not in known)


def _unique(name: str, taken: Collection[str]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique


def _other_kind(kind: TaxiKind, names: Sequence[str]) -> str | None:
    """Which other kind of taxi the header belongs to, in a sentence."""
    for other in KINDS.values():
        for published in (name.strip() for name in names):
            if other is not kind and published.lower() in (other.pickup, other.dropoff):
                return f"is a {other.name} taxi file, as its column {published!r} says; give the {kind.name} one"
    return None


def _missing(names: Sequence[str], missing: Sequence[str]) -> str:
    return (
        f"has no column for {', '.join(missing)} (its header is {_short(', '.join(names), 300)!r}); if the publisher "
        f"renamed it, add the new name to ALIASES in taxi_assets.datasets.eras"
    )


def _why_refused(kind: TaxiKind, names: Sequence[str], position: int, first: int | None, name: str) -> str:
    if first is not None:
        both = " and ".join(repr(_short(names[i])) for i in sorted((first, position)))
        return f"has two columns for {name} ({both}), and which of them is right cannot be told; remove one"
    return _other_kind(kind, names) or (
        f"has a column that is not known, {_short(names[position])!r}; set TAXI_NEW_COLUMNS=keep to load the month without "
        f"it or add to load it too, or add one line to ALIASES (or to IGNORED) in taxi_assets.datasets.eras"
    )


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
