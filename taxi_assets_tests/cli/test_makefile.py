"""What `make` prints when a variable is wrong or a program is missing: one line that says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_assets_tests.processes import REPOSITORY

PROGRAMS = ("sh", "grep", "sed", "expand", "od", "tr", "touch", "env", "dirname")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder whose environment is this one, and in `bin` the only programs that are found beside it."""
    for name in ("Makefile", "requirements.lock", "requirements-dev.lock", "pyproject.toml", "dagster.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for name in PROGRAMS:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "/nowhere")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "taxi-assets"):
        (tmp_path / ".venv" / "bin" / name).symlink_to(Path(sys.executable).parent / name)
    for name in (".ready", ".ready-dev"):
        (tmp_path / ".venv" / name).touch()
    return tmp_path


def make(project: Path, *arguments: str) -> list[str]:
    """Run `make`, which fails; return the lines that it prints, without its own last one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAXI_", "DAGSTER_", "MAKE"))}
    done = subprocess.run(
        [shutil.which("make") or "make", *arguments],
        cwd=project,
        env={**kept, "PATH": str(project / "bin"), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    *lines, last = (done.stdout + done.stderr).splitlines()
    assert last.startswith("make: ***"), done
    return lines


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (("backfill",), ["the first and the last month", "make backfill FROM=2021-01 TO=2021-03"]),
        (("backfill", "FROM=2021-01"), ["the first and the last month", "make backfill FROM=2021-01 TO=2021-03"]),
        (("backfill", "FROM=2021-01", "TO=21-3"), ["'21-3' is not a month: write it as YYYY-MM, for example 2021-01"]),
        (("run", "MONTH=2021-1"), ["'2021-1' is not a month: write it as YYYY-MM, for example 2021-01"]),
        (("run", "MONTH=2021-01 2021-02"), ["'2021-01 2021-02' is not a month"]),
        (("run", "MONTH="), ["'' is not a month"]),
        (("summary", "MONTH=2021-13"), ["'2021-13' is not a month"]),
        (("run", "KIND=green"), ["green trips are switched off", "set TAXI_KINDS=yellow,green in .env"]),
        (("summary", "KIND=green"), ["green trips are switched off", "set TAXI_KINDS=yellow,green in .env"]),
        (("run", "KIND=purple"), ["'purple'", "'yellow', 'green'"]),
        (("backfill", "FROM=2021-01", "TO=2021-02", "JOBS=many"), ["--jobs", "'many'"]),
    ],
)
def test_a_wrong_variable_is_explained_in_one_line(project, arguments, sentences):
    (line,) = make(project, *arguments)
    assert line.startswith("error: ")
    assert all(sentence in line for sentence in sentences), line


@pytest.mark.parametrize(
    ("target", "needs"),
    [
        ("up", "Docker with the Compose plugin: https://docs.docker.com/compose/install/"),
        ("verify-deploy", "Docker with the Compose plugin: https://docs.docker.com/compose/install/"),
        ("verify-terraform", "Terraform: https://"),
        ("lock", "uv: https://"),
    ],
)
def test_a_target_names_the_program_that_it_needs_and_is_missing(project, target, needs):
    (line,) = make(project, target)
    assert line.startswith(f"make {target} needs {needs}")
    assert not (project / ".env").exists()


def test_docker_without_the_compose_plugin_is_not_enough(project):
    docker = project / "bin" / "docker"
    docker.write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command\" >&2\nexit 1\n")
    docker.chmod(0o755)
    (line,) = make(project, "up")
    assert line.startswith("make up needs Docker with the Compose plugin")


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (None, "python3 is not Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12 ..."),
        (
            'case "$2" in *ensurepip*) exit 1;; esac',
            "make demo needs the venv module of python3: on Debian and Ubuntu ",
        ),
    ],
)
def test_before_the_installation_python_is_looked_at(project, script, line):
    (project / ".venv" / ".ready").unlink()
    if script:
        (project / "bin" / "python3").write_text(f"#!/bin/sh\n{script}\n")
        (project / "bin" / "python3").chmod(0o755)
    (printed,) = make(project, "demo")
    assert printed.startswith(line)


def test_a_taken_port_of_the_ui_is_named_with_how_to_choose_another(project):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert make(project, "dev", f"PORT={port}") == [
            f"Port {port} is taken; choose another one: make dev PORT={port + 1}"
        ]
