# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The questions of docs/data.md are answered by the same SQL in Postgres, DuckDB and BigQuery, as pandas answers them."""

from __future__ import annotations

import re
import uuid

import duckdb
import pandas as pd
import pytest

from taxi_assets.core.dimension import Dimension
from taxi_assets.datasets.codes import CODE_VIEWS, COMPANIES
from taxi_assets.datasets.schema import FHVHV, KINDS
from taxi_assets.datasets.trips import trips
from taxi_assets.datasets.zones import ZONES
from taxi_assets.publisher.zone_lookup import sample_zones
from taxi_assets.sinks.contract import WriteContext
from taxi_assets_tests.bigquery_fixtures import PROJECT
from taxi_assets_tests.cleaned_months import cleaned_sample
from taxi_assets_tests.conftest import REPOSITORY
from taxi_assets_tests.postgres_fixtures import rows_of
from taxi_assets_tests.sinks.place_fixtures import place
from taxi_assets_tests.sinks.places.base import Place
from taxi_assets_tests.sinks.places.managers import MAKE

PAGE = (REPOSITORY / "docs" / "data.md").read_text().partition("## All datasets in one view")[2]
BOROUGHS, AIRPORTS, TIPS, SHARE = re.findall(r"```sql\n(.*?);\n```", PAGE, re.DOTALL)


@pytest.fixture(params=["postgres", "duckdb", "bigquery"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def frame(place: Place, request: pytest.FixtureRequest, tmp_path) -> pd.DataFrame:
    """The trips that were loaded, under the names of the view, and their zones."""
    sink, frames = MAKE[place.name](place.where), []
    for kind in KINDS.values():
        clean = cleaned_sample(tmp_path, 2_000, "2021-01", kind).clean
        where = request.getfixturevalue("bigquery").upload(clean) if place.name == "bigquery" else clean
        sink.replace(kind.table, where, WriteContext("run", uuid.uuid4().hex[:12], lambda _: None, {}))
        measures, data = kind.measures, clean.to_arrow().to_pandas()
        columns = {
            "pulocationid": "pulocationid",
            "distance": measures.distance,
            "fare": measures.fare,
            "tip": measures.tip,
        }
        found = pd.DataFrame({name: data[of] if of else None for name, of in columns.items()})
        found["dataset"], found["total"] = kind.name, data[list(measures.total)].sum(axis=1) if measures.total else None
        found["carrier"] = data["hvfhs_license_num"].map(COMPANIES) if kind is FHVHV else kind.name
        frames.append(found)
    zones = Dimension.of(ZONES, sample_zones(), {"sha256": "a", "generated": True})
    sink.dimensions.replace(ZONES, zones, WriteContext("run", "token", lambda _: None, {}))
    sink.views.replace([trips(), *CODE_VIEWS])
    together = pd.concat(frames, ignore_index=True)
    return together.merge(sample_zones().to_pandas(), left_on="pulocationid", right_on="locationid", how="left")


def ask(place: Place, query: str) -> list[tuple]:
    if place.name == "duckdb":
        with duckdb.connect(place.where, read_only=True) as connection:
            return connection.execute(query).fetchall()
    if place.name == "postgres":
        return rows_of(place.where, query)
    named = re.sub(r"ny_taxi\.(\w+)", rf"`{PROJECT}.{place.dataset}.\1`", query)
    return [tuple(row.values()) for row in place.client.query(named).result()]


def plain(rows: list[tuple]) -> list[tuple]:
    return [
        tuple(value if isinstance(value, str | None) else pytest.approx(float(value)) for value in row) for row in rows
    ]


def test_each_question_has_the_answer_of_pandas(place, frame):
    by_carrier = frame.groupby(["borough", "carrier"]).size().to_dict()
    found = ask(place, BOROUGHS)
    assert {row[:2]: row[2] for row in found if row[0]} == by_carrier
    assert [row[2] for row in found] == sorted((row[2] for row in found), reverse=True)

    airports = frame[frame.pulocationid.isin([1, 132, 138])].groupby(["pulocationid", "dataset"])
    expected = airports.agg(trips=("fare", "size"), miles=("distance", "mean"), dollars=("total", "mean")).reset_index()
    rows = expected.astype(object).where(expected.notna(), None).itertuples(index=False, name=None)
    assert [tuple(row) for row in ask(place, AIRPORTS)] == plain(list(rows))

    tipped = frame[(frame.fare > 0) & (frame.tip > 0)].groupby("zone")
    shares = tipped.agg(tip=("tip", "sum"), fare=("fare", "sum"), trips=("fare", "size"))
    shares["share"] = shares.tip.astype(float) / shares.fare.astype(float)
    best = shares.reset_index().sort_values(["share", "zone"], ascending=[False, True]).head(10)
    assert [row[0] for row in ask(place, TIPS)] == best.zone.to_list()
    assert [float(row[1]) for row in ask(place, TIPS)] == pytest.approx(best.share.to_list())

    yellow, high = ((frame.dataset == name).sum() for name in ("yellow", "fhvhv"))
    ((year, month, *counts),) = ask(place, SHARE)
    assert (int(year), int(month)) == (2021, 1)
    assert [float(count) for count in counts] == pytest.approx([yellow, high, yellow / (yellow + high)])
