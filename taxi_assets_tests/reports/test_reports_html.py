"""The report is one well-formed, self-contained page with the values of the profile."""

import base64
import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxi_assets.core.manifest import Manifest
from taxi_assets.datasets.rules import RULES
from taxi_assets.publisher.rows import REASONS
from taxi_assets.publisher.zone_lookup import sample_zones
from taxi_assets.reports.bars import REASON_WORDS
from taxi_assets.reports.charts import ticks, trips_per_day, trips_per_day_bars, trips_per_day_svg, weekday_averages
from taxi_assets.reports.figures import MonthProfile, Zone
from taxi_assets.reports.html import SinkState, render
from taxi_assets.reports.words import compact, dollars, miles, percent
from taxi_assets_tests.cleaned_months import cleaned_rows, cleaned_sample

HOSTILE = """<script>alert(1)</script>"><img src=x onerror='y'>&amp;{{ 7*7 }}"""
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="session")
def profile(tmp_path_factory) -> MonthProfile:
    return cleaned_sample(tmp_path_factory.mktemp("report")).profile(sample_zones())


@pytest.fixture(scope="session")
def page(profile) -> str:
    return render(profile)


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)


def words(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def real(profile: MonthProfile, **changes) -> MonthProfile:
    """The profile as though its trips had taken place."""
    return dataclasses.replace(
        profile, origin=dataclasses.replace(profile.origin, generated=False, location="x"), **changes
    )


def test_the_page_is_well_formed_and_each_id_is_there_once(page):
    ids = [element.get("id") for element in parsed(page).iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 10
    assert page.startswith("<!DOCTYPE html>")


def test_the_page_loads_nothing_and_runs_nothing(page):
    tree = parsed(page)
    for element in tree.iter():
        assert element.tag not in ("script", "iframe", "object", "embed", "form", "base")
        for name, value in element.attrib.items():
            assert name not in ("src", "srcset", "action", "xlink:href"), name
            assert not name.startswith("on")
            assert name != "href" or value == "data:,"
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_names_from_outside_are_text_and_never_markup(profile):
    zone = Zone(7, HOSTILE, HOSTILE, 12)
    places = dataclasses.replace(profile.places, top=(zone,))
    origin = dataclasses.replace(profile.origin, source=HOSTILE, location=HOSTILE, version=HOSTILE)
    spoiled = dataclasses.replace(
        profile, places=places, origin=origin, reasons={HOSTILE: profile.rejected_rows}, payments={"99": 1}
    )
    tree = parsed(render(spoiled, sinks=[SinkState(HOSTILE, 1, (HOSTILE,), HOSTILE)]))
    assert not list(tree.iter("script"))
    assert not list(tree.iter("img"))
    assert words(tree).count("<script>alert(1)</script>") >= 7
    assert "{{ 7*7 }}" in words(tree)


def test_the_same_month_gives_the_same_page(profile, page):
    assert render(MonthProfile.from_json(profile.to_json())) == page


def test_every_picture_has_words_and_a_table(page, profile):
    tree = parsed(page)
    pictures = list(tree.iter("svg"))
    assert [picture.get("id") for picture in pictures] == ["days", "week", "distances", "fares"]
    ids = {element.get("id"): element for element in tree.iter() if element.get("id")}
    for picture in pictures:
        assert picture.get("role") == "img"
        named = [ids[id_] for id_ in picture.get("aria-labelledby").split()]
        assert [element.tag for element in named] == ["title", "desc"]
        assert all(len(words(element)) > 3 for element in named)
    tables = [details.find(".//table") for details in tree.iter("details")]
    assert [len(table.findall(".//tbody/tr")) for table in tables] == [31, 24, 41, 34]
    second = [cell.text for cell in tables[0].findall(".//tbody/tr")[1]]
    day = profile.days[1]
    assert second == ["Sat 2", f"{day.trips:,}", f"{day.rejected:,}", percent(day.share)]


def test_bars_are_as_high_as_their_days(profile):
    drawing = trips_per_day(profile)
    kept = [rect for rect in drawing.rects if rect.css == "kept"]
    assert len(kept) == len(profile.days)
    for rect, day in zip(kept, profile.days, strict=True):
        assert rect.height / kept[0].height == pytest.approx(day.trips / profile.days[0].trips)


def test_an_average_weekday_counts_how_often_the_month_has_it(profile):
    """January 2021 has five Fridays, Saturdays and Sundays, and four of the others."""
    for weekday, averages in enumerate(weekday_averages(profile)):
        assert sum(averages) * (5 if weekday >= 4 else 4) == pytest.approx(sum(profile.hours[weekday]))


def test_a_generated_month_says_so_at_once_and_a_published_one_does_not(profile, page):
    assert words(parsed(page).find(".//body"))[:17] == "Generated sample."
    assert "generated" in parsed(page).find(".//title").text
    assert "GENERATED SAMPLE" in trips_per_day_svg(profile)
    assert "generated" not in render(real(profile)).lower()
    assert "GENERATED" not in trips_per_day_svg(real(profile))


def test_reasons_are_explained_in_words(page):
    text = words(parsed(page))
    for reason in ("unknown_passengers", "pickup_outside_month"):
        assert next(rule.description for rule in RULES if rule.reason == reason) in text
    assert REASONS["unreadable_value"] in text
    assert "On no day of this chart: 3 rejected rows picked up outside the month" in text


def test_rows_that_do_not_add_up_are_said_first(profile):
    text = words(parsed(render(real(profile, raw_rows=profile.raw_rows + 5))).find(".//body"))
    assert text.startswith("Rows do not add up.")
    assert "5 are unaccounted for" in text


def test_other_years_are_compared_with_the_same_month_only(profile):
    other = lambda month, **changes: real(profile, month=month, **changes)  # noqa: E731
    double = dataclasses.replace(profile.totals, trips=profile.totals.trips * 2)
    others = [other("2022-01"), other("2020-01", totals=double), other("2020-02"), other("2019-01", kind="green")]
    text = words(parsed(render(real(profile), earlier=others)))
    assert "January in other years Against January 2020: 50.0% fewer trips kept, as many rows." in text
    years = re.search(r"Year Trips .*? What was rejected", text)[0]
    assert re.findall(r"\b20\d\d\b", years) == ["2020", "2021", "2022"]
    assert "in other years" not in words(parsed(render(profile, earlier=others[2:])))


def test_a_sink_is_the_same_or_says_what_differs():
    clean = Manifest(1000, {"total_amount": 5_000.0}, "2021-01-01 00:00:01", "2021-01-31 23:59:59", {})
    assert (
        SinkState.compare("a", clean, dataclasses.replace(clean, sums={"total_amount": 5_000.000001})).differences == ()
    )
    assert SinkState.compare("b", clean, None).differences == ("has no such month",)
    off = dataclasses.replace(clean, rows=999, sums={"total_amount": 4_990.5}, last=None)
    assert SinkState.compare("c", clean, off).differences == (
        "999 rows, not 1,000",
        "last pickup none, not 2021-01-31 23:59:59",
        "sum of total_amount 4,990.50, not 5,000.00",
    )


def test_sinks_are_counted_and_listed(profile):
    good, bad = SinkState("postgres_table", 5), SinkState("bq_table", None, ("has no such month",))
    assert "Every sink holds exactly the trips kept." in words(parsed(render(profile, sinks=[good])))
    text = words(parsed(render(profile, sinks=[good, bad])))
    assert "1 of 2 sinks hold exactly the trips kept." in text
    assert "bq_table none ✗ differs: has no such month" in text
    assert "Where the month is now" not in words(parsed(render(profile)))


@pytest.mark.parametrize("rows", [[], [{"passenger_count": 0}], [{}]], ids=["no rows", "none kept", "one trip"])
def test_the_smallest_months_have_a_report_too(tmp_path, rows):
    profile = cleaned_rows(tmp_path, rows).profile()
    parsed(render(profile, earlier=[dataclasses.replace(profile, month="2020-01")]))
    parsed(trips_per_day_svg(profile))


def test_zones_without_names_go_by_number_and_a_month_without_zones_says_why(tmp_path):
    numbered = cleaned_rows(tmp_path, [{"pulocationid": 7}, {"pulocationid": 264}, {"pulocationid": None}]).profile()
    text = words(parsed(render(numbered)))
    assert "Zone 7 1 33.3%" in text
    assert "Unknown zone 1 33.3%" in text
    assert "1 trip without a zone. No zone lookup of the publisher is loaded, so zones are shown by number: " in text
    nowhere = cleaned_rows(tmp_path, [{"pulocationid": None, "pickup_longitude": -73.9}]).profile()
    assert "published with coordinates instead of taxi zones" in words(parsed(render(nowhere)))


def test_request_sources_have_names_and_the_share_that_was_kept(profile, page):
    kept, rejected = {"": 700, "A": 38, "HV0005": 8}, {"HV0003": 206, "HV0005": 8, "B": 1}
    text = words(parsed(render(dataclasses.replace(profile, request_sources=kept, rejected_request_sources=rejected))))
    assert (
        "Source Trips Kept Street hail 700 100.0% Uber HV0003 206 0.0% A (not documented) 38 100.0% Lyft HV0005 16"
        in text
    )
    assert "Code B 1 0.0%" in text
    assert "Who requested them" not in words(parsed(page))


def test_the_picture_for_metadata_is_one_svg_image_of_its_own(profile):
    text = trips_per_day_svg(profile)
    tree = parsed(text)
    assert tree.tag == f"{SVG}svg"
    assert (tree.get("width"), tree.get("height")) == ("760", "460")
    assert not [name for element in tree.iter() for name in element.attrib if name.endswith("href")]
    assert "var(" not in text
    assert len(text) < 60_000


@given(st.floats(1e-5, 1e8), st.integers(2, 6), st.booleans())
def test_axes_end_at_a_round_number_that_holds_the_data_without_much_air(most, count, whole):
    found = ticks(most, count, whole=whole)
    step = found[1]
    assert found[0] == 0
    assert found[-1] >= most * 0.999
    assert found[-1] - step < max(most, 1.0 if whole else 0)
    assert len(found) <= count + 2
    assert f"{step:.2e}"[:4] in ("1.00", "2.00", "2.50", "5.00")
    assert not whole or all(tick == round(tick) for tick in found)


def test_figures_are_spelt_as_a_reader_expects():
    assert [percent(part) for part in (0, 0.00001, 0.0312, 1)] == ["0.0%", "<0.1%", "3.1%", "100.0%"]
    assert [dollars(value) for value in (0, -0.001, 2.5, -1234, 10.0)] == ["$0", "$0", "$2.50", "−$1,234", "$10"]
    assert dollars(1234.5, 0) == "$1,234"
    assert [miles(value) for value in (1.88, 2.5, 20, 1000)] == [f"{v}\u00a0mi" for v in ("1.88", "2.5", "20", "1,000")]
    assert [compact(value) for value in (0, 60_000, 150_000, 2_500_000)] == ["0", "60,000", "150k", "2.5m"]


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * c for c in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_and_bars_stand_out_in_both_themes(page, theme):
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S)
    )
    colors = light if theme == "light" else light | dark
    for ink in ("ink", "soft", "good", "bad"):
        assert contrast(colors[ink], colors["page"]) >= 4.5, ink
    assert contrast(colors["warn-ink"], colors["warn"]) >= 4.5
    for bar in ("kept", "rejected", "tail"):
        assert contrast(colors[bar], colors["page"]) >= 3, bar


def test_every_reason_that_exists_has_its_words():
    assert REASON_WORDS.keys() == {rule.reason for rule in RULES} | REASONS.keys()


def test_the_small_picture_fits_what_dagster_shows_at_once(profile):
    days = tuple(dataclasses.replace(day, trips=1000 + i, rejected=900) for i, day in enumerate(profile.days))
    svg = trips_per_day_bars(dataclasses.replace(profile, days=days))
    address = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    assert len(f"![2021-03: trips per day, kept and rejected]({address})") < 1000
    every, kept = ET.fromstring(svg)
    assert len(days) == every.get("d").count("h1") == kept.get("d").count("h1") == 31


def test_the_small_picture_of_one_trip(tmp_path):
    every, kept = ET.fromstring(trips_per_day_bars(cleaned_rows(tmp_path, [{}]).profile()))
    assert every.get("d") == kept.get("d")
    assert every.get("d").count("V0h1") == 1
    assert every.get("d").count("V40h1") == 30
