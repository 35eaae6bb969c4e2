"""A bucket: named immutable objects, each replaced atomically, on the condition that no other writer was faster.

The interface has only what the bucket sinks need: `local_bucket.LocalBucket` implements it with a directory,
`gcs_bucket.GcsBucket` with Google Cloud Storage. It does not interpret the objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from taxi_assets.core.errors import PermanentError


class PreconditionFailed(Exception):
    """The object does not have the generation that the caller read: read again."""


class ObjectMissing(Exception):
    """There is no such object, or no longer of that generation."""


@dataclass(frozen=True)
class Stat:
    """What is known of an object: its size in bytes, and its generation, which every replacement changes.

    `metadata` is Google's; a directory keeps none.
    """

    name: str
    size: int
    generation: int
    metadata: Mapping[str, str] = field(default_factory=dict)


class Bucket(ABC):
    """Objects by name (`a/b/c.parquet`). `if_generation=0` means "must not exist", None "any state".

    Every method raises PermanentError or TransientError, with the name of the bucket, when the bucket cannot be used;
    then nothing was changed, unless only the response was lost.
    """

    is_local = False
    """Whether `download` is as cheap as a rename."""

    @abstractmethod
    def uri(self, name: str = "") -> str:
        """The URL or path of the object, for display and other programs."""

    @abstractmethod
    def put(
        self,
        name: str,
        path: Path,
        *,
        if_generation: int | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> Stat:
        """Make the object exactly the bytes of the file at `path`, in one step for every reader.

        Raises:
            PreconditionFailed: the object is not of generation `if_generation`.
        """

    @abstractmethod
    def stat(self, name: str) -> Stat | None:
        """The object as it is now; None when there is none."""

    @abstractmethod
    def open(self, name: str, generation: int | None = None) -> BinaryIO:
        """Read parts of an object: a seekable file that never mixes two generations.

        Raises:
            ObjectMissing: here or while reading.
        """

    @abstractmethod
    def download(self, name: str, path: Path, generation: int | None = None) -> None:
        """Download the complete object to a file at `path`, which must not exist and must not be written to.

        Raises:
            ObjectMissing: no file remains at `path`.
        """

    @abstractmethod
    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Remove the object; none there is no error.

        Raises:
            PreconditionFailed: the object is of another generation.
        """

    @abstractmethod
    def list(self, prefix: str) -> Iterator[Stat]:
        """The objects whose names start with `prefix`, by name."""


def checked_name(name: str) -> str:
    """`name`, if it is one that every bucket can keep and that stays inside it.

    Raises:
        PermanentError: it is empty, absolute, too long, or has an empty, hidden or `..` part.
    """
    parts = name.split("/")
    if any(not part or part.startswith(".") for part in parts) or not name.isprintable() or len(name.encode()) > 1024:
        raise PermanentError(
            f"{name!r} cannot name an object: write folder/file, without a leading '/', and no part empty or hidden."
        )
    return name
