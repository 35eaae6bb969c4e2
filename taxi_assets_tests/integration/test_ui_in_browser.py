"""A newcomer in a real browser sees the graph, loads months, one by clicking, finds checks green, opens the report."""

from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from taxi_assets.assets.publisher import DATA_VERSION
from taxi_assets.datasets.schema import FHV, FHVHV, GREEN, KINDS
from taxi_assets.keys import INGEST, REPORTS, SINKS, group
from taxi_assets_tests.browser import browser, visit  # noqa: F401
from taxi_assets_tests.live_ui import environment, live_ui, materialize
from taxi_assets_tests.processes import running

SLOW = 120_000
"""Timeout of a page in milliseconds, for a busy machine."""


def report_named_by_the_graph(page, ui: str, asset: str, name: str, home: Path) -> Path:
    """The report's file, from the asset's page in the UI."""
    page.goto(f"{ui}/assets/{asset}?view=events")
    picture = page.get_by_role("img", name="trips per day, kept and rejected")
    picture.wait_for()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    report = home / ".taxi/bucket/reports" / name
    assert page.get_by_text(f"/reports/{name}").first.inner_text() in (report.as_uri(), str(report))
    return report


def observe(home: Path, month: str, version: str) -> None:
    """Record that the publisher has this version of the month, as the sensor of new months does."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        tags = {DATA_VERSION: version}
        instance.report_runless_asset_event(dg.AssetObservation("publisher", partition=f"{month}-01", tags=tags))


def is_unsynced(page, ui: str) -> bool:
    """Whether the page of the month of raw_trips shows that its upstream data changed."""
    page.goto(f"{ui}/assets/raw_trips?view=partitions&partition=2021-01-01")
    page.get_by_text("Latest materialization").first.wait_for()
    page.wait_for_load_state("networkidle")
    if not page.get_by_text("Unsynced").count():
        return False
    page.get_by_text("Unsynced").hover()
    for text in ("1 upstream data version change", "publisher", "has a new data version"):
        page.get_by_text(text, exact=True).last.wait_for()
    return True


LOAD = """
import sys

import dagster as dg

from taxi_assets.datasets.schema import KINDS
from taxi_assets.definitions import defs
from taxi_assets.keys import job_name, key

with dg.DagsterInstance.get() as instance:
    for kind in (KINDS[name] for name in sys.argv[2:]):
        assets = [key(kind, name) for name in ("raw_trips", "clean_trips", "rejected_trips", "postgres_table")]
        job = defs.resolve_job_def(job_name(kind))
        job.execute_in_process(partition_key=sys.argv[1], instance=instance, asset_selection=assets)
"""
"""Loads a month of datasets into one sink, in one process: a run launched by the UI takes several times as long."""


@pytest.mark.long
def test_months_of_all_datasets_are_shown_and_one_is_loaded_by_clicking_and_its_report_opens(browser, tmp_path):  # noqa: F811
    kinds, others = ",".join(KINDS), (GREEN, FHV, FHVHV)
    command = ("-c", LOAD, "2021-01-01", *(kind.name for kind in others))
    env, log = environment(tmp_path, kinds=kinds), tmp_path / "load.log"
    with live_ui(tmp_path, kinds=kinds) as ui, visit(browser, f"{ui}/asset-groups", 1600) as visited:
        page = visited.page
        page.set_default_timeout(SLOW)
        for name in (group(kind, name) for kind in KINDS.values() for name in (INGEST, SINKS, REPORTS)):
            page.get_by_text(name, exact=True).locator("visible=true").nth(1).wait_for()  # in the list and in the graph
        with running(*command, env=env, cwd=tmp_path, log=log) as loading:
            materialize(page, ui, "2021-01")
            assert loading.wait(240) == 0, log.read_text()
        for kind in others:
            page.goto(f"{ui}/assets/{kind.name}/postgres_table?view=partitions&partition=2021-01-01")
            page.get_by_text("Materialized", exact=True).wait_for()
        for asset, checks in (("clean_trips", 2), ("postgres_table", 1), ("daily_summary", 1)):
            page.goto(f"{ui}/assets/{asset}?view=checks")
            page.get_by_text("Succeeded", exact=True).nth(checks - 1).wait_for()
            assert page.get_by_text("Failed", exact=True).count() == 0
        report = report_named_by_the_graph(page, ui, "month_report", "yellow/2021-01.html", tmp_path)
        assert not is_unsynced(page, ui)
        observe(tmp_path, "2021-01", "of another day")
        assert is_unsynced(page, ui)
    for width in (1280, 390):
        with visit(browser, report.as_uri(), width) as opened:
            assert opened.page.get_by_role("heading", name="Yellow taxis, January 2021").count() == 1
            assert opened.page.get_by_text("Generated sample.").count() == 1
            assert opened.page.get_by_text("postgres_table").count() > 0
            assert opened.complaints == []
            assert opened.requests == [report.as_uri()]


@pytest.mark.long
def test_the_report_of_a_real_month_opens_from_the_graph(browser, tlc, tmp_path):  # noqa: F811
    file = tlc("green_full_months/green_tripdata_2021-03.parquet")
    source = str(file).replace("2021-03", "{month}")
    with live_ui(tmp_path, source=source, kinds="green") as ui, visit(browser, ui, 1280) as visited:
        visited.page.set_default_timeout(SLOW)
        materialize(visited.page, ui, "2021-03", GREEN)
        report = report_named_by_the_graph(visited.page, ui, "green/month_report", "green/2021-03.html", tmp_path)
    passengers = pq.read_table(file, columns=["passenger_count"])["passenger_count"].to_pylist()
    kept = sum(1 for count in passengers if count)
    for width in (1280, 390):
        for theme in ("light", "dark"):
            with visit(browser, report.as_uri(), width, theme) as opened:
                page = opened.page
                assert page.get_by_role("heading", name="Green taxis, March 2021").count() == 1
                assert f"{len(passengers):,} rows were published. {kept:,} trips were kept" in page.inner_text("body")
                assert page.get_by_text("Generated sample.").count() == 0
                assert page.get_by_text("the same").count() == 4
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert opened.complaints == []
                assert opened.requests == [report.as_uri()]
