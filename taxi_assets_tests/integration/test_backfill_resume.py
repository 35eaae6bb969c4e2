"""`make backfill`: killed and resumed, every month is loaded once; what fails is named; ranges work on Dagster's own CLI."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import psycopg
import pytest

from taxi_assets.cli.main import main
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.fake_publisher import fake_publisher
from taxi_assets_tests.processes import REPOSITORY, until
from taxi_assets_tests.sample_facts import expected

ROWS = 1000
MONTHS = [f"2020-{month:02d}" for month in range(1, 10)]
INGEST = ("raw_trips", "clean_trips", "rejected_trips")
ASSETS = (*INGEST, "postgres_table", "gcs_parquet", "gcs_partitioned", "bq_table", "daily_summary", "month_report")


class Home:
    """A separate TAXI_HOME, and the command run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {"TAXI_SOURCE": "sample", "TAXI_SAMPLE_ROWS": str(ROWS)}
        shutil.copy(REPOSITORY / "dagster.yaml", folder)
        self.postgres = EmbeddedPostgres(folder / ".taxi" / "postgres")

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAXI_", "DAGSTER_"))}
        return {**kept, "DAGSTER_HOME": str(self.folder), "PYTHONPATH": str(REPOSITORY), **self.settings}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "taxi_assets", "backfill", *arguments]
        # a shell's background job ignores it, and so would this
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            command, env=self.environment, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def backfill(self, first: str, last: str, *more: str) -> tuple[int, str]:
        with self.begin("--from", first, "--to", last, *more) as process:
            said = process.communicate(timeout=300)[0]
        return process.returncode, said

    def status(self, first: str, last: str) -> dict[str, str]:
        """The output of `taxi-assets status` about groups of months."""
        command = [sys.executable, "-m", "taxi_assets", "status", "--from", first, "--to", last]
        shown = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60, check=True
        )
        return {months: reason for reason, months in re.findall(r"^ +\d+  (.*): ([-\d, to]+)$", shown.stdout, re.M)}

    def history(self) -> Counter[str]:
        """How often each month was loaded into Postgres, as its history has it."""
        with psycopg.connect(self.postgres.url()) as connection:
            return Counter(
                f"{month:%Y-%m}" for (month,) in connection.execute("SELECT month FROM ny_taxi.load_history")
            )

    def rows(self) -> Counter[str]:
        """Rows of each month in Postgres."""
        query = "SELECT to_char(tpep_pickup_datetime, 'YYYY-MM'), count(*) FROM ny_taxi.yellow_cab_data GROUP BY 1"
        with psycopg.connect(self.postgres.url()) as connection:
            return Counter(dict(connection.execute(query).fetchall()))

    def materialized(self) -> Counter[tuple[str, str]]:
        """How often each asset's month was materialized."""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            return Counter(
                (asset, record.partition_key[:7])
                for asset in ASSETS
                for record in instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records
            )

    def on_the_partition_bar(self) -> dict[str, set[str]]:
        """The months of each asset that the UI shows as materialized."""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            return {
                asset: {key[:7] for key in instance.get_materialized_partitions(dg.AssetKey(asset))} for asset in ASSETS
            }

    def runs(self) -> list[dg.DagsterRun]:
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            return list(instance.get_runs())


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Iterator[Home]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))  # where Dagster's history is, for the tests' own queries
    made = Home(tmp_path)
    yield made
    made.postgres.remove()


def kept(month: str, rows: int = ROWS) -> int:
    return expected(YELLOW, Month.parse(month), rows).expected_kept


def kill_after(process: subprocess.Popen[str], months: int, later: float) -> tuple[set[str], list[psutil.Process]]:
    """Kill -9 the backfill some time after so many months were loaded; those, and the workers it had."""
    loaded: set[str] = set()
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"\] (\d{4}-\d{2}) loaded", line):
            loaded.add(found[1])
        if len(loaded) == months:
            break
    assert len(loaded) == months, "the backfill ended before it could be killed"
    time.sleep(later)
    workers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    rest = process.communicate(timeout=30)[0]
    return loaded | set(re.findall(r"\] (\d{4}-\d{2}) loaded", rest)), workers


