"""Replaces the many objects of a month atomically: a journal object that contains them all is the commit.

A bucket replaces one object at a time. So a writer first puts ONE object, the journal: a tar of all the month's new
objects. From that moment the month is the new one: any writer or reader that finds a journal puts its objects in place
and removes it. A writer killed before that has changed nothing and left nothing in the bucket; if it is killed
afterwards, the next read or load finishes its work.

The rules, and the races they prevent:

1. A journal is put only where there is none (`if_generation=0`). Two writers: the slower puts the faster one's month
   in place first, then its own. Without a journal, the objects in place are those of the last journal, complete.
2. A process that puts objects in place puts all of them, each on the condition of a generation that it read BETWEEN two
   reads of the same journal. A process that was suspended until after the end of its journal, and of the next one, has
   generations that the next journal's objects no longer have, or will lose: it fails, or at most rewrites an old object
   that is still in place; then the condition of the next journal's process fails, and that process retries.
3. A condition that fails while the journal still exists means that another process interfered: read and put again.
   An object is done when the process's own put succeeded, because no process with older generations can undo it. If
   the journal was deleted or replaced, others have finished it: stop.
4. When all are done the journal is removed, on the condition that it is still the one put in place.
5. Objects are never removed, so that "not there" cannot come back after it was seen (a generation never does): the
   set of names is fixed, and empty objects are used where there is nothing.
6. A complete month is read as: generations, then no journal, then the same generations; then those generations' bytes.
"""

from __future__ import annotations

import datetime as dt
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.core.scratch import Scratch
from taxi_assets.sinks.storage.bucket import Bucket, ObjectMissing, PreconditionFailed, Stat
from taxi_assets.sinks.storage.month_objects import ATTEMPTS, PARQUET

JOURNALS = "_journal"
"""Folder of the journals: outside the datasets, so that no reader of a dataset reads a journal as trips."""
AT_ONCE = 8
"""Objects moved at the same time, at most."""
UNDER_WAY = 16 << 20
"""Bytes of objects put at the same time, but two objects at least: each is held in memory as it is sent."""
HELP_AFTER = 2.0
"""Seconds a journal is left to the one who is probably just putting its objects in place."""


class _Finished(Exception):
    """Others have put the journal's objects in place and removed it."""


