"""Folders for files on their way: nobody's folder stays, and nobody's is taken away."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from taxi_assets.lake.scratch import Scratch
from taxi_assets.settings import get_settings
from taxi_assets_tests.processes import REPOSITORY

KILLED = """
import os, signal, sys
from pathlib import Path
from taxi_assets.lake import scratch

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

at = sys.argv[1]
if at == "before its lock":
    scratch.Path.open = lambda path, mode, open=Path.open: kill() if ".scratch" in str(path) else open(path, mode)
held = scratch.Scratch("killed")
(held.folder / "half.parquet").write_bytes(b"half a month")
if at == "while removing it":
    (held.folder / ".lock").unlink()
kill()
"""


def folders() -> list[str]:
    return sorted(path.name for path in get_settings().staging_folder.glob("*.scratch"))


@pytest.mark.parametrize("at", ["before its lock", "at work", "while removing it"])
def test_what_a_killed_process_left_goes_with_the_next_folder_that_is_made(at: str) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, at], cwd=REPOSITORY)
    assert killed.returncode == -signal.SIGKILL
    assert len(folders()) == 1
    with Scratch("next") as folder:
        assert folders() == [folder.name]
    assert folders() == []


def test_a_folder_in_use_stays_whoever_makes_another_one() -> None:
    with Scratch("mine") as mine:
        (mine / "month.parquet").write_bytes(b"a month")
        with Scratch("other"):
            assert (mine / "month.parquet").read_bytes() == b"a month"
    assert folders() == []
