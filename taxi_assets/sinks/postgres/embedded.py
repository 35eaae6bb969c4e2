"""The embedded Postgres: a server in a folder of this project, so that a laptop needs no installation.

`url()` connects to the server, or starts it and leaves it running; there is no owner process. `embedded_home` decides
where its files are and which user it runs as.

    python -m taxi_assets.sinks.postgres.embedded start|stop|status|url FOLDER
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg

from taxi_assets.core.errors import PermanentError, TransientError, disk_full
from taxi_assets.core.locks import is_locked, try_lock
from taxi_assets.sinks.postgres.embedded_home import INSTEAD, LOG, Home, find_home, remove_abandoned

USER = "taxi"
DATABASE = "postgres"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",  # with off, kill -9 after a commit lost the complete load
    "wal_level": "minimal",  # a COPY into a table created in the same transaction skips the WAL and only syncs the table
    "max_wal_senders": "0",
    "shared_buffers": "128MB",  # allocated on use: an idle server needs about 30 MB
    "max_wal_size": "1GB",
    "max_connections": "100",
    "io_method": "sync",  # the default keeps three worker processes
    "log_checkpoints": "off",
}
"""Passed at every start, so that the settings of a new version apply to an existing folder."""

START_SECONDS = 120.0
"""Timeout of a start; recovery after kill -9 during a load took 0.2 to 2.2 s."""

_LOG_BYTES = 5_000_000
_BUSY = ("too many clients", "remaining connection slots")
_PORT_TAKEN = ("could not bind", "Address already in use")


class EmbeddedPostgres:
    """The server whose password, port and log are in `folder`, and also its data if the server's user can access it.

    The file `alive` is locked while the server is initialized, and then by the server's processes, which inherit the lock.
    Unlike a pid in a file, a lock cannot be stale or belong to another program or container.
    """

    def __init__(self, folder: Path, log: Callable[[str], Any] = LOG) -> None:
        self.folder, self._log = Path(folder).resolve(), log

    def url(self) -> str:
        """Connect to the server or start it, and return its URL with the password: postgresql://...

        Any number of processes may call it at once; only one server is started.

        Raises:
            PermanentError: it cannot run here, or the folder cannot be used.
            TransientError: it did not respond in time.
        """
        with self._explained():
            return self._connect() or self._start()

    @property
    def data(self) -> Path:
        """The folder of the server's data; it exists once the server was started."""
        return (self._home() or Home(self.folder)).data

    @property
    def folders(self) -> list[Path]:
        """The folders of the server: `folder`, and that of its data if it is another one."""
        return list(dict.fromkeys([self.folder, self.data.parent]))

    def running(self) -> bool:
        """Return whether the server answers."""
        with self._explained():
            return self._connect() is not None

    def stop(self) -> None:
        """Stop the server and wait until its last process has exited; does nothing if it is not running.

        Raises:
            TransientError: it did not stop in time.
        """
        with self._explained():
            home, alive = self._home(), self.folder / "alive"
            if home is None or not is_locked(alive):
                return
            home.stop()
            deadline = time.monotonic() + 20
            while is_locked(alive):
                if time.monotonic() > deadline:
                    raise TransientError(f"The embedded Postgres in {self.folder} does not stop; see {home.log}.")
                time.sleep(0.02)

    def remove(self) -> None:
        """Stop the server and remove all it wrote, outside the folder too."""
        self.stop()
        for folder in reversed(self.folders):
            shutil.rmtree(folder, ignore_errors=True)

    def _connect(self) -> str | None:
        """Return the URL of the server if it responds there and knows the password, as only this server does."""
        try:
            port, password = self._state()["port"], (self.folder / "password").read_text()
        except (FileNotFoundError, KeyError):
            return None
        url = f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"
        try:
            # scram only: it also authenticates the server, and does not send the password to another server on the port
            psycopg.connect(
                url, connect_timeout=3, require_auth="scram-sha-256", sslmode="disable", gssencmode="disable"
            ).close()
        except psycopg.OperationalError as error:
            return url if any(text in str(error) for text in _BUSY) else None
        return url

    def _start(self) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._home() and not (self.folder / "password").exists():
            raise PermanentError(
                f"The embedded Postgres in {self.folder} has lost its password file: restore it, or remove the folder "
                "and load the months again."
            )
        deadline = time.monotonic() + START_SECONDS
        while not (url := self._connect()):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"The embedded Postgres in {self.folder} does not answer on 127.0.0.1: if another container uses "
                    f"the same folder, stop it there; else see {self.data.with_name('server.log')}."
                )
            # held until this block ends and, once launched, by the server for as long as it lives
            with (self.folder / "alive").open("a") as alive:
                if try_lock(alive):
                    self._launch(alive.fileno())
                    continue
            time.sleep(0.05)  # it is starting, stopping or recovering
        return url

    def _launch(self, alive: int) -> None:
        remove_abandoned(self._log)
        home = self._home() or self._initialize(alive)
        home.require_version()
        (home.data / "postmaster.pid").unlink(missing_ok=True)  # stale: no process of the server lives
        state = self._state()
        if "port" not in state:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self._save(state := {**state, "port": probe.getsockname()[1]})
        if not home.log.exists() or home.log.stat().st_size > _LOG_BYTES:
            home.own_file(home.log, "")
        offset = home.log.stat().st_size
        options = " ".join(f"-c {name}={value}" for name, value in {**SETTINGS, "port": state["port"]}.items())
        self._log(f"The embedded Postgres starts on 127.0.0.1:{state['port']}, its data in {home.data}.")
        done = home.run(
            "pg_ctl", "start", "-w", "-t", str(int(START_SECONDS)), "-D", home.data, "-l", home.log, "-o", options,
            pass_fds=(alive,),
        )  # fmt: skip
        if done.returncode:
            logged = home.log.read_bytes()[offset:].decode(errors="replace")
            if not any(text in logged for text in _PORT_TAKEN):
                raise _refusal(self.folder, logged or done.stderr, f"see {home.log}")
            del state["port"]  # try another one
            self._save(state)

    def _initialize(self, alive: int) -> Home:
        """Initialize the server's files; incomplete files of an earlier attempt are deleted."""
        home, password = find_home(self.folder, self._log), secrets.token_urlsafe(24)
        fresh, password_file = home.data.with_name("data.new"), home.folder / "password.new"
        for incomplete in (fresh, home.data):
            shutil.rmtree(incomplete, ignore_errors=True)
        try:
            home.own_folder(fresh)
            home.own_file(password_file, password)
            done = home.run("initdb", "-U", USER, "-A", "scram-sha-256", "--pwfile", password_file, "--locale=C",
                            "-E", "UTF8", "-D", fresh, pass_fds=(alive,))  # fmt: skip
            if done.returncode:
                raise _refusal(self.folder, done.stderr, INSTEAD)
        except PermanentError:
            shutil.rmtree(fresh if home.folder == self.folder else home.folder, ignore_errors=True)
            raise
        finally:
            password_file.unlink(missing_ok=True)
        home.own_file(self.folder / "password", password)
        fresh.rename(home.data)
        self._save({"home": str(home.folder)} if home.folder != self.folder else {})
        return home

    def _home(self) -> Home | None:
        """Return the folder of the initialized server; None if the initialization is missing or incomplete."""
        if not (self.folder / "server.json").exists():
            return None
        home = Home(self.folder / self._state().get("home", "."), self._log)
        return home if (home.data / "PG_VERSION").exists() else None

    def _state(self) -> dict[str, Any]:
        return json.loads((self.folder / "server.json").read_text())

    def _save(self, state: dict[str, Any]) -> None:
        fresh = self.folder / "server.json.new"
        fresh.write_text(json.dumps(state))
        fresh.replace(self.folder / "server.json")

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise _refusal(self.folder, f"{error.strerror or error}: {error.filename}", INSTEAD) from error


def _refusal(folder: Path, output: str, remedy: str) -> PermanentError:
    if disk_full(OSError(output)):
        return PermanentError(
            f"The embedded Postgres in {folder} has no space left on its disk; free some, or {INSTEAD}."
        )
    lines = output.strip().splitlines() or ["no reason was given"]
    errors = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    reason = (errors or lines)[-1].strip().rstrip(".")
    return PermanentError(f"The embedded Postgres in {folder} cannot run ({reason}); {remedy}.")


def main(arguments: list[str]) -> int:
    """Run the command line; `status` exits with 3 when the server does not run."""
    if len(arguments) != 2 or arguments[0] not in ("start", "stop", "status", "url"):
        print(__doc__, file=sys.stderr)
        return 2
    command, server = arguments[0], EmbeddedPostgres(Path(arguments[1]), log=lambda line: print(line, file=sys.stderr))
    try:
        if command == "stop":
            server.stop()
        elif command == "status":
            print("running" if (running := server.running()) else "not running")
            return 0 if running else 3
        else:
            url = server.url()
            print(url if command == "url" else f"running on {url.rpartition('@')[2]}")
    except (PermanentError, TransientError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
