"""The command `taxi-assets` works from any folder, and so does Dagster's history."""

import os
import shutil
import subprocess
import sys

import dagster as dg
import pytest

from taxi_assets.cli.main import dagster_home, main, parser
from taxi_assets.core.errors import PermanentError
from taxi_assets_tests.processes import REPOSITORY


def test_without_dagster_home_the_checkout_around_the_working_directory_is_used(tmp_path, monkeypatch):
    for name in ("dagster.yaml", "pyproject.toml", "taxi_assets"):
        (tmp_path / name).touch()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.delenv("DAGSTER_HOME")
    assert dagster_home() == tmp_path


def test_outside_a_checkout_it_is_the_one_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME")
    assert dagster_home() == REPOSITORY


def test_an_installed_package_without_a_checkout_says_what_to_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.setattr(
        "taxi_assets.cli.main.__file__", str(tmp_path / "site-packages" / "taxi_assets" / "cli" / "main.py")
    )
    assert main(["stop"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: DAGSTER_HOME is not set; set it to")


def test_a_dagster_home_that_does_not_exist_is_an_error(monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "/nowhere")
    with pytest.raises(PermanentError, match="DAGSTER_HOME=/nowhere: there is no such folder"):
        dagster_home()


def test_the_command_that_loads_a_missing_month_names_its_kind(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("TAXI_KINDS", "yellow,green")
    for kind, option in (("yellow", ""), ("green", " KIND=green")):
        assert main(["summary", "2021-01", "--kind", kind]) == 1
        assert capsys.readouterr().err.endswith(f"make run MONTH=2021-01{option}\n")


def test_the_last_month_of_a_backfill_is_not_before_the_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert main(["backfill", "--from", "2020-02", "--to", "2020-01"]) == 1
    assert "2020-02 is after 2020-01" in capsys.readouterr().err


def test_every_option_is_described():
    (commands,) = (action for action in parser()._actions if action.dest == "command")
    for name, command in commands.choices.items():
        assert command.description, name
        assert all(action.help for action in command._actions), name


def test_dagsters_history_is_in_taxi_home_whatever_the_working_directory_is(tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("TAXI_HOME", str(tmp_path / "data"))
    with dg.DagsterInstance.get() as instance:
        instance.get_runs(limit=1)
    assert (tmp_path / "data" / "dagster" / "storage").is_dir()
    assert list(elsewhere.iterdir()) == []
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]


def test_several_processes_create_dagsters_storage_at_once(tmp_path):
    code = """
import os
import dagster as dg
import taxi_assets.history
children = []
for _ in range(4):
    if not (child := os.fork()):  # at the same moment, as no four commands start
        dg.DagsterInstance.get().all_instigator_state()
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
"""
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "TAXI_HOME": str(tmp_path / "data")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (run.stderr, run.returncode) == ("", 0)
