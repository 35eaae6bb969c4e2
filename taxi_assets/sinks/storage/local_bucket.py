"""A directory used as a bucket."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from taxi_assets.core.errors import PermanentError, TransientError, disk_full
from taxi_assets.core.folders import flush
from taxi_assets.core.locks import file_lock, try_lock
from taxi_assets.sinks.storage.bucket import Bucket, ObjectMissing, PreconditionFailed, Stat, checked_name


class LocalBucket(Bucket):
    """A directory used as a bucket.

    An object is written under a hidden name, flushed to disk and renamed. Preconditions are checked under a lock that
    is held during the rename only and that the operating system releases when the process exits. The next writer removes
    hidden files of killed writers: a running writer holds a lock on its own file.

    An object's generation consists of its modification time, which is set to increase, and its inode. The directory
    must be on a file system whose locks work across the processes of this machine (any local one).
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
            flush(target.parent)
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
                    flush(folder)
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

    def _locked(self) -> AbstractContextManager[IO[str]]:
        """Hold the bucket's lock; it also excludes threads, because every holder opens the file separately."""
        self._hidden.mkdir(parents=True, exist_ok=True)
        return file_lock(self._hidden / "lock")

    @contextmanager
    def _staged(self) -> Generator[BinaryIO]:
        """A hidden file to write to, locked as long as its writer lives; removed unless it was renamed."""
        path = self._hidden / f"{uuid.uuid4().hex}.writing"
        with self._locked():
            for other in self._hidden.glob("*.writing"):
                with suppress(FileNotFoundError), other.open("rb") as file:
                    if try_lock(file):  # else its writer lives
                        other.unlink()
            file = path.open("xb")
            try_lock(file)
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
