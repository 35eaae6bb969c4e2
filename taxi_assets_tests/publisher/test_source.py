"""Sources of months: each one, months that are not published, and refused requests."""

import datetime as dt
import gzip
import hashlib
import os
import traceback
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.publisher import source as sources
from taxi_assets.publisher.download import DownloadPolicy
from taxi_assets.publisher.lookups import ZONES, named_lookup
from taxi_assets.publisher.reader import open_trips
from taxi_assets.publisher.source import WebSource, trip_source
from taxi_assets.publisher.template import filled
from taxi_assets.publisher.unpublished import NEW_YORK
from taxi_assets.publisher.zone_lookup import read_zones, sample_zones
from taxi_assets_tests.misbehaving_server import Fault, Offer, misbehaving_server

JANUARY, KNOWN = Month(2021, 1), Month(2019, 1)
QUICK = DownloadPolicy(
    attempts=2, total_seconds=10, connect_seconds=2, read_seconds=1, first_pause=0.01, longest_pause=0.05
)
CSV = b"VendorID,tpep_pickup_datetime\n1,2021-01-01 00:00:00\n"


def ago(months: int) -> Month:
    """The month so many before the current one in New York; negative: after it."""
    today = dt.datetime.now(NEW_YORK)
    index = today.year * 12 + today.month - 1 - months
    return Month(index // 12, index % 12 + 1)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with misbehaving_server() as server:
        for month in (KNOWN, JANUARY):
            server.offers[f"/yellow/yellow_{month}.csv"] = Offer(CSV + f"2,{month}-02 00:00:00\n".encode())
        yield server


@pytest.fixture
def web(server):
    return trip_source(server.address + "/{kind}/{kind}_{month}.csv", 10, Path("/"), QUICK)


class TestAddresses:
    def test_a_month_is_requested_at_the_filled_in_template(self, server, web, tmp_path):
        got = web.fetch(YELLOW, JANUARY, tmp_path)
        body = server.offers["/yellow/yellow_2021-01.csv"].body
        assert got.path == tmp_path / "yellow_tripdata_2021-01.csv"
        assert got.path.read_bytes() == body
        assert got.sha256 == hashlib.sha256(body).hexdigest()
        assert (got.downloaded, got.generated) == (True, False)
        assert got.published == web.probe(YELLOW, JANUARY)
        assert got.published.location == f"{server.address}/yellow/yellow_2021-01.csv"

    def test_an_unchanged_month_is_not_downloaded_again(self, server, web, tmp_path):
        first, second = (web.fetch(YELLOW, JANUARY, tmp_path) for _ in range(2))
        assert not second.downloaded
        assert second.sha256 == first.sha256
        assert len(server.requests("GET")) == 1

    def test_months_and_kinds_have_different_files_on_disk(self, server, web, tmp_path):
        server.offers["/green/green_2021-01.csv"] = Offer(CSV)
        selected = [(YELLOW, JANUARY), (YELLOW, KNOWN), (GREEN, JANUARY)]
        paths = [web.fetch(kind, month, tmp_path).path for kind, month in selected]
        assert len({path.read_bytes() for path in paths}) == 3

    def test_probing_downloads_nothing(self, server, web):
        assert web.probe(YELLOW, JANUARY).size == len(server.offers["/yellow/yellow_2021-01.csv"].body)
        assert [seen.method for seen in server.seen] == ["HEAD"]

    def test_a_month_in_the_query_has_its_own_file_on_disk(self, server, tmp_path):
        server.offers["/get"] = Offer(CSV)
        source = trip_source(server.address + "/get?month={month}&key=s3cret", 10, Path("/"), QUICK)
        got = source.fetch(YELLOW, JANUARY, tmp_path)
        assert got.path.name == "yellow_tripdata_2021-01"
        assert "s3cret" not in repr(got) + source.name

    def test_the_publishers_addresses(self):
        assert trip_source("tlc", 1, Path("/")).name == "tlc"
        months, zones = sources.PUBLISHERS["tlc"]
        assert filled(months, GREEN, JANUARY) == (
            "https://d37ci6vzurychx.cloudfront.net/trip-data/green_tripdata_2021-01.parquet"
        )
        assert zones == "https://d37ci6vzurychx.cloudfront.net/misc/taxi_zone_lookup.csv"
        assert filled(sources.PUBLISHERS["datatalks"][0], YELLOW, JANUARY) == (
            "https://github.com/DataTalksClub/nyc-tlc-data/releases/download/yellow/yellow_tripdata_2021-01.csv.gz"
        )


class TestNotPublished:
    def test_a_404_is_a_month_not_published(self, server, web, tmp_path):
        month = Month(2015, 3)
        assert web.probe(YELLOW, month) is None
        with pytest.raises(
            PermanentError, match=r"^yellow 2015-03 is not published at http://\S+; check the month and"
        ):
            web.fetch(YELLOW, month, tmp_path)
        assert server.requests("GET") == []

    @pytest.mark.parametrize("missing", [404, 410, 403])
    def test_a_recent_month_is_reported_as_not_published_yet(self, server, web, tmp_path, missing):
        server.missing, month = missing, ago(1)
        assert web.probe(YELLOW, month) is None
        with pytest.raises(PermanentError, match=rf"^yellow {month} is not published yet .*about two months old"):
            web.fetch(YELLOW, month, tmp_path)

    def test_a_403_means_not_published_if_the_reference_month_is_there(self, server, web):
        server.missing = 403
        assert web.probe(YELLOW, ago(2)) is None
        assert [seen.path for seen in server.seen][1] == "/yellow/yellow_2019-01.csv"

    def test_a_403_means_blocked_if_the_reference_month_is_refused(self, server, web, tmp_path):
        server.missing = 403
        server.offers.clear()
        for ask in (lambda: web.probe(YELLOW, JANUARY), lambda: web.fetch(YELLOW, JANUARY, tmp_path)):
            with pytest.raises(
                TransientError,
                match=r"^yellow 2021-01: \S+ answers 403 for this month, and for 2019-01.* blocked or rate",
            ):
                ask()

    def test_a_403_for_the_reference_month_means_blocked(self, server, web):
        server.script("/yellow/yellow_2019-01.csv", then=Fault(status=403), method="HEAD")
        with pytest.raises(
            TransientError, match=r"^yellow 2019-01: \S+ answers 403 for this month: this computer is blocked"
        ):
            web.probe(YELLOW, KNOWN)

    def test_a_temporary_403_is_ignored(self, server, web, tmp_path):
        server.script("/yellow/yellow_2021-01.csv", Fault(status=403), method="HEAD")
        assert web.fetch(YELLOW, JANUARY, tmp_path).downloaded

    @pytest.mark.parametrize("status", [400, 401, 451])
    def test_any_other_refusal_is_reported_with_its_status(self, server, web, status):
        server.script("/yellow/yellow_2021-01.csv", then=Fault(status=status), method="HEAD")
        with pytest.raises(
            PermanentError, match=rf"^yellow 2021-01: \S+ answers {status} to http://\S+; check TAXI_SOURCE"
        ):
            web.probe(YELLOW, JANUARY)

    def test_a_server_that_is_down_is_not_a_month_not_published(self, server, web):
        server.script("/yellow/yellow_2021-01.csv", then=Fault(status=503), method="HEAD")
        with pytest.raises(TransientError, match="answers 503"):
            web.probe(YELLOW, JANUARY)

    @pytest.mark.parametrize(
        ("kind", "month", "words"),
        [
            (YELLOW, ago(-1), "is in the future"),
            (GREEN, Month(2013, 7), "is before 2013-08, the first published month"),
        ],
    )
    @pytest.mark.parametrize("setting", ["web", "{folder}/{month}", "sample"])
    def test_an_impossible_month_is_refused_without_a_request(self, server, tmp_path, kind, month, words, setting):
        setting = {"web": server.address + "/{month}"}.get(setting, setting.replace("{folder}", str(tmp_path)))
        (tmp_path / str(month)).write_bytes(CSV)
        source = trip_source(setting, 10, tmp_path, QUICK)
        assert source.probe(kind, month) is None
        with pytest.raises(PermanentError, match=f"^{kind.name} {month} {words}"):
            source.fetch(kind, month, tmp_path)
        assert server.seen == []


class TestPaths:
    @pytest.mark.parametrize("form", ["relative", "absolute", "file"])
    def test_a_local_file_is_used_in_place(self, tmp_path, form):
        (tmp_path / "my files").mkdir()
        file = tmp_path / "my files" / "yellow 2021-01.csv"
        file.write_bytes(CSV)
        setting = {
            "relative": "my files/{kind} {month}.csv",
            "absolute": f"{tmp_path}/my files/{{kind}} {{month}}.csv",
            "file": f"file://{tmp_path}/my%20files/{{kind}}%20{{month}}.csv",
        }[form]
        got = trip_source(setting, 10, tmp_path).fetch(YELLOW, JANUARY, tmp_path / "downloads")
        assert got.path == file
        assert got.sha256 == hashlib.sha256(CSV).hexdigest()
        assert (got.downloaded, got.generated) == (False, False)
        assert not (tmp_path / "downloads").exists()

    def test_its_version_changes_with_its_modification_time(self, tmp_path):
        local, file = trip_source("{month}.csv", 10, tmp_path), tmp_path / "2021-01.csv"
        file.write_bytes(CSV)
        first = local.probe(YELLOW, JANUARY)
        assert local.probe(YELLOW, JANUARY) == first
        os.utime(file, ns=(0, first.modified.timestamp().__int__() * 10**9 + 10**9))
        assert local.probe(YELLOW, JANUARY).version != first.version
        assert not local.probe(YELLOW, JANUARY).unchanged_since(first)

    @pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
    def test_a_missing_file_is_named_with_the_setting(self, tmp_path, make):
        make(tmp_path / "2021-01.csv")
        local = trip_source("sub/../{month}.csv", 10, tmp_path)
        with pytest.raises(
            PermanentError, match=f"^yellow 2021-01: there is no file {tmp_path}/2021-01.csv; check TAXI_SOURCE"
        ):
            local.fetch(YELLOW, JANUARY, tmp_path)
        assert local.probe(YELLOW, JANUARY) is None

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_an_unreadable_file_is_named(self, tmp_path):
        (tmp_path / "2021-01.csv").write_bytes(CSV)
        (tmp_path / "2021-01.csv").chmod(0)
        with pytest.raises(PermanentError, match="cannot be read"):
            trip_source("{month}.csv", 10, tmp_path).fetch(YELLOW, JANUARY, tmp_path)

    def test_a_real_published_month(self, tlc, tmp_path):
        folder = tlc("green_full_months")
        local = trip_source(f"{folder}/{{kind}}_tripdata_{{month}}.parquet", 10, tmp_path)
        got = local.fetch(GREEN, JANUARY, tmp_path)
        assert sum(batch.num_rows for batch in open_trips(got.path, GREEN, JANUARY).batches) == 76_518


class TestSample:
    def test_it_is_marked_as_generated(self, tmp_path):
        sample = trip_source("sample", 500, Path("/"))
        got = sample.fetch(YELLOW, JANUARY, tmp_path)
        assert got.generated
        assert not got.downloaded
        assert got.published.version == sample.probe(YELLOW, JANUARY).version == "sample-v1-500"
        assert got.sha256 == hashlib.sha256(got.path.read_bytes()).hexdigest()

    def test_a_month_with_request_source_is_another_version(self, tmp_path):
        sample = trip_source("sample", 500, Path("/"))
        assert sample.probe(YELLOW, Month(2026, 5)).version == "sample-v1-500"
        assert sample.probe(YELLOW, Month(2026, 6)).version == "sample-v2-500"
        assert sample.fetch(YELLOW, Month(2026, 6), tmp_path).published.version == "sample-v2-500"

    def test_its_size_is_the_current_setting(self, tmp_path):
        lines = [
            gzip.decompress(
                trip_source("sample", rows, Path("/")).fetch(YELLOW, JANUARY, tmp_path).path.read_bytes()
            ).count(b"\n")
            for rows in (500, 300, 500)
        ]
        assert lines[0] == lines[2]
        assert lines[0] - lines[1] == 200

    def test_an_older_file_of_the_same_name_is_not_reused(self, tmp_path):
        sample = trip_source("sample", 500, Path("/"))
        first = sample.fetch(YELLOW, JANUARY, tmp_path)
        first.path.write_bytes(b"older")
        assert sample.fetch(YELLOW, JANUARY, tmp_path).sha256 == first.sha256


class TestZones:
    def test_the_lookup_is_downloaded_once(self, server, tlc, tmp_path):
        published = tlc("lookup/taxi_zone_lookup.csv").read_bytes()
        server.offers["/zones.csv"] = Offer(published)
        publisher = WebSource("tlc", server.address + "/{month}", server.address + "/zones.csv", policy=QUICK)
        first, second = publisher.zones(tmp_path), publisher.zones(tmp_path)
        assert (first.path, first.downloaded, second.downloaded) == (second.path, True, False)
        assert first.sha256 == second.sha256 == hashlib.sha256(published).hexdigest()
        assert not first.generated
        assert read_zones(first.path).num_rows == 265
        assert len(server.requests("GET")) == 1

    def test_a_lookup_that_is_refused_is_one_sentence(self, server, tmp_path):
        publisher = WebSource("tlc", server.address + "/{month}", server.address + "/zones.csv", policy=QUICK)
        with pytest.raises(
            TransientError, match=r"^taxi zones: \S+ answers 404 to http://\S+/zones\.csv; run it again"
        ):
            publisher.zones(tmp_path)

    @pytest.mark.parametrize("setting", ["{month}.csv", "https://example.invalid/{month}"])
    def test_a_source_of_your_own_has_none(self, setting, tmp_path):
        assert trip_source(setting, 10, tmp_path).zones(tmp_path) is None

    def test_the_generated_lookup_says_so(self, tmp_path):
        got = trip_source("sample", 10, tmp_path).zones(tmp_path / "downloads")
        assert got.generated
        assert read_zones(got.path).equals(sample_zones())
        assert got.sha256 == hashlib.sha256(got.path.read_bytes()).hexdigest()
        assert list((tmp_path / "downloads").iterdir()) == [got.path]

    def test_a_setting_names_a_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a file.csv"
        path.write_text("x")
        monkeypatch.setenv("HOME", str(tmp_path))
        for setting in ("a file.csv", str(path), "~/a file.csv", f"file://{tmp_path}/a%20file.csv"):
            got = named_lookup(setting, tmp_path, tmp_path / "downloads" / "taxi_zone_lookup.csv", ZONES, "TAXI_ZONES")
            assert (got.path, got.published.location, got.generated) == (path, str(path), False)
            assert got.sha256 == hashlib.sha256(b"x").hexdigest()

    def test_a_setting_that_names_nothing_is_one_sentence(self, server, tmp_path):
        for setting, reason in (("none.csv", "No such file or directory"), (str(tmp_path), "Is a directory")):
            with pytest.raises(
                PermanentError, match=rf"^taxi zones: /\S+ cannot be read \({reason}\); check TAXI_ZONES.$"
            ):
                named_lookup(setting, tmp_path, tmp_path / "taxi_zone_lookup.csv", ZONES, "TAXI_ZONES")
        with pytest.raises(
            TransientError, match=r"^taxi zones: \S+ answers 404 to http://\S+/z\.csv; check TAXI_ZONES.$"
        ):
            named_lookup(server.address + "/z.csv", tmp_path, tmp_path / "taxi_zone_lookup.csv", ZONES, "TAXI_ZONES")


class TestSetting:
    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ("tcl", "or a path or URL that contains {month}, or {year} and {month_number}; got 'tcl'."),
            ("ftp://bucket/{month}", "TAXI_SOURCE: ftp:// is not supported"),
            ("https://u:p/w@host/{month}", "https://***@host/{month} is not an http(s) address; check TAXI_SOURCE"),
            ("https://u:pw@host/x", "{month_number}; got 'https://***@host/x'."),
        ],
    )
    def test_an_invalid_one_is_refused_at_once(self, setting, words, tmp_path):
        with pytest.raises(PermanentError) as caught:
            trip_source(setting, 10, tmp_path)
        assert words in str(caught.value)

    def test_there_is_no_fallback_source(self, server, web, tmp_path):
        web.fetch(YELLOW, JANUARY, tmp_path)
        server.shutdown()
        server.server_close()
        again = trip_source(web.name, 10, Path("/"), QUICK)
        with pytest.raises(TransientError, match="refuses the connection") as caught:
            again.fetch(YELLOW, JANUARY, tmp_path)
        assert "ConnectionPool" not in "".join(traceback.format_exception(caught.value))
