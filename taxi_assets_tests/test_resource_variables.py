"""Secrets in resources: Dagster's UI names their variables, their values are those of the settings, and no others are taken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap  # what a code server sends to the UI

from taxi_assets.assets.publisher import Publisher
from taxi_assets.definitions import build_defs
from taxi_assets.settings import Settings
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.processes import REPOSITORY

SECRET = Settings(postgres_url="postgresql://u:MarkEr@db/trips", source="https://u:MarkEr@host/{month}.csv")


def shown(settings: Settings) -> dict[str, Any]:
    """What the UI shows of each resource's config."""
    snap = RepositorySnap.from_def(build_defs(settings).get_repository_def())
    return {each.name: each.configured_values for each in snap.resources}


def used(defs: dg.Definitions) -> tuple[str, str]:
    """The addresses that a run uses."""
    with dg.build_resources({name: defs.resources[name] for name in ("postgres", "publisher")}) as resources:
        return resources.postgres.address(), resources.publisher.source


def test_the_ui_names_the_variable_of_a_secret_and_never_its_value():
    snap = RepositorySnap.from_def(build_defs(SECRET).get_repository_def())
    consumers = {name: [each.name for each in by] for name, by in snap.utilized_env_vars.items()}
    assert consumers == {"TAXI_POSTGRES_URL": ["postgres"], "TAXI_SOURCE": ["publisher"]}
    assert [shown(SECRET)[name][field].name for name, field in (("postgres", "url"), ("publisher", "source"))] == [
        "TAXI_POSTGRES_URL",
        "TAXI_SOURCE",
    ]
    assert "MarkEr" not in dg.serialize_value(snap)


def test_what_is_no_secret_is_shown():
    plain = shown(Settings(source="datatalks", postgres_schema="trips"))
    assert plain["publisher"]["source"] == '"datatalks"'
    assert plain["postgres"]["schema_name"] == '"trips"'


def test_definitions_of_different_settings_use_their_own_values_in_one_process(monkeypatch):
    monkeypatch.setenv("TAXI_POSTGRES_URL", "postgresql://environment/trips")
    other = Settings(postgres_url="postgresql://other/trips", source="https://other/{month}.csv")
    first, second = build_defs(SECRET), build_defs(other)
    assert used(second) == ("postgresql://other/trips", "https://other/{month}.csv")
    assert used(first) == ("postgresql://u:MarkEr@db/trips", "https://u:MarkEr@host/{month}.csv")


def test_a_run_cannot_replace_a_secret_by_its_config():
    job = build_defs(SECRET).resolve_job_def("load_month")
    config = {"resources": {"postgres": {"config": {"url": {"env": "HOME"}}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match="TAXI_POSTGRES_URL"):
        job.execute_in_process(partition_key="2021-01-01", run_config=config)


def test_another_project_gives_the_secret_as_an_env_var(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:MarkEr@db/trips")
    sink = PostgresIOManager(url=dg.EnvVar("DATABASE_URL"))
    snap = RepositorySnap.from_def(dg.Definitions(resources={"sink": sink}).get_repository_def())
    assert "MarkEr" not in dg.serialize_value(snap)
    with dg.build_resources({"sink": sink}) as resources:
        assert resources.sink.address() == os.environ["DATABASE_URL"]
    assert "MarkEr" not in repr(PostgresIOManager(url="postgresql://u:MarkEr@db/trips"))
    assert "MarkEr" not in repr(Publisher(source="https://MarkEr@host", sample_rows=1, folder="."))


def test_dg_lists_the_variables_of_the_env_file(tmp_path):
    """`dg list envs` reads `.env` and the requirements of components; it does not look into Python for an EnvVar."""
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "taxi_assets").mkdir()
    command = [str(Path(sys.executable).with_name("dg")), "list", "envs"]

    def listed() -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout

    assert "No environment variables are defined" in listed()
    (tmp_path / ".env").write_text("TAXI_POSTGRES_URL=postgresql://u:MarkEr@db/trips\n")
    assert "TAXI_POSTGRES_URL" in listed()
    assert "MarkEr" not in listed()
