"""What a publisher offers, and how its address may be shown; light, for whoever only asks.

Asking is in `web`, fetching in `download`.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Published:
    """A file as its publisher offers it now.

    `location` is its address or path, without secrets; `version` an identity if the publisher gives one (the ETag;
    of a local file its size and time of change), compared for equality only, for it need not be a checksum; `size` is
    in bytes, `modified` in UTC.
    """

    location: str
    version: str | None
    size: int | None
    modified: dt.datetime | None

    def unchanged_since(self, other: Published) -> bool:
        """Whether this is what `other` was. With neither an identity nor a date nobody knows: then it is not."""
        if self.location != other.location:
            return False
        if self.version or other.version:
            return self.version == other.version and (self.size == other.size or None in (self.size, other.size))
        return None not in (self.modified, self.size) and (self.modified, self.size) == (other.modified, other.size)


def redact(address: str) -> str:
    """`address` as it may be shown and kept: without user, password, and what stands in its query."""
    return re.sub(r"\?.*", "?***", re.sub(r"(?<=//).*@", "***@", address))


def host(address: str) -> str:
    """The host of an address, for messages."""
    return urlsplit(redact(address)).netloc.removeprefix("***@")
