"""The report in a real browser: no errors, no requests, no overflow, at desktop and phone widths."""

from pathlib import Path

import pytest

from taxi_assets.datasets.schema import GREEN
from taxi_assets.publisher.zone_lookup import read_zones, sample_zones
from taxi_assets.reports.charts import trips_per_day_svg
from taxi_assets.reports.html import SinkState, render
from taxi_assets_tests.browser import browser, visit  # noqa: F401
from taxi_assets_tests.cleaned_months import cleaned, cleaned_rows, cleaned_sample

SINKS = [
    SinkState("postgres_table", 1_234_567, (), "postgresql://a-rather-long-host.example.internal:5432/ny_taxi"),
    SinkState("gcs_partitioned", 1_234_560, ("1,234,560 rows, not 1,234,567",)),
    SinkState("bq_table", None, ("has no such month",)),
]
LONG = "x" * 200


@pytest.fixture(params=["generated yellow", "green 2021-03", "one trip"])
def report(request, tmp_path, tlc) -> Path:
    """A report on disk: a generated month, a real one with its year before, the smallest."""
    match request.param:
        case "generated yellow":
            text = render(cleaned_sample(tmp_path).profile(sample_zones()), sinks=SINKS)
        case "green 2021-03":
            zones = read_zones(tlc("lookup/taxi_zone_lookup.csv"))
            now, then = (
                cleaned(tlc(f"green_full_months/green_tripdata_{name}"), GREEN, name[:7], tmp_path).profile(zones)
                for name in ("2021-03.parquet", "2022-03.parquet")
            )
            text = render(now, earlier=[then], sinks=SINKS)
        case _:
            text = render(cleaned_rows(tmp_path, [{}], source=LONG, location=LONG).profile(), sinks=SINKS)
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


# texts of a picture that lie on each other, or outside of the window
CLASHES = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()])
    const seen = texts.filter(([, at]) => at.width)
    const clash = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2
    return seen.flatMap(([text, at], i) => [
        ...(at.left < 0 || at.right > innerWidth ? [`${svg.id}: ${text} is outside`] : []),
        ...seen.slice(i + 1).filter(other => clash(at, other[1])).map(other => `${svg.id}: ${text} on ${other[0]}`)])
})"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_report_shows_without_errors_requests_or_overflow(browser, report, width, theme):  # noqa: F811
    with visit(browser, report.as_uri(), width, theme) as visited:
        page = visited.page
        page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        assert visited.complaints == []
        assert [address for address in visited.requests if not address.startswith("data:")] == [report.as_uri()]
        wide, window = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= window == width
        assert page.evaluate(CLASHES) == []


def test_every_picture_has_a_name_and_a_description(browser, report):  # noqa: F811
    with visit(browser, report.as_uri(), 1280) as visited:
        pictures = visited.page.get_by_role("img")
        assert pictures.count() == visited.page.locator("svg, img").count() == 4
        for name in ("Trips per day", "Trips by hour and weekday", "Distances", "Fares"):
            assert visited.page.get_by_role("img", name=name).count() == 1


@pytest.mark.parametrize("width", [1280, 390])
def test_words_in_pictures_keep_their_size(browser, report, width):  # noqa: F811
    with visit(browser, report.as_uri(), width) as visited:
        heights = visited.page.evaluate(
            "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
        )
        shown = [height for height in heights if height]
        assert len(shown) > 30
        assert all(11 <= height <= 20 for height in shown)


def test_the_page_is_dark_where_the_reader_likes_it_dark(browser, report):  # noqa: F811
    background = "getComputedStyle(document.body).backgroundColor"
    with visit(browser, report.as_uri(), 1280) as light, visit(browser, report.as_uri(), 1280, "dark") as dark:
        assert light.page.evaluate(background) == "rgb(252, 251, 248)"
        assert dark.page.evaluate(background) == "rgb(22, 24, 27)"


def test_the_picture_for_metadata_is_shown_from_a_data_address(browser, tmp_path):  # noqa: F811
    import base64

    image = base64.b64encode(trips_per_day_svg(cleaned_sample(tmp_path).profile()).encode()).decode()
    path = tmp_path / "metadata.html"
    path.write_text(f'<img alt="" src="data:image/svg+xml;base64,{image}">')
    with visit(browser, path.as_uri(), 1280) as visited:
        assert visited.page.evaluate("(i => [i.complete, i.naturalWidth, i.naturalHeight])(document.images[0])") == [
            True,
            760,
            460,
        ]
