"""The log alerts of terraform/monitoring.tf match the lines that Dagster writes; Google's own lines are quoted from users.

The daemon's lines are looked up in Dagster's source, for making them takes minutes of waiting; test_launcher.py has a run's.
"""

import datetime as dt
import inspect
import re
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.monitoring import run_monitoring
from dagster._daemon.run_coordinator import queued_run_coordinator_daemon

from taxi_assets.automation.deadlines import DEADLINE, check_result
from taxi_assets.core.month import Month
from taxi_assets.publisher.published import Published
from taxi_assets.status.probing import ProbeResults

MONITORING = (Path(__file__).resolve().parents[2] / "terraform/monitoring.tf").read_text()
FILTERS = dict(re.findall(r'^    (\w+) = \{\n(?:.*\n)*?      filter\s*= "(.*)"\n', MONITORING, re.MULTILINE))


def matches(alert: str, line: str) -> bool:
    """Whether the conditions on the text of a log entry hold, as Cloud Logging reads them."""
    conditions = re.findall(r'(NOT )?textPayload(:|=~)\\"(.+?)\\"', FILTERS[alert])
    assert conditions
    found = [(bool(no), text in line if op == ":" else bool(re.search(text, line))) for no, op, text in conditions]
    return all(hit is not no for no, hit in found)


def test_each_phrase_of_the_daemon_is_one_that_dagster_writes() -> None:
    source = "".join(map(inspect.getsource, (run_monitoring, queued_run_coordinator_daemon)))
    phrases = re.search(r'textPayload=~\\"(.+?)\\"', FILTERS["run_not_started"])[1].split("|")
    assert len(phrases) == 3
    for phrase in (*phrases, "Detected run worker status"):
        assert phrase in source
        assert matches("run_not_started", f"dagster.daemon - ERROR - {phrase} 1234") == (phrase in phrases)


def test_a_late_month_is_reported_by_the_line_that_the_alert_looks_for(capfd: pytest.CaptureFixture) -> None:
    month, published = Month(2021, 1), dt.datetime(2021, 3, 1, tzinfo=dt.UTC)
    results = ProbeResults({month: Published("https://example.com/2021-01.parquet", "v1", 1, published)}, None)

    def lines(loaded: bool) -> list[str]:
        @dg.asset_check(asset="postgres_table", name=DEADLINE)
        def deadline() -> dg.AssetCheckResult:
            now = published + dt.timedelta(days=30)
            return check_result(next(iter(deadline.check_keys)), results, loaded=loaded, days=7, now=now)

        job = dg.define_asset_job("deadlines", selection=dg.AssetSelection.checks(deadline))
        dg.Definitions(asset_checks=[deadline], jobs=[job]).resolve_job_def("deadlines").execute_in_process()
        return [line for line in capfd.readouterr().err.splitlines() if matches("deadline", line)]

    assert len(lines(loaded=False)) == 1
    assert lines(loaded=True) == []


@pytest.mark.parametrize(
    ("alert", "line", "expected"),
    [
        ("memory", "Memory limit of 2048 MiB exceeded with 2101 MiB used. Consider increasing the memory limit", True),
        ("container_exit", "Container called exit(1).", True),
        ("container_exit", "Container called exit(0).", False),
    ],
)
def test_lines_of_cloud_run(alert: str, line: str, expected: bool) -> None:
    assert matches(alert, line) is expected
