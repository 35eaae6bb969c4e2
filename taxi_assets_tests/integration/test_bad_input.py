"""Bad input and missing services: one clear error, a non-zero exit code, and no visible part of the month."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.processes import REPOSITORY, free_port


@pytest.fixture
def command(tmp_path: Path):
    """Runs `python -m taxi_assets` in a separate TAXI_HOME and returns its exit code and output."""

    def run(*arguments: str, **settings: object) -> tuple[int, str]:
        env = {
            f"TAXI_{name.upper()}": str(value)
            for name, value in {"source": "sample", "sample_rows": 1000, **settings}.items()
        }
        done = subprocess.run(
            [sys.executable, "-m", "taxi_assets", *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=300,
            env={"PATH": "/usr/bin:/bin", "DAGSTER_HOME": str(tmp_path), **env},
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    yield run
    EmbeddedPostgres(tmp_path / ".taxi" / "postgres").remove()


def published_nowhere(home: Path) -> bool:
    """Whether no sink, and no asset before the sinks, shows anything of a month."""
    taxi = home / ".taxi"
    files = [path for folder in ("lake", "bucket", "staging") for path in (taxi / folder).rglob("*") if path.is_file()]
    return [path for path in files if path.suffix in (".parquet", ".tmp", ".part")] == []


@pytest.mark.parametrize(
    ("month", "sentence"),
    [
        ("2021-13", "'2021-13' is not a month"),
        ("soon", "'soon' is not a month"),
        ("2008-12", "2008-12 cannot be loaded: yellow months run from 2009-01 to"),
        ("2097-01", "2097-01 cannot be loaded: yellow months run from 2009-01 to"),
    ],
)
def test_an_impossible_month_is_refused_by_name(command, tmp_path, month, sentence):
    code, said = command("run", month)
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said
    assert published_nowhere(tmp_path)


@pytest.mark.long
def test_a_source_that_cannot_be_reached_is_named(command, tmp_path):
    code, said = command("run", "2021-01", source=f"http://127.0.0.1:{free_port()}/yellow_tripdata_{{month}}.parquet")
    assert code == 1
    assert "2021-01" in said.split("was not loaded:")[1]
    assert "127.0.0.1" in said.split("was not loaded:")[1]
    # every wait is reported
    assert re.search(r"^raw_trips +warning: yellow 2021-01: .*127\.0\.0\.1.*; attempt 2 of 6 in \d+ s\.$", said, re.M)
    assert re.search(r"^raw_trips +warning: yellow 2021-01: .* The step is repeated in \d+ s\.$", said, re.M)
    assert published_nowhere(tmp_path)


@pytest.mark.parametrize(
    "name", ["yellow_tripdata_{month}.truncated.parquet", "yellow_tripdata_{month}.lfs-pointer.csv"]
)
def test_a_damaged_file_is_named_and_nothing_of_it_is_published(command, tmp_path, tlc, name):
    file = tlc(f"damaged/{name.format(month='2021-01')}")
    code, said = command("run", "2021-01", source=file.with_name(name))
    assert code == 1
    lines = said.split("was not loaded:")[1].strip().splitlines()
    assert len(lines) == 1, said
    assert file.name in lines[0]
    assert "2021-01" in lines[0]
    assert published_nowhere(tmp_path)


def test_a_missing_file_is_named_with_the_setting(command, tmp_path):
    code, said = command("run", "2021-01", source=tmp_path / "trips_{month}.csv")
    assert code == 1
    assert "trips_2021-01.csv" in said
    assert "TAXI_SOURCE" in said


def test_a_postgres_that_is_down_is_named_with_its_place_before_anything_is_loaded(command, tmp_path):
    port = free_port()
    code, said = command("run", "2021-01", postgres_url=f"postgresql://me:s3cret@127.0.0.1:{port}/trips")
    assert code == 1
    *waits, line = said.splitlines()
    assert all(re.search(r"; attempt \d of 5 in \d+ s\.$", each) for each in waits), said
    assert line.startswith("error: postgres_table: 2021-01: ")
    assert str(port) in line
    assert "s3cret" not in said
    assert not list((tmp_path / ".taxi").rglob("*.parquet"))


def test_a_wrong_setting_is_one_sentence(command):
    code, said = command("run", "2021-01", sample_rows="many")
    assert code == 1
    assert "TAXI_SAMPLE_ROWS" in said
    assert "Traceback" not in said


def test_a_full_disk_is_said_in_one_sentence_and_leaves_the_month_before_it(command, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        url = EmbeddedPostgres(tmp_path / ".taxi" / "postgres").url()
        code, said = command("run", "2021-01", home=small, postgres_url=url)
        assert code == 0, said
        before = sorted(path.name for path in (small / "lake").rglob("*.parquet"))
        code, said = command("run", "2021-02", home=small, postgres_url=url, sample_rows=1_000_000)
        assert code == 1
        assert "2021-02" in said.split("was not loaded:")[1]
        assert "disk" in said.split("was not loaded:")[1]
        assert sorted(path.name for path in (small / "lake").rglob("*.parquet")) == before
        assert list((small / "staging").glob("*.parquet")) == []
    finally:
        subprocess.run(["umount", small], check=True)
