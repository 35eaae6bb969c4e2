"""A bucket: named immutable objects, each replaced whole or not at all, on the condition that nobody was faster.

The interface is what the bucket sinks need and no more; `LocalBucket` keeps it with a directory, `gcs_bucket.GcsBucket`
with Google Cloud Storage. What objects mean is not known here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from taxi_assets.core.errors import PermanentError, TransientError, disk_full


class PreconditionFailed(Exception):
    """The object is not of the generation that the caller had seen: look again."""


class ObjectMissing(Exception):
    """There is no such object, or no longer of that generation."""


@dataclass(frozen=True)
class Stat:
    """What is known of an object: its size in bytes, and its generation, which every replacement changes.

    `crc32c` (base64) and `metadata` are Google's; a directory keeps neither.
    """

    name: str
    size: int
    generation: int
    crc32c: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class Bucket(ABC):
    """Objects by name (`a/b/c.parquet`). `if_generation=0` means "must not exist", None "whatever is there".

    Every method raises PermanentError or TransientError, in a sentence that names the bucket, when the bucket cannot be
    used; nothing is changed then, unless the answer alone was lost.
    """

    is_local = False
    """Whether `download` is as cheap as a rename."""

    @abstractmethod
    def uri(self, name: str = "") -> str:
        """The object's address, for people and other programs."""

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
        """Have the whole object as a file at `path`, which must not exist and must not be written to.

        Raises:
            ObjectMissing: nothing is left at `path`.
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


def open_bucket(location: str, key_file: Path | str | None = None) -> Bucket:
    """The bucket at `gs://name` (with Application Default Credentials or a service account's key file) or a directory.

    Raises:
        PermanentError: the location is neither, or there are no credentials.
    """
    scheme, separator, name = location.partition("://")
    if not separator:
        return LocalBucket(Path(location))
    if scheme != "gs" or not name.strip("/") or "/" in name.strip("/"):
        raise PermanentError(
            f"The bucket {location!r} is neither a directory nor gs://name; folders belong into the object's template."
        )
    from taxi_assets.sinks.storage.gcs_bucket import GcsBucket

    return GcsBucket.connect(name.strip("/"), key_file)


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


class LocalBucket(Bucket):
    """A directory used as a bucket.

    An object is written under a hidden name, flushed to disk and renamed. Preconditions are checked under a lock that
    the operating system drops with its process, held for the rename alone. Hidden files of killed writers are removed
    by whoever writes next: a living writer holds a lock on its own.

    An object's generation is made of its modification time, which is set to increase, and its inode. The directory
    must be on a file system that this machine's processes lock together (any local one).
    """

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self._hidden = root / ".bucket"

    def uri(self, name: str = "") -> str:
        """The file's absolute path."""
        return str(self.root.absolute() / name)

    def put(
        self,
        name: str,
        path: Path,
        *,
        if_generation: int | None = None,
        metadata: Mapping[str, str] | None = None,  # noqa: ARG002
        content_type: str | None = None,  # noqa: ARG002
    ) -> Stat:
        """See `Bucket.put`; metadata and content type are not kept."""
        target = self.root / checked_name(name)
        with self._explained(name), self._staged() as staged:
            with path.open("rb") as source:
                shutil.copyfileobj(source, staged, 1 << 20)
            staged.flush()
            os.fsync(staged.fileno())
            with self._locked():
                old = self._check(name, if_generation)
                stamp = max(time.time_ns(), old.st_mtime_ns + 1 if old else 0)
                os.utime(staged.name, ns=(stamp, stamp))
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(staged.name, target)
                new = _stat(name, os.fstat(staged.fileno()))
            _flush_folder(target.parent)
        return new

    def stat(self, name: str) -> Stat | None:
        """See `Bucket.stat`."""
        with self._explained(name):
            found = self._lstat(checked_name(name))
        return _stat(name, found) if found else None

    def open(self, name: str, generation: int | None = None) -> BinaryIO:
        """See `Bucket.open`."""
        with self._explained(name):
            try:
                file = (self.root / checked_name(name)).open("rb")
            except (FileNotFoundError, NotADirectoryError):
                raise ObjectMissing(name) from None
            if generation not in (None, _generation(os.fstat(file.fileno()))):
                file.close()
                raise ObjectMissing(f"{name} of generation {generation}")
            return file

    def download(self, name: str, path: Path, generation: int | None = None) -> None:
        """See `Bucket.download`; a hard link where the file system allows it, so no bytes are copied."""
        with self._explained(name), self.open(name, generation) as file:
            try:
                os.link(self.root / name, path)
            except OSError:  # another file system, one without hard links, or replaced this very moment
                with path.open("xb") as copy:
                    shutil.copyfileobj(file, copy, 1 << 20)
                return
            if os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
                path.unlink()
                raise ObjectMissing(f"{name} was replaced")

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """See `Bucket.delete`; folders left empty go too."""
        path = self.root / checked_name(name)
        with self._explained(name), self._locked():
            if self._lstat(name) is None:
                return
            self._check(name, if_generation)
            path.unlink()
            for folder in path.parents:
                if folder == self.root or any(folder.iterdir()):
                    _flush_folder(folder)
                    break
                folder.rmdir()

    def list(self, prefix: str) -> Iterator[Stat]:
        """See `Bucket.list`; hidden files are not objects."""
        start = self.root / prefix.rpartition("/")[0]
        with self._explained(prefix):
            for folder, folders, files in os.walk(start):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for file in sorted(files):
                    name = str(PurePosixPath(Path(folder, file).relative_to(self.root)))
                    if name.startswith(prefix) and not file.startswith(".") and (found := self._lstat(name)):
                        yield _stat(name, found)

    def _lstat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(self.root / name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _check(self, name: str, if_generation: int | None) -> os.stat_result | None:
        found = self._lstat(name)
        if if_generation not in (None, _generation(found) if found else 0):
            raise PreconditionFailed(name)
        return found

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Hold the bucket's lock: for threads, too, as every holder opens the file for itself."""
        self._hidden.mkdir(parents=True, exist_ok=True)
        with (self._hidden / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # explicitly: a forked child may still have the file open

    @contextmanager
    def _staged(self) -> Generator[BinaryIO]:
        """A hidden file to write to, locked as long as its writer lives; removed unless it was renamed."""
        path = self._hidden / f"{uuid.uuid4().hex}.writing"
        with self._locked():
            for other in self._hidden.glob("*.writing"):
                with suppress(FileNotFoundError, BlockingIOError), other.open("rb") as file:  # blocks: its writer lives
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    other.unlink()
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
        with file:
            try:
                yield file
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, name: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            what = f"{self.uri(name)} could not be used"
            if disk_full(error):
                raise PermanentError(f"{what}: the disk is full; free some space and run it again.") from error
            if isinstance(error, PermissionError):
                raise PermanentError(
                    f"{what}: {error.strerror}; give this user the right to read and write it."
                ) from error
            if isinstance(error, (NotADirectoryError, IsADirectoryError, FileExistsError)):
                raise PermanentError(f"{what}: {error.strerror} ({error.filename}); move it out of the way.") from error
            raise TransientError(
                f"{what}: {error.strerror or error}; see that its disk is there and run it again."
            ) from error


def _generation(found: os.stat_result) -> int:
    return found.st_mtime_ns ^ found.st_ino


def _stat(name: str, found: os.stat_result) -> Stat:
    return Stat(name, found.st_size, _generation(found))


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