@dataclass(frozen=True)
class MonthOfObjects:
    """A month that consists of the objects `names`, by day, and is replaced through the object `journal`."""

    bucket: Bucket
    month: Month
    names: Mapping[dt.date, str]
    journal: str
    staging: str
    """Folder for temporary files."""
    describe: Callable[[Path], Mapping[str, str]] = lambda _: {}
    """Returns the metadata of an object from its file."""

    def publish(self, files: Mapping[dt.date, Path], folder: Path, log: Callable[[str], None]) -> None:
        """Replace the month's objects with exactly these files, all or none; the files are moved. `folder` is for scratch files.

        Raises:
            TransientError, PermanentError: the month is unchanged; or it is new at the next read, if the message says so or
            the server's response was lost.
        """
        tar = folder / "journal.tar"
        _pack(files, tar)
        for _ in range(ATTEMPTS):
            self.settle(log)
            try:
                journal = self.bucket.put(self.journal, tar, if_generation=0)
            except PreconditionFailed:
                continue
            try:
                return self._put_in_place(journal, tar)
            except (TransientError, PermanentError) as error:
                raise type(error)(
                    f"{self.month} is in {self.bucket.uri(self.journal)} but not all in place; the next read or run "
                    f"will finish it. {error}"
                ) from error
        raise TransientError(
            f"{self.month}: other runs keep replacing it in {self.bucket.uri()}; run it again when they are done."
        )

    def settle(self, log: Callable[[str], None] = lambda _: None) -> None:
        """Put a journal's objects in place if there is one, after leaving it to its writer for a moment."""
        patience = time.monotonic() + HELP_AFTER
        while journal := self.bucket.stat(self.journal):
            if time.monotonic() < patience:
                time.sleep(0.1)
                continue
            log(f"{self.month}: finishing what another run left in {self.bucket.uri(self.journal)}.")
            with Scratch(self.staging, "journal") as folder:
                try:
                    self.bucket.download(self.journal, folder / "journal.tar", journal.generation)
                except ObjectMissing:
                    continue
                self._put_in_place(journal, folder / "journal.tar")

    def fetch(self, folder: Path) -> list[Path] | None:
        """The month's objects as files in `folder`, all of one month, old or new; None when there is no month."""
        for _ in range(ATTEMPTS):
            self.settle()
            seen = self._generations()
            if self.bucket.stat(self.journal) or seen != self._generations():
                continue
            if not seen:
                return None
            if missing := [name for name in self.names.values() if name not in seen]:
                raise PermanentError(
                    f"{self.month}: {self.bucket.uri(missing[0])} is gone; materialize the month again."
                )
            paths = {name: folder / f"{day}.parquet" for day, name in self.names.items()}
            try:
                self._download(paths, seen)
                return list(paths.values())
            except ObjectMissing:  # replaced meanwhile
                for path in paths.values():
                    path.unlink(missing_ok=True)
        raise TransientError(
            f"{self.month}: the month in {self.bucket.uri()} keeps being replaced by other runs; run it again later."
        )

    def _download(self, paths: Mapping[str, Path], seen: Mapping[str, int]) -> None:
        self._each(lambda name: self.bucket.download(name, paths[name], seen[name]), AT_ONCE)

    def _put_in_place(self, journal: Stat, tar: Path) -> None:
        seen = self._generations()
        members = self._members(tar)

        def place(name: str) -> None:
            generation = seen.get(name, 0)
            offset, size = members[name]
            part = tar.with_name(f"{uuid.uuid4().hex}.part")
            _copy(tar, offset, size, part)
            metadata = self.describe(part)
            for _ in range(ATTEMPTS):
                try:
                    self.bucket.put(name, part, if_generation=generation, metadata=metadata, content_type=PARQUET)
                    return part.unlink()
                except PreconditionFailed:
                    found = self.bucket.stat(name)
                    generation = found.generation if found else 0
                    self._require(journal)
            raise TransientError(f"{self.bucket.uri(name)} keeps being replaced by other runs.")

        try:
            self._require(journal)
            largest = max(size for _, size in members.values())
            self._each(place, min(AT_ONCE, max(2, UNDER_WAY // max(largest, 1))))
            self.bucket.delete(self.journal, if_generation=journal.generation)
        except (_Finished, PreconditionFailed):
            pass

    def _require(self, journal: Stat) -> None:
        """Go on only under the same journal."""
        now = self.bucket.stat(self.journal)
        if now is None or now.generation != journal.generation:
            raise _Finished

    def _generations(self) -> dict[str, int]:
        first, last = next(iter(self.names.values())), list(self.names.values())[-1]
        common = next((first[:i] for i in range(len(first)) if first[i] != last[i]), first)
        names = set(self.names.values())
        return {found.name: found.generation for found in self.bucket.list(common) if found.name in names}

    def _each(self, work: Callable[[str], None], at_once: int) -> None:
        """Do it for every object, some at a time; the first error counts, after all have come to rest."""
        with ThreadPoolExecutor(at_once) as pool:
            try:
                for done in [pool.submit(work, name) for name in self.names.values()]:
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _members(self, tar: Path) -> dict[str, tuple[int, int]]:
        """Where each object's bytes are in the journal."""
        try:
            with tarfile.open(tar, "r:") as archive:
                found = {member.name: (member.offset_data, member.size) for member in archive}
            return {name: found[f"{day}.parquet"] for day, name in self.names.items()}
        except (tarfile.TarError, KeyError) as error:
            raise PermanentError(
                f"{self.month}: {self.bucket.uri(self.journal)} is not a journal of this month ({error}); remove it "
                "and materialize the month again."
            ) from None


def _pack(files: Mapping[dt.date, Path], tar: Path) -> None:
    """Move the files into an archive, so that the disk holds the month once."""
    with tarfile.open(tar, "w:") as archive:
        for day, path in files.items():
            archive.add(path, f"{day}.parquet", filter=_anonymous)
            path.unlink()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the writer's user and group names."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _copy(source: Path, offset: int, size: int, target: Path) -> None:
    with source.open("rb") as file, target.open("xb") as part:
        file.seek(offset)
        while size and (chunk := file.read(min(size, 1 << 20))):
            part.write(chunk)
            size -= len(chunk)
