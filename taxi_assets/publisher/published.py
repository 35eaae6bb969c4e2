"""A file as its publisher offers it, and its address: how to show it without secrets, and how to request it.

Imports nothing heavy: sensors and settings use it without downloading anything.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from taxi_assets.core.errors import PermanentError


@dataclass(frozen=True)
class Published:
    """A file as its publisher offers it now.

    `location` is its address or path, without secrets. `version` is an identity if the publisher gives one (the ETag, the size
    and time of a local file): compare it for equality only. `size` is in bytes, `modified` in UTC.
    """

    location: str
    version: str | None
    size: int | None
    modified: dt.datetime | None

    @property
    def data_version(self) -> str | None:
        """The version, or the size and date; None if the publisher gives neither."""
        if self.version or self.modified is None:
            return self.version
        return f"{self.size} bytes of {self.modified.isoformat()}"

    def unchanged_since(self, other: Published) -> bool:
        """Return whether this is the same file as `other`; False if there is neither a version nor a date to compare."""
        if self.location != other.location:
            return False
        if self.version or other.version:
            return self.version == other.version and (self.size == other.size or None in (self.size, other.size))
        return None not in (self.modified, self.size) and (self.modified, self.size) == (other.modified, other.size)


@dataclass(frozen=True)
class Fetched:
    """A month, or a lookup, on local disk.

    `sha256` is of the file as published. `downloaded` is False when the local copy was still current or the source is a
    path; `generated` is True only for the sample.
    """

    path: Path
    published: Published
    sha256: str
    downloaded: bool
    generated: bool = False

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size if self.published.size is None else self.published.size


def redact(address: str) -> str:
    """Return the address without user, password, query and fragment, for messages and metadata.

    An `@` in the path hides everything before it as well, if that has a colon or another `@`: it may be a password.
    """
    shown = re.sub(r"(?<=//)(?=[^/?#]*@|.*[:@].*@).*@", "***@", address, flags=re.DOTALL)
    return re.sub(r"[?#].*", "?***", shown, flags=re.DOTALL)


def host(address: str) -> str:
    """Return the host and port of an address, for messages."""
    return urlsplit(redact(address)).netloc.removeprefix("***@")


def split_credentials(address: str) -> tuple[str, tuple[bytes, bytes] | None]:
    """Split an http(s) address into the address to request and the user and password in it.

    Raises:
        PermanentError: it is not a valid http(s) address.
    """
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # an invalid port raises
    except ValueError:
        valid = False
    if not valid:
        raise PermanentError(
            f"{redact(address)} is not an http(s) address; check TAXI_SOURCE (special characters in a password are "
            "written as %XX)."
        )
    credentials, separator, netloc = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    login = (unquote(user).encode(), unquote(password).encode()) if separator else None
    return parts._replace(netloc=netloc).geturl(), login
