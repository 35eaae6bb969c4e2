"""The environment before Dagster's command line changed it.

`dagster dev`, `dagster asset materialize` and the processes they start put the `.env` of the working directory over their
environment. Linux keeps the environment that a process was started with in /proc; elsewhere what Dagster did cannot be undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_DAGSTER = re.compile(r"(?:.*/)?(?:dagster[\w.-]*|dg)|from multiprocessing\..*")
"""An argument of a process of Dagster's: the program, the module, or the code of a child that multiprocessing started."""


def without_dotenv(environment: Mapping[str, str | None], dotenv: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the environment with the values that Dagster's command line replaced by those of `.env`; names in lower case."""
    result, started = dict(environment), None
    for name, value in environment.items():
        if name in dotenv and dotenv[name] == value:
            started = list(_started_with()) if started is None else started
            other = next((each.get(name) for each in started if each.get(name) != value), value)
            result[name] = other or value  # a variable that was not set, or empty, was no choice
    return result


def _started_with() -> Iterator[dict[str, str]]:
    """Yield what this process and its ancestors were started with, up to the first process that is not Dagster's."""
    process = "self"
    while process != "0":
        folder = Path("/proc", process)
        try:
            arguments = _read(folder / "cmdline").split("\0")
            environment = _read(folder / "environ").split("\0")
            (process,) = re.findall(r"^PPid:\s*(\d+)$", _read(folder / "status"), re.MULTILINE)
        except OSError:  # no /proc, another user's process, or one that has ended
            return
        if not any(_DAGSTER.fullmatch(argument) for argument in arguments[1:4]):
            return
        pairs = (line.partition("=") for line in environment)
        yield {name.lower(): value for name, separator, value in pairs if separator}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")
