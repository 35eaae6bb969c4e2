"""Folders for files on their way: nobody's folder stays, and nobody's is taken away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_assets.core.scratch import Scratch
from taxi_assets_tests.processes import REPOSITORY

KILLED = """
import os, signal, sys
from pathlib import Path
from taxi_assets.core import scratch

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

at = sys.argv[1]
if at == "before its lock":
    scratch.Path.open = lambda path, mode, open=Path.open: kill() if ".scratch" in str(path) else open(path, mode)
held = scratch.Scratch(sys.argv[2], "killed")
(held.folder / "half.parquet").write_bytes(b"half a month")
if at == "while removing it":
    (held.folder / ".lock").unlink()
kill()
"""


def folders(staging: Path) -> list[str]:
    return sorted(path.name for path in staging.glob("*.scratch"))


@pytest.mark.parametrize("at", ["before its lock", "at work", "while removing it"])
def test_what_a_killed_process_left_goes_with_the_next_folder_that_is_made(at: str, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, at, str(tmp_path)], cwd=REPOSITORY)
    assert killed.returncode == -signal.SIGKILL
    assert len(folders(tmp_path)) == 1
    with Scratch(tmp_path, "next") as folder:
        assert folders(tmp_path) == [folder.name]
    assert folders(tmp_path) == []


def test_a_folder_in_use_stays_whoever_makes_another_one(tmp_path: Path) -> None:
    with Scratch(tmp_path, "mine") as mine:
        (mine / "month.parquet").write_bytes(b"a month")
        with Scratch(tmp_path, "other"):
            assert (mine / "month.parquet").read_bytes() == b"a month"
    assert folders(tmp_path) == []