@pytest.mark.long
def test_a_backfill_killed_twice_and_resumed_loads_every_month_once(home: Home):
    arguments = ("--from", MONTHS[0], "--to", MONTHS[-1], "--jobs", "2")
    finished: set[str] = set()
    for months, later in ((2, 0.4), (3, 1.0)):
        loaded, workers = kill_after(home.begin(*arguments), months, later)
        assert not loaded & finished, "a finished month was loaded again"
        finished |= loaded
        until(
            lambda workers=workers: not any(w.is_running() for w in workers), 10, "the workers to end with their parent"
        )
    code, said = home.backfill(MONTHS[0], MONTHS[-1], "--jobs", "2")
    assert code == 0, said
    assert "skipped: " in said
    assert not any(f"] {month} loaded" in said for month in finished)
    assert home.rows() == {month: kept(month) for month in MONTHS}
    assert home.history() == dict.fromkeys(MONTHS, 1)
    made = home.materialized()
    cut = Counter(run.tags["dagster/partition"][:7] for run in home.runs() if run.status is dg.DagsterRunStatus.FAILURE)
    assert cut.total() <= 4
    for month in MONTHS:  # a killed month is resumed: what its sinks have is not loaded again
        most = 1 + cut[month]
        assert all((not cut[month]) <= made[asset, month] <= most for asset in ASSETS), month
    assert all(run.is_finished for run in home.runs())
    assert len({run.tags["taxi_assets/backfill"] for run in home.runs()}) == 3  # one for each command
    # a kill may come between a sink's commit and its event
    assert home.on_the_partition_bar() == {asset: {month for month in MONTHS if made[asset, month]} for asset in ASSETS}
    code, said = home.backfill(MONTHS[0], MONTHS[-1])
    assert code == 0
    assert "nothing to do" in said
    assert home.materialized() == made


KILLER = """
import os, signal
from pathlib import Path
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager

load = PostgresIOManager.replace

def replace(self, table, month_file, write):
    metadata = load(self, table, month_file, write)
    killed = Path(os.environ["DAGSTER_HOME"]) / f"killed-{month_file.month}"
    if not killed.exists():
        killed.touch()
        if str(month_file.month) == "2020-02":
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return metadata

PostgresIOManager.replace = replace
"""
"""Python runs it as it starts: a worker is killed when a month is in Postgres and Dagster has not recorded it yet, and with
the second month the backfill, too."""


@pytest.mark.long
def test_a_month_whose_load_was_killed_is_resumed_and_is_one_load_of_the_history(home: Home):
    (home.folder / "sitecustomize.py").write_text(KILLER)
    home.settings["PYTHONPATH"] = f"{home.folder}:{REPOSITORY}"
    arguments = ("2020-01", "2020-02", "--jobs", "1")
    code, said = home.backfill(*arguments)
    assert code == -signal.SIGKILL
    assert "] 2020-01 loaded" in said  # its worker was killed: it was tried once more
    assert home.backfill(*arguments)[0] == 0
    months = ("2020-01", "2020-02")
    assert {path.name for path in home.folder.glob("killed-*")} == {f"killed-{month}" for month in months}
    assert home.history() == dict.fromkeys(months, 1)
    assert home.rows() == {month: kept(month) for month in months}
    statuses = Counter((run.tags["dagster/partition"][:7], run.status.value) for run in home.runs())
    assert statuses == {(month, status): 1 for month in months for status in ("FAILURE", "SUCCESS")}
    assert {home.materialized()[asset, month] for asset in INGEST for month in months} == {1}


