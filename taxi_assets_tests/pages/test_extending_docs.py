"""docs/extending.md does what it says: each section's changes, applied to a copy of the package, and its code run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "extending.md"
SECTIONS = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S))


def apply(change: str, folder: Path) -> None:
    """Apply a change: `--- file`, then lines that stay (blank in front), go (-) and come (+); found by their text."""
    name, *lines = change.splitlines()
    path = folder / name.removeprefix("--- ")
    old, new = ("\n".join(line[1:] for line in lines if line[:1] in (" ", sign)) for sign in "-+")
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} times:\n{old}"
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("title", SECTIONS)
def test_a_worked_example_works(title: str, tmp_path: Path):
    shutil.copytree(REPOSITORY / "taxi_assets", tmp_path / "taxi_assets", ignore=shutil.ignore_patterns("__pycache__"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAXI_", "DAGSTER_"))}
    environment = {**kept, "DAGSTER_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    ran = 0
    try:
        for language, block in re.findall(r"^```(\w+)\n(.+?)^```", SECTIONS[title], re.M | re.S):
            if language == "diff":
                apply(block, tmp_path)
            elif language == "python" and (file := re.match(r"# (\w+/\S+\.py)\n", block)):
                (tmp_path / file[1]).parent.mkdir(exist_ok=True)
                (tmp_path / file[1]).write_text(block[file.end() :])
            elif language == "python":
                command = [sys.executable, "-W", "ignore", "-c", block]
                done = subprocess.run(
                    command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
                )
                assert done.returncode == 0, done.stderr[-3000:]
                ran += 1
    finally:
        EmbeddedPostgres(tmp_path / ".taxi" / "postgres").remove()
    assert ran == 1


def test_the_page_has_an_example_of_each():
    assert list(SECTIONS) == ["An asset of your own", "A cleaning rule", "A sink", "A column", "A dataset"]
