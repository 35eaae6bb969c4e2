"""Writes the tables of data.md from the code they describe: `python docs/data_tables.py`. A test compares the two."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from taxi_assets.core.table import Column
from taxi_assets.datasets.encodings import CODES, NULL_TEXTS
from taxi_assets.datasets.eras import ALIASES, ERAS, FOR_HIRE_ALIASES, METER
from taxi_assets.datasets.rules import RULES, CleaningRules, Rule
from taxi_assets.datasets.schema import FHV, FHVHV, GREEN, KINDS, REJECT_COLUMNS, YELLOW
from taxi_assets.datasets.trips import TRIP_COLUMNS, trips
from taxi_assets.datasets.zones import ZONE_ID_COLUMNS, ZONES
from taxi_assets.publisher.rows import REASONS

PAGE = Path(__file__).with_name("data.md")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def schema() -> str:
    """The canonical columns of taxis, yellow first, then what green has more."""
    green = GREEN.columns[len(YELLOW.columns) :]
    return columns([*YELLOW.columns, *green], {column.name: " (green)" for column in green})


def fhv_schema() -> str:
    """The canonical columns of for-hire vehicles."""
    return columns(FHV.columns)


def fhvhv_schema() -> str:
    """The canonical columns of high-volume for-hire trips."""
    return columns(FHVHV.columns)


def columns(listed: Sequence[Column], notes: Mapping[str, str] = MappingProxyType({})) -> str:
    """Columns with what they mean."""
    return table(
        ("column", "type", "what it is", "a file must have it"),
        [(f"`{c.name}`{notes.get(c.name, '')}", c.type, c.description, "yes" if c.required else "") for c in listed],
    )


def eras() -> str:
    """Every era, with the header where it changes."""
    return table(
        ("dataset", "file", "months", "columns", "what is particular"),
        [
            (
                era.kind,
                era.publication,
                f"{era.first} to {era.last or 'now'}",
                str(len(era.header)),
                "; ".join([*era.oddities, *([types(era.types)] if era.types else [])]) or "",
            )
            for era in ERAS
        ],
    )


def types(columns: tuple[tuple[str, str], ...]) -> str:
    """`string: a, b`: the types that are not the common ones."""
    by_type = groupby(sorted(columns, key=lambda column: column[1]), key=lambda column: column[1])
    return "; ".join(f"{name}: {', '.join(f'`{column}`' for column, _ in group)}" for name, group in by_type)


def headers() -> str:
    """Every distinct header, exactly, with the first month and publication that has it."""
    first: dict[tuple[str, ...], str] = {}
    for era in ERAS:
        first.setdefault(era.header, f"{era.kind} {era.publication}, {era.first}")
    return "\n\n".join(f"{where}:\n\n```text\n{','.join(header)}\n```" for header, where in first.items())


def aliases() -> str:
    """Published names that differ from the canonical ones."""
    published: dict[tuple[str, str], list[str]] = {}
    for kind, names in (("taxis", ALIASES), ("for-hire", FOR_HIRE_ALIASES)):
        for alias, name in names.items():
            published.setdefault((kind, name.replace(METER, YELLOW.meter)), []).append(f"`{alias}`")
    return table(
        ("dataset", "canonical", "also published as"),
        [(kind, f"`{name}`", ", ".join(names)) for (kind, name), names in sorted(published.items())],
    )


def codes() -> str:
    """What texts stand for."""
    return table(
        ("column", "published", "stands for"),
        [
            (f"`{column}`", ", ".join(f"`{text}`" for text, value in texts.items() if value == code), f"`{code}`")
            for column, texts in CODES.items()
            for code in dict.fromkeys(texts.values())
        ],
    )


def reasons() -> str:
    """Why a row could not be read."""
    return table(("`reject_reason`", "when"), [(f"`{reason}`", text) for reason, text in REASONS.items()])


def rules() -> str:
    """The cleaning rules, in the order in which they apply, with their settings."""
    return table(
        ("`reject_reason`", "when", "setting", "default", "datasets"),
        [
            (
                f"`{rule.reason}`",
                rule.description,
                f"`{rule.variable}`" if rule.variable else "",
                default(rule),
                ", ".join(name for name, kind in KINDS.items() if rule.concerns(kind)),
            )
            for rule in RULES
        ],
    )


def default(rule: Rule) -> str:
    """The default of a rule's setting."""
    if rule.setting is None:
        return "always on"
    value = CleaningRules.model_fields[rule.setting].default
    return "unset" if value is None else str(value).lower()


def reject_fields() -> str:
    """The columns a raw month has besides the trip's."""
    return table(("column", "type", "what it is"), [(f"`{c.name}`", c.type, c.description) for c in REJECT_COLUMNS])


def zones() -> str:
    """The columns of the zone lookup."""
    return table(("column", "type", "what it is"), [(f"`{c.name}`", c.type, c.description) for c in ZONES.columns])


def zone_ids() -> str:
    """The columns that are added to trips with coordinates."""
    return table(("column", "type", "what it is"), [(f"`{c.name}`", c.type, c.description) for c in ZONE_ID_COLUMNS])


def nulls() -> str:
    """Texts that stand for no value."""
    return ", ".join(f"`{text}`" if text else "the empty field" for text in NULL_TEXTS)


def trip_columns() -> str:
    """The columns of the view `trips`, and where each dataset has them."""
    values = {table.kind: expressions for table, expressions in trips().parts}

    def shown(kind: str, name: str) -> str:
        value = values[kind].get(name, "")
        if isinstance(value, tuple):
            return f"`{value[0]}`, else `{value[1]}`"
        expression = re.sub(r"COALESCE\(([a-z_]+), 0\)", r"\1", value)
        return f"`{expression}`" if expression else "null"

    return table(
        ("column", "type", "what it is", *KINDS),
        [(f"`{c.name}`", c.type, c.description, *(shown(kind, c.name) for kind in KINDS)) for c in TRIP_COLUMNS],
    )


SECTIONS = {
    f.__name__: f
    for f in (schema, fhv_schema, fhvhv_schema, eras, headers, aliases, codes, reasons, rules, reject_fields)
} | {f.__name__: f for f in (zones, zone_ids, nulls, trip_columns)}


def rendered(page: str) -> str:
    """The page with what is between its `<!-- name -->` and `<!-- end -->` marks written anew."""

    def section(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{SECTIONS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", section, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
