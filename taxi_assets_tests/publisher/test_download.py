# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Downloads from a misbehaving server: the file is downloaded completely and once, or there is one clear error."""

import gzip
import hashlib

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets_tests.download_fixtures import MONTH, NAME, NEW, OLD, fetch, holds, server
from taxi_assets_tests.misbehaving_server import Fault, Offer


def test_a_file_is_downloaded_with_its_identity_and_hash(server, tmp_path):
    steps = []
    got = fetch(server, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert holds(tmp_path, OLD)
    assert got.downloaded
    assert got.sha256 == hashlib.sha256(OLD).hexdigest()
    assert (got.published.version, got.published.size) == ('"one"', len(OLD))
    assert got.published.modified.isoformat() == "2024-03-21T15:00:00+00:00"
    assert steps[-1] == (len(OLD), len(OLD))
    assert steps == sorted(steps)


def test_requests_have_a_user_agent_and_ask_for_no_compression(server, tmp_path):
    fetch(server, tmp_path)
    assert {seen.headers["Accept-Encoding"] for seen in server.seen} == {"identity"}
    assert all(seen.headers["User-Agent"].startswith("taxi-assets/") for seen in server.seen)


class TestCaching:
    def test_an_unchanged_file_costs_one_head_and_no_get(self, server, tmp_path):
        fetch(server, tmp_path)
        server.seen.clear()
        assert not fetch(server, tmp_path).downloaded
        assert [seen.method for seen in server.seen] == ["HEAD"]

    def test_a_new_etag_downloads_the_new_file(self, server, tmp_path):
        fetch(server, tmp_path)
        server.offers[MONTH] = Offer(NEW, etag='"two"')
        assert fetch(server, tmp_path).downloaded
        assert holds(tmp_path, NEW)

    def test_without_an_etag_the_date_and_length_decide(self, server, tmp_path):
        server.offers[MONTH] = Offer(OLD, etag=None)
        fetch(server, tmp_path)
        assert not fetch(server, tmp_path).downloaded
        server.offers[MONTH] = Offer(NEW, etag=None, modified="Fri, 22 Mar 2024 15:00:00 GMT")
        assert fetch(server, tmp_path).downloaded
        assert holds(tmp_path, NEW)

    def test_without_etag_and_date_it_is_always_downloaded(self, server, tmp_path):
        server.offers[MONTH] = Offer(OLD, etag=None, modified=None)
        assert fetch(server, tmp_path).downloaded
        assert fetch(server, tmp_path).downloaded
        assert len(server.requests("GET")) == 2

    @pytest.mark.parametrize("damage", [lambda body: body[:-1], lambda body: body[:-9] + b"\0" + body[-8:]])
    def test_a_local_copy_that_was_damaged_is_downloaded_again(self, server, tmp_path, damage):
        fetch(server, tmp_path)
        (tmp_path / NAME).write_bytes(damage(OLD))
        assert fetch(server, tmp_path).downloaded
        assert holds(tmp_path, OLD)

    @pytest.mark.parametrize("record", ["", "[]", "{}", '{"location": 1}', "\0"], ids=range(5))
    def test_an_unreadable_record_counts_as_missing(self, server, tmp_path, record):
        fetch(server, tmp_path)
        (tmp_path / f"{NAME}.json").write_text(record)
        assert fetch(server, tmp_path).downloaded

    def test_a_file_of_another_address_is_not_reused(self, server, tmp_path):
        fetch(server, tmp_path)
        server.offers["/elsewhere" + MONTH] = Offer(NEW)
        fetch(server, tmp_path, address=f"{server.address}/elsewhere{MONTH}")
        assert holds(tmp_path, NEW)


class TestWrongContent:
    def test_a_body_shorter_than_its_length_is_refused(self, server, tmp_path):
        server.script(MONTH, then=Fault(announce=500))
        server.script(MONTH, then=Fault(announce=500), method="HEAD")
        with pytest.raises(TransientError, match=r"yellow 2021-01: 127\.0\.0\.1:\d+ .*run it again later"):
            fetch(server, tmp_path)
        assert not (tmp_path / NAME).exists()

    def test_a_body_longer_than_its_length_is_refused(self, server, tmp_path):
        server.script(MONTH, then=Fault(announce=-500))
        with pytest.raises(PermanentError, match="is not a complete Parquet file"):
            fetch(server, tmp_path)
        assert not (tmp_path / NAME).exists()
        assert not (tmp_path / f"{NAME}.part").exists()

    @pytest.mark.parametrize(
        ("name", "body", "words"),
        [
            (NAME, b"<!DOCTYPE html><html>Service unavailable</html>", "is a web page or an error message"),
            (NAME, b'\n<?xml version="1.0"?><Error>AccessDenied</Error>', "is a web page or an error message"),
            (NAME, b'{"error": "quota"}', "is a web page or an error message"),
            (NAME, b"", "is empty"),
            (NAME, OLD[:-4], "is not a complete Parquet file"),
            (NAME, b"PAR1", "is not a complete Parquet file"),
            ("month.csv.gz", b"<html>", "is a web page or an error message"),
            ("month.csv.gz", b"VendorID,tpep_pickup_datetime\n", "is not a gzip file"),
            ("month.csv.gz", gzip.compress(gzip.compress(b"VendorID\n1\n")), "was compressed twice"),
            ("month.csv", b"\xef\xbb\xbf  <html>", "is a web page or an error message"),
        ],
        ids=["html", "xml", "json", "empty", "cut", "magic", "gz-html", "gz-text", "gz-twice", "csv-html"],
    )
    def test_other_content_is_refused_in_one_sentence(self, server, tmp_path, name, body, words):
        server.offers[f"/{name}"] = Offer(body)
        with pytest.raises(
            PermanentError, match=rf"^yellow 2021-01: the file at http://\S+{name} {words}[^.]*; [^.]+\.$"
        ):
            fetch(server, tmp_path, f"/{name}")
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
        assert len(server.requests("GET")) == 1

    def test_a_refused_file_leaves_the_old_one(self, server, tmp_path):
        fetch(server, tmp_path)
        server.offers[MONTH] = Offer(b"<html>maintenance</html>", etag='"two"')
        with pytest.raises(PermanentError, match="web page"):
            fetch(server, tmp_path)
        assert holds(tmp_path, OLD)

    def test_a_file_compressed_in_transit_is_refused(self, server, tmp_path):
        server.script(MONTH, Fault(gzip=True))
        with pytest.raises(PermanentError, match=r"compresses http://\S+ \(gzip\) despite Accept-Encoding"):
            fetch(server, tmp_path)

    def test_a_gz_file_compressed_in_transit_is_refused(self, server, tmp_path):
        server.offers["/month.csv.gz"] = Offer(gzip.compress(b"VendorID\n1\n"))
        server.script("/month.csv.gz", Fault(gzip=True))
        with pytest.raises(PermanentError, match="was compressed twice"):
            fetch(server, tmp_path, "/month.csv.gz")

    def test_a_gz_file_only_declared_as_compressed_is_accepted(self, server, tmp_path):
        body = gzip.compress(b"VendorID\n1\n")
        server.offers["/month.csv.gz"] = Offer(body)
        server.script("/month.csv.gz", Fault(headers={"Content-Encoding": "gzip"}))
        fetch(server, tmp_path, "/month.csv.gz")
        assert holds(tmp_path, body, "month.csv.gz")
