"""Servers and commands that tests start: on free ports, ended by process id with all their children."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil

from taxi_assets.sinks.postgres.embedded_home import OUTSIDE, OWNER, PREFIX

REPOSITORY = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A free TCP port on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], object], seconds: float, what: str) -> object:
    """Wait for a truthy result of `condition`, or fail naming `what` was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def end(process: subprocess.Popen) -> None:
    """End a process and everything it started, by process id."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs([*family, psutil.Process(process.pid)], timeout=10)
        for child in alive:
            child.kill()
    process.wait(timeout=10)


def end_unwatched_tails(folder: Path) -> int:
    """End the `tail` processes of killed steps under a folder, and return how many there were.

    Dagster mirrors a step's output with `tail` and starts the process that ends it with the step a moment later: a step that
    is killed between the two leaves its `tail`, whatever our code does.
    """
    ended = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if command[:2] == ["tail", "-F"] and "compute_logs" in command[-1] and command[-1].startswith(str(folder)):
                process.terminate()
                ended += 1
    return ended


def left_behind(folder: Path) -> list[str]:
    """The processes that work in a folder or on files in it, and the folders of embedded servers that stand for one in it."""
    servers = {
        record.parent: owner
        for place in OUTSIDE
        for record in place.glob(f"{PREFIX}*/{OWNER}")
        if Path(owner := json.loads(record.read_text())["folder"]).is_relative_to(folder)
    }
    left = [f"{home}, for {owner}" for home, owner in servers.items()]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command, works_in = " ".join(process.cmdline()), process.cwd()
            places = [str(folder), *map(str, servers)]
            if process.pid != os.getpid() and any(place in f"{works_in} {command}" for place in places):
                left.append(f"process {process.pid} in {works_in}: {command[:300]}")
    return left


@contextlib.contextmanager
def running(
    *command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None, log: Path
) -> Generator[subprocess.Popen, None, None]:
    """A process of this Python's environment, its output in `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process)
