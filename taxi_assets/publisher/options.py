"""How files are read that the settings describe: what a file does not show by itself.

Everything else is recognized in the file: see `docs/data.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from taxi_assets.datasets.eras import normalized

NewColumns = Literal["keep", "add", "refuse"]
"""What happens to a column unknown to this version (TAXI_NEW_COLUMNS): it is kept in the raw month only, it is also added
to every sink, or the file is rejected."""
DateOrder = Literal["mdy", "dmy"]
ZonedTimes = Literal["wall_clock", "convert"]


@dataclass(frozen=True)
class ReadOptions:
    """The settings about files.

    `aliases` are names that are known by others, and `ignored` patterns (`*`, `?`) of names, all as `normalized` returns them.
    `date_order` is that of dates like 05/06/2019 (TAXI_DATE_ORDER). `zoned_times` is what times with a zone are
    (TAXI_ZONED_TIMES): New York's wall clock that was labeled with it, or times to convert to New York's. `decimal_comma`:
    numbers are written 1,5 (TAXI_DECIMAL_COMMA).
    """

    new_columns: NewColumns = "keep"
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    date_order: DateOrder | None = None
    zoned_times: ZonedTimes | None = None
    decimal_comma: bool = False

    def ignores(self, name: str) -> bool:
        """Return whether a published column is one of those that are ignored."""
        return any(fnmatchcase(normalized(name), pattern) for pattern in self.ignored)


PUBLISHED_FILES = ReadOptions()
