"""Opens a DuckDB file for one short transaction, and translates its errors.

Only one process at a time can open a DuckDB file for writing, and then no other can read it: opening waits for the file.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxi_assets.core.errors import PermanentError, TransientError, disk_full

if TYPE_CHECKING:
    import duckdb

_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One connection a file in this process: DuckDB shares an instance among threads and refuses a second configuration."""

_RETRY_SECONDS = 0.05
_LOG_AFTER_SECONDS = 5.0


@dataclass(frozen=True)
class DuckDBFile:
    """A DuckDB file; `staging` is the folder in which it spills. The other fields are those of `DuckDBIOManager`."""

    path: str
    staging: str
    memory_limit: str
    threads: int
    lock_timeout: float

    @contextmanager
    def open(
        self, what: object, log: Callable[[str], None] = lambda _: None, *, read_only: bool = False
    ) -> Generator[duckdb.DuckDBPyConnection]:
        """Open the file for exclusive use, and close it in the end; `what` is a month or a table, for errors.

        Raises:
            TransientError: another process or thread held it for `lock_timeout` seconds.
            PermanentError: the file cannot be used, the disk is full, or the memory was too little.
        """
        import duckdb

        path = os.path.realpath(self.path)
        deadline = time.monotonic() + self.lock_timeout
        if not _LOCKS[path].acquire(timeout=self.lock_timeout):
            raise TransientError(
                f"{what}: {path} was busy for {self.lock_timeout:.0f} s in this process; run it again."
            )
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not read_only:
                _create(path)
            spill = Path(self.staging) / f"{os.path.basename(path)}-{zlib.crc32(path.encode()):08x}.spill"
            options = {
                "memory_limit": self.memory_limit,
                "threads": self.threads,
                "preserve_insertion_order": False,  # with it, an INSERT of many row groups keeps them in memory
                "write_buffer_row_group_count": 1,  # as many are held by each thread before they are written
                "temp_directory": "" if read_only else str(spill),  # counting and copying never spill
                "autoinstall_known_extensions": False,
            }
            connection = _connect(path, read_only, options, deadline, what, log)
            try:
                if not read_only:  # nobody else has the file now: what is there, a killed process left
                    shutil.rmtree(spill, ignore_errors=True)
                    spill.parent.mkdir(parents=True, exist_ok=True)  # DuckDB creates only the folder itself
                yield connection
            finally:
                connection.close()  # removes what this connection spilled
        except (duckdb.Error, OSError) as error:
            if disk_full(error):
                raise PermanentError(
                    f"{what}: the disk is full at {path}; free some, then materialize again."
                ) from error
            if isinstance(error, duckdb.OutOfMemoryException):
                raise PermanentError(
                    f"{what}: {self.memory_limit} was too little memory for DuckDB to write {path}; "
                    "raise the IO manager's memory_limit."
                ) from error
            if isinstance(error, (duckdb.IOException, duckdb.SerializationException, OSError)):
                raise PermanentError(
                    f"{what}: {path} could not be used ({_first_line(error)}); fix or move it, then materialize again."
                ) from error
            raise
        finally:
            _LOCKS[path].release()


def _create(path: str) -> None:
    """Create the file if it is missing, at once with all that DuckDB requires in it.

    DuckDB looks whether a file exists before it locks it: left to DuckDB, a second process that also found none would start
    anew in the file to which the first has committed by then, and a killed one would leave a file that cannot be opened.
    """
    import duckdb

    if os.path.exists(path):
        return
    folder, name = os.path.split(path)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as created:
        duckdb.connect(new := os.path.join(created, name)).close()
        with suppress(FileExistsError):  # another process was faster
            try:
                os.link(new, path)
            except PermissionError:  # the file system has no hard links
                with open(path, "xb") as file:
                    file.write(Path(new).read_bytes())


def _connect(
    path: str, read_only: bool, options: dict[str, Any], deadline: float, what: object, log: Callable[[str], None]
) -> duckdb.DuckDBPyConnection:
    """Open the file, waiting until `deadline` while another process holds it."""
    import duckdb

    log_at = time.monotonic() + _LOG_AFTER_SECONDS
    while True:
        try:
            return duckdb.connect(path, read_only=read_only, config=options)
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            if "Could not set lock" not in str(error) and "different configuration" not in str(error):
                raise
            holder = re.search(r"PID (\d+)", str(error))
            held_by = f"process {holder[1]}" if holder else "another connection"
        now = time.monotonic()
        if now >= deadline:
            raise TransientError(
                f"{what}: {path} is still held by {held_by}; let it finish or end it (a notebook or "
                "the DuckDB shell holds the file while connected), then materialize again."
            )
        if now >= log_at:
            log(f"{what}: waiting for {path}, held by {held_by}.")
            log_at = now + 6 * _LOG_AFTER_SECONDS
        time.sleep(_RETRY_SECONDS)


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    """A transaction: committed when the block ends, rolled back when it raises."""
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.close()  # rolls back, even if ROLLBACK would fail after a failed statement
        raise


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