def test_ctrl_c_lets_the_months_in_progress_finish(home: Home):
    process = home.begin("--from", "2020-01", "--to", "2020-04", "--jobs", "1")

    def begun() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return any("2020-01" in run.tags["dagster/partition"] for run in home.runs())

    until(begun, 60, "the first month's run")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert "] 2020-01 loaded" in said
    assert "3 months; run it again to resume" in said
    assert set(home.rows()) == {"2020-01"}
    assert all(run.status is dg.DagsterRunStatus.SUCCESS for run in home.runs())


@pytest.mark.long
def test_heaviest_first_and_a_month_that_fails_is_named_while_the_others_are_loaded(home: Home, tmp_path: Path):
    with fake_publisher(tmp_path / "published") as publisher:
        home.settings = {"TAXI_SOURCE": publisher.source}
        for month, rows in (("2020-01", 300), ("2020-02", 3000), ("2020-04", 1200)):
            publisher.publish(month, rows)
        publisher.publish_page("2020-03")
        publisher.fail("2020-02", 2)
        code, said = home.backfill("2020-01", "2020-05", "--jobs", "1")
        assert code == 1
        assert "skipped: 2020-05: not published" in said
        order = re.findall(r"\] (\d{4}-\d{2}) (loaded|FAILED)", said)
        assert order == [("2020-02", "loaded"), ("2020-04", "loaded"), ("2020-01", "loaded"), ("2020-03", "FAILED")]
        assert publisher.asked("2020-02") == 3  # refused twice, then downloaded
        (sentence,) = re.findall(r"^    2020-03  (.*)", said, re.MULTILINE)
        assert "raw_trips" in sentence
        assert "web page" in sentence
        assert "Traceback" not in said
        publisher.publish("2020-03")
        publisher.publish("2020-01", 400, variant=1)  # republished since
        assert home.status("2020-01", "2020-05") == {
            "2020-01": "republished since it was loaded",
            "2020-02, 2020-04": "every asset is loaded by the current code, from the published version",
            "2020-03": "published, not loaded yet",
            "2020-05": "not published",
        }
        code, said = home.backfill("2020-01", "2020-04", "--jobs", "1")
        assert code == 0, said
        assert set(re.findall(r"\] (\d{4}-\d{2}) loaded", said)) == {"2020-01", "2020-03"}
        assert home.rows()["2020-01"] == kept("2020-01", 400)
        assert home.history()["2020-02"] == 1


def test_two_backfills_at_once_are_refused(home: Home):
    first = home.begin("--from", "2020-01", "--to", "2020-02", "--jobs", "1")
    try:
        until(lambda: (home.folder / ".taxi" / "backfill.lock").exists(), 60, "the first to begin")
        time.sleep(0.5)
        code, said = home.backfill("2020-01", "2020-02")
        assert code == 1
        assert "Another backfill is already running" in said
        assert str(first.pid) in said
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "2020-05", "--to", "2020-01"), "2020-05 is after 2020-01"),
        (("--from", "2020-01", "--to", "2097-01"), "2097-01 cannot be loaded"),
        (("--from", "2020-01", "--to", "2020-02", "--jobs", "0"), "--jobs must be at least 1"),
    ],
)
def test_an_impossible_backfill_is_refused_in_one_sentence(capsys, arguments, sentence):
    assert main(["backfill", *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_a_range_of_months_in_one_run_on_dagsters_command_line(home: Home):
    home.settings["TAXI_MONTHS_PER_RUN"] = "all"
    command = [
        sys.executable,
        "-m",
        "dagster",
        "asset",
        "materialize",
        "-m",
        "taxi_assets.definitions",
        "--select",
        "raw_trips*",
    ]
    done = subprocess.run(
        [*command, "--partition-range", "2020-01-01...2020-03-01"],
        env=home.environment, cwd=home.folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert home.rows() == {month: kept(month) for month in MONTHS[:3]}
    code, said = home.backfill("2020-01", "2020-03")  # months loaded that way count as loaded
    assert (code, "nothing to do" in said) == (0, True), said
