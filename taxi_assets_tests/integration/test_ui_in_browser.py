"""A newcomer in a real browser sees the graph, loads a month by clicking, finds checks green, opens the report."""

from collections.abc import Iterator

import pytest

from taxi_assets_tests.browser import browser, visit  # noqa: F401
from taxi_assets_tests.live_ui import GRAPH, live_ui, materialise

SLOW = 120_000
"""Milliseconds that a page may take on a machine with other things to do."""


@pytest.fixture
def ui(browser, tmp_path) -> Iterator[str]:  # noqa: F811
    with live_ui(tmp_path) as address:
        yield address


def test_a_month_is_loaded_by_clicking_and_its_report_opens(browser, ui, tmp_path):  # noqa: F811
    with visit(browser, ui + GRAPH, 1600) as visited:
        page = visited.page
        page.set_default_timeout(SLOW)
        for asset in ("raw_trips", "clean_trips", "postgres_table", "bq_table", "daily_summary", "month_report"):
            page.get_by_text(asset, exact=True).locator("visible=true").first.wait_for()
        materialise(page, ui, "2021-01")
        for asset, checks in (("clean_trips", 2), ("postgres_table", 1), ("daily_summary", 1)):
            page.goto(f"{ui}/assets/{asset}?view=checks")
            page.get_by_text("Succeeded", exact=True).nth(checks - 1).wait_for()
            assert page.get_by_text("Failed", exact=True).count() == 0
        page.goto(f"{ui}/assets/month_report?view=events")
        picture = page.get_by_role("img", name="2021-01: trips per day, kept and rejected")
        picture.wait_for()
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
        address = page.get_by_text("/reports/yellow/2021-01.html").first.inner_text()
        # Apollo, the UI's own GraphQL client, complains of answers that come after one has moved on to another page
        assert [text for text in visited.complaints if "go.apollo.dev" not in text] == []
    report = tmp_path / ".taxi/bucket/reports/yellow/2021-01.html"
    assert address in (report.as_uri(), str(report))
    for width in (1280, 390):
        with visit(browser, report.as_uri(), width) as opened:
            assert opened.page.get_by_role("heading", name="Yellow taxis, January 2021").count() == 1
            assert opened.page.get_by_text("postgres_table").count() > 0
            assert opened.complaints == []
            assert opened.requests == [report.as_uri()]
