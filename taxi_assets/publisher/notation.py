"""How a file writes the values of its columns of text, recognized in its first rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.publisher.columns import MatchedColumns
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.times import PUBLISHED_TIMES, TimeFormat, recognize_times

_POINT, _COMMA = re.compile(r"-?[0-9]*[.][0-9]+"), re.compile(r"-?[0-9]*,[0-9]+")


@dataclass(frozen=True)
class Notation:
    """How times and numbers are written. The default is the publisher's."""

    times: TimeFormat = PUBLISHED_TIMES
    decimal_comma: bool = False

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"times": str(self.times), "decimal_comma": self.decimal_comma}


PUBLISHED = Notation()


def recognize_notation(
    kind: TaxiKind,
    columns: MatchedColumns,
    samples: Mapping[str, list[str]],
    options: ReadOptions,
    every_text: Callable[[int], Iterator[pa.Array]],
) -> tuple[Notation, list[str]]:
    """Recognize how a file writes times and numbers; return that, and what stands in the way.

    Args:
        kind, columns: the file's.
        samples: the first texts of known columns, by canonical name.
        options: what decides between two readings.
        every_text: returns all texts of the column at a position, in pieces.
    """
    types = {name: kind.schema.field(name).type for name in samples}
    times, problems = PUBLISHED_TIMES, list[str]()
    if written := sorted(
        (name for name in samples if pt.is_timestamp(types[name])), key=lambda name: name != kind.pickup
    ):
        position = columns.known[written[0]]
        times, problems = recognize_times(
            columns.header[position], samples[written[0]], options, lambda: every_text(position)
        )
    numbers = [(name, text) for name in samples if pt.is_floating(types[name]) for text in samples[name]]
    points = any(_POINT.fullmatch(text) for _, text in numbers)
    comma = next(((name, text) for name, text in numbers if not points and _COMMA.fullmatch(text)), None)
    if comma and not options.decimal_comma:
        problems.append(
            f"has decimal commas ({comma[1]!r} in {columns.header[columns.known[comma[0]]]!r}); set TAXI_DECIMAL_COMMA=true to "
            "read them"
        )
    return Notation(times, options.decimal_comma and not points), problems
