"""Downloads against a server that misbehaves: the file arrives whole and once, or there is one clear error."""

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from taxi_assets.errors import PermanentError, TransientError
from taxi_assets.trips import local_copy
from taxi_assets.trips.download import Downloaded, Downloader, Patience
from taxi_assets.trips.local_copy import Part
from taxi_assets.trips.offer import Published, redact
from taxi_assets.trips.web import Again, Web, retry_after
from taxi_assets_tests.misbehaving_server import Fault, MisbehavingServer, Offer, misbehaving_server, wait_for_bytes

REPOSITORY = Path(__file__).resolve().parents[2]
MONTH = "/yellow_tripdata_2021-01.parquet"
NAME = MONTH[1:]
QUICK = Patience(
    attempts=4,
    total_seconds=20,
    connect_seconds=2,
    read_seconds=0.3,
    first_pause=0.01,
    longest_pause=0.05,
    longest_retry_after=2,
    slow_seconds=0.3,
    slow_bytes=2000,
)


def parquet(size: int, seed: int = 1) -> bytes:
    """Bytes that begin and end as a Parquet file does."""
    return b"PAR1" + random.Random(seed).randbytes(size - 8) + b"PAR1"


OLD, NEW = parquet(300_000), parquet(300_000, seed=2)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with misbehaving_server() as server:
        server.offers[MONTH] = Offer(OLD)
        yield server


def fetch(server: MisbehavingServer, folder: Path, path: str = MONTH, patience: Patience = QUICK, **how) -> Downloaded:
    downloader = Downloader(patience, **{name: how.pop(name) for name in list(how) if name == "free_bytes"})
    address = how.pop("address", server.address + path)

    def look() -> Published:
        published = downloader.probe(address, "yellow 2021-01").published
        assert published is not None
        return published

    return downloader.fetch(address, folder / path[1:], "yellow 2021-01", look, **how)


def holds(folder: Path, body: bytes, name: str = NAME) -> bool:
    """Whether the folder holds the file, its right note, and nothing of a download under way."""
    note = json.loads((folder / f"{name}.json").read_text())
    left = sorted(path.name for path in folder.iterdir())
    return (
        (folder / name).read_bytes() == body
        and note["sha256"] == hashlib.sha256(body).hexdigest()
        and note["size"] == len(body)
        and left == [name, f"{name}.json", f"{name}.lock"]
    )


def test_a_file_arrives_whole_with_its_identity_and_hash(server, tmp_path):
    steps = []
    got = fetch(server, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert holds(tmp_path, OLD)
    assert got.fresh
    assert got.sha256 == hashlib.sha256(OLD).hexdigest()
    assert (got.published.version, got.published.size) == ('"one"', len(OLD))
    assert got.published.modified.isoformat() == "2024-03-21T15:00:00+00:00"
    assert steps[-1] == (len(OLD), len(OLD))
    assert steps == sorted(steps)


def test_we_say_who_we_are_and_ask_for_the_file_as_it_is(server, tmp_path):
    fetch(server, tmp_path)
    assert {seen.headers["Accept-Encoding"] for seen in server.seen} == {"identity"}
    assert all(seen.headers["User-Agent"].startswith("taxi-assets/") for seen in server.seen)


class TestNotTwice:
    def test_an_unchanged_file_costs_one_head_and_no_get(self, server, tmp_path):
        fetch(server, tmp_path)
        server.seen.clear()
        assert not fetch(server, tmp_path).fresh
        assert [seen.method for seen in server.seen] == ["HEAD"]

    def test_a_new_etag_brings_the_new_file(self, server, tmp_path):
        fetch(server, tmp_path)
        server.offers[MONTH] = Offer(NEW, etag='"two"')
        assert fetch(server, tmp_path).fresh
        assert holds(tmp_path, NEW)

    def test_without_an_etag_the_date_and_length_decide(self, server, tmp_path):
        server.offers[MONTH] = Offer(OLD, etag=None)
        fetch(server, tmp_path)
        assert not fetch(server, tmp_path).fresh
        server.offers[MONTH] = Offer(NEW, etag=None, modified="Fri, 22 Mar 2024 15:00:00 GMT")
        assert fetch(server, tmp_path).fresh
        assert holds(tmp_path, NEW)

    def test_without_etag_and_date_it_is_always_downloaded(self, server, tmp_path):
        server.offers[MONTH] = Offer(OLD, etag=None, modified=None)
        assert fetch(server, tmp_path).fresh
        assert fetch(server, tmp_path).fresh
        assert len(server.asked("GET")) == 2

    @pytest.mark.parametrize("damage", [lambda body: body[:-1], lambda body: body[:-9] + b"\0" + body[-8:]])
    def test_a_local_copy_that_was_damaged_is_downloaded_again(self, server, tmp_path, damage):
        fetch(server, tmp_path)
        (tmp_path / NAME).write_bytes(damage(OLD))
        assert fetch(server, tmp_path).fresh
        assert holds(tmp_path, OLD)

    @pytest.mark.parametrize("note", ["", "[]", "{}", '{"location": 1}', "\0"], ids=range(5))
    def test_a_note_that_cannot_be_read_counts_as_none(self, server, tmp_path, note):
        fetch(server, tmp_path)
        (tmp_path / f"{NAME}.json").write_text(note)
        assert fetch(server, tmp_path).fresh

    def test_a_file_of_another_address_is_not_taken_for_this_one(self, server, tmp_path):
        fetch(server, tmp_path)
        server.offers["/elsewhere" + MONTH] = Offer(NEW)
        fetch(server, tmp_path, address=f"{server.address}/elsewhere{MONTH}")
        assert holds(tmp_path, NEW)


class TestBrokenOff:
    def test_a_dropped_download_is_continued_not_begun_anew(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), Fault(drop_after=50_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [(seen.range, seen.status, seen.sent) for seen in server.asked("GET")] == [
            (None, 200, 100_000),
            ("bytes=100000-", 206, 50_000),
            ("bytes=150000-", 206, 150_000),
        ]
        assert server.asked("GET")[1].headers["If-Range"] == '"one"'

    def test_it_is_continued_by_date_where_there_is_no_etag(self, server, tmp_path):
        server.offers[MONTH] = Offer(OLD, etag=None)
        server.script(MONTH, Fault(drop_after=100_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.sent for seen in server.asked("GET")] == [100_000, 200_000]

    @pytest.mark.parametrize("offer", [Offer(OLD, etag='W/"weak"'), Offer(OLD, etag=None, modified=None)])
    def test_it_is_begun_anew_where_nothing_tells_that_it_is_the_same_file(self, server, tmp_path, offer):
        server.offers[MONTH] = offer
        server.script(MONTH, Fault(drop_after=100_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.asked("GET")] == [None, None]

    def test_a_server_that_ignores_range_sends_it_from_the_start(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), Fault(ignore_range=True))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.sent for seen in server.asked("GET")] == [100_000, 300_000]

    @pytest.mark.parametrize("second", [Fault(), Fault(ignore_if_range=True)], ids=["If-Range", "ignored"])
    def test_a_file_that_changes_between_two_pieces_is_begun_anew(self, server, tmp_path, second):
        server.script(MONTH, Fault(drop_after=100_000, piece=100_000), second)

        def change(done: int, _: int | None) -> None:
            if done == 100_000:
                server.offers[MONTH] = Offer(NEW, etag='"two"')

        got = fetch(server, tmp_path, progress=change)
        assert holds(tmp_path, NEW)
        assert got.published.version == '"two"'

    def test_another_piece_than_the_one_asked_for_is_not_taken(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), Fault(shift=7))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.asked("GET")] == [None, "bytes=100000-", None]

    def test_a_refused_range_begins_anew(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), Fault(status=416, headers={"Content-Range": "bytes */300000"}))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.asked("GET")] == [None, "bytes=100000-", None]

    def test_a_later_run_continues_what_an_earlier_one_gave_up(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), then=Fault(status=503))
        with pytest.raises(TransientError, match=r"answers 503 .*\(attempt 4, the last\).*what has come is kept"):
            fetch(server, tmp_path)
        assert not (tmp_path / NAME).exists()
        server.script(MONTH)
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert server.asked("GET")[-1].range == "bytes=100000-"

    def test_a_later_run_drops_what_belongs_to_an_older_file(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), then=Fault(status=503))
        with pytest.raises(TransientError):
            fetch(server, tmp_path)
        server.script(MONTH)
        server.offers[MONTH] = Offer(NEW, etag='"two"')
        fetch(server, tmp_path)
        assert holds(tmp_path, NEW)
        assert server.asked("GET")[-1].range is None

    @pytest.mark.parametrize("spoil", ["boot", "note"])
    def test_a_part_of_unknown_worth_is_dropped(self, server, tmp_path, spoil):
        server.script(MONTH, Fault(drop_after=100_000), then=Fault(status=503))
        with pytest.raises(TransientError):
            fetch(server, tmp_path)
        note = tmp_path / f"{NAME}.part.json"
        note.write_text(json.dumps({**json.loads(note.read_text()), "boot": "another"}) if spoil == "boot" else "")
        server.script(MONTH)
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert server.asked("GET")[-1].range is None

    def test_a_part_that_is_whole_already_is_not_asked_for_again(self, server, tmp_path):
        got = Downloader(QUICK).probe(server.address + MONTH, "yellow 2021-01").published
        with Part(tmp_path / NAME).begin(got) as part:
            part.write(OLD)
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert server.asked("GET") == []

    def test_pieces_that_do_not_belong_together_are_fetched_again_as_one(self, server, tmp_path):
        got = Downloader(QUICK).probe(server.address + MONTH, "yellow 2021-01").published
        with Part(tmp_path / NAME).begin(got) as part:
            part.write(b"not of this file")
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.asked("GET")] == ["bytes=16-", None]

    def test_a_line_that_breaks_often_gets_there_as_long_as_it_gets_further(self, server, tmp_path):
        patient = Patience(**{**QUICK.__dict__, "progress_bytes": 20_000})
        server.script(MONTH, *[Fault(drop_after=25_000)] * 11)
        fetch(server, tmp_path, patience=patient)
        assert holds(tmp_path, OLD)
        assert len(server.asked("GET")) == 12 > patient.attempts

    def test_a_body_without_length_must_end_as_http_says(self, server, tmp_path):
        server.script(MONTH, Fault(chunked=True, drop_after=100_000), Fault(chunked=True))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)

    def test_a_body_without_length_must_be_as_long_as_the_probe_said(self, server, tmp_path):
        server.script(MONTH, Fault(chunked=True, body=OLD[:200_000]), Fault(chunked=True))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)


class TestLies:
    def test_a_body_shorter_than_announced_is_never_believed(self, server, tmp_path):
        server.script(MONTH, then=Fault(announce=500))
        server.script(MONTH, then=Fault(announce=500), method="HEAD")
        with pytest.raises(TransientError, match=r"yellow 2021-01: 127\.0\.0\.1:\d+ .*run it again later"):
            fetch(server, tmp_path)
        assert not (tmp_path / NAME).exists()

    def test_a_body_longer_than_announced_is_never_believed(self, server, tmp_path):
        server.script(MONTH, then=Fault(announce=-500))
        with pytest.raises(PermanentError, match="is not a whole Parquet file"):
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
            (NAME, OLD[:-4], "is not a whole Parquet file"),
            (NAME, b"PAR1", "is not a whole Parquet file"),
            ("month.csv.gz", b"<html>", "is a web page or an error message"),
            ("month.csv.gz", b"VendorID,tpep_pickup_datetime\n", "is not a gzip file"),
            ("month.csv.gz", gzip.compress(gzip.compress(b"VendorID\n1\n")), "was compressed once more on its way"),
            ("month.csv", b"\xef\xbb\xbf  <html>", "is a web page or an error message"),
        ],
        ids=["html", "xml", "json", "empty", "cut", "magic", "gz-html", "gz-text", "gz-twice", "csv-html"],
    )
    def test_what_is_not_the_file_is_refused_in_one_sentence(self, server, tmp_path, name, body, words):
        server.offers[f"/{name}"] = Offer(body)
        with pytest.raises(
            PermanentError, match=rf"^yellow 2021-01: what http://\S+{name} sends {words}[^.]*; [^.]+\.$"
        ):
            fetch(server, tmp_path, f"/{name}")
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
        assert len(server.asked("GET")) == 1

    def test_a_refused_file_leaves_the_old_one(self, server, tmp_path):
        fetch(server, tmp_path)
        server.offers[MONTH] = Offer(b"<html>maintenance</html>", etag='"two"')
        with pytest.raises(PermanentError, match="web page"):
            fetch(server, tmp_path)
        assert holds(tmp_path, OLD)

    def test_a_file_compressed_on_its_way_is_refused(self, server, tmp_path):
        server.script(MONTH, Fault(gzip=True))
        with pytest.raises(PermanentError, match=r"compresses http://\S+ on its way \(gzip\) although asked not to"):
            fetch(server, tmp_path)

    def test_a_gz_file_compressed_on_its_way_is_noticed(self, server, tmp_path):
        server.offers["/month.csv.gz"] = Offer(gzip.compress(b"VendorID\n1\n"))
        server.script("/month.csv.gz", Fault(gzip=True))
        with pytest.raises(PermanentError, match="was compressed once more on its way"):
            fetch(server, tmp_path, "/month.csv.gz")

    def test_a_gz_file_merely_declared_as_compressed_stays_as_it_is(self, server, tmp_path):
        body = gzip.compress(b"VendorID\n1\n")
        server.offers["/month.csv.gz"] = Offer(body)
        server.script("/month.csv.gz", Fault(headers={"Content-Encoding": "gzip"}))
        fetch(server, tmp_path, "/month.csv.gz")
        assert holds(tmp_path, body, "month.csv.gz")


class TestPatience:
    def test_a_server_that_is_down_for_a_moment_is_asked_again(self, server, tmp_path):
        server.script(MONTH, Fault(status=503), Fault(status=500), method="HEAD")
        server.script(MONTH, Fault(status=503), Fault(status=502))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.status for seen in server.seen] == [503, 500, 200, 503, 502, 200]

    def test_retry_after_is_respected(self, server, tmp_path):
        server.script(MONTH, Fault(status=429, headers={"Retry-After": "1"}))
        began = time.monotonic()
        fetch(server, tmp_path)
        assert time.monotonic() - began >= 1
        assert holds(tmp_path, OLD)

    def test_a_retry_after_beyond_our_patience_ends_it_at_once(self, server, tmp_path):
        server.script(MONTH, Fault(status=429, headers={"Retry-After": "3600"}), method="HEAD")
        with pytest.raises(
            TransientError, match=r"answers 429 .* asks to wait 3,600 seconds; run it again after that\."
        ):
            fetch(server, tmp_path)
        assert len(server.seen) == 1

    def test_retry_after_may_be_a_date(self):
        class Headers:
            headers = {"Retry-After": "Thu, 21 Mar 2199 15:00:00 GMT"}

        assert retry_after(Headers()) > 1e9
        Headers.headers = {"Retry-After": "soon"}
        assert retry_after(Headers()) == 0

    def test_attempts_are_bounded(self, server, tmp_path):
        server.script(MONTH, then=Fault(status=503), method="HEAD")
        with pytest.raises(TransientError, match=r"answers 503 Service Unavailable \(attempt 4, the last\)"):
            fetch(server, tmp_path)
        assert len(server.seen) == QUICK.attempts

    @pytest.mark.parametrize("drop", [20_000, None], ids=["many attempts", "one attempt"])
    def test_time_is_bounded_however_far_it_gets(self, server, tmp_path, drop):
        hasty = Patience(**{**QUICK.__dict__, "total_seconds": 0.6, "progress_bytes": 1})
        server.script(MONTH, then=Fault(piece=5000, pause=0.05, drop_after=drop))
        began = time.monotonic()
        with pytest.raises(TransientError, match="run it again later; what has come is kept"):
            fetch(server, tmp_path, patience=hasty)
        assert time.monotonic() - began < 2

    def test_a_slow_drip_is_cut(self, server, tmp_path):
        server.script(MONTH, then=Fault(piece=10, pause=0.02))
        with pytest.raises(TransientError, match=r"sends only \d+ bytes a second"):
            fetch(server, tmp_path)

    def test_a_server_that_falls_silent_is_left_and_asked_again(self, server, tmp_path):
        server.script(MONTH, Fault(stall_after=100_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.sent for seen in server.asked("GET")] == [100_000, 200_000]

    def test_a_server_that_never_answers_is_named(self, server, tmp_path):
        server.script(MONTH, then=Fault(stall_after=0))
        with pytest.raises(TransientError, match=r"127\.0\.0\.1:\d+ sends nothing for too long"):
            fetch(server, tmp_path)

    def test_a_file_that_vanishes_after_the_probe_is_asked_for_again(self, server, tmp_path):
        server.script(MONTH, Fault(status=404), Fault(status=403))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)

    def test_a_server_without_head_is_probed_by_get(self, server, tmp_path):
        server.script(MONTH, then=Fault(status=405), method="HEAD")
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert not fetch(server, tmp_path).fresh

    def test_a_refused_connection_is_named(self, server, tmp_path):
        server.shutdown()
        server.server_close()
        with pytest.raises(TransientError, match=r"127\.0\.0\.1:\d+ refuses the connection"):
            fetch(server, tmp_path)

    def test_a_name_that_does_not_exist_is_named_with_the_remedy(self, server, tmp_path):
        with pytest.raises(
            TransientError, match=r"nowhere\.invalid cannot be found .* check the network and TAXI_SOURCE"
        ):
            fetch(server, tmp_path, address="http://nowhere.invalid/a.parquet")


class TestPermanent:
    def test_a_certificate_that_is_not_trusted_ends_it_at_once(self, server, tmp_path):
        certificate, key = own_certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with pytest.raises(PermanentError, match=r"127\.0\.0\.1:\d+ shows a certificate that is not trusted here"):
            fetch(server, tmp_path, address=server.address.replace("http:", "https:") + MONTH)

    def test_plain_http_where_tls_was_asked_for(self, server, tmp_path):
        with pytest.raises(PermanentError, match="whether TAXI_SOURCE should say http or https"):
            fetch(server, tmp_path, address=server.address.replace("http:", "https:") + MONTH)

    @pytest.mark.parametrize("elsewhere", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
    def test_redirects_leave_http_never(self, server, tmp_path, elsewhere):
        server.script(MONTH, Fault(status=302, headers={"Location": elsewhere}), method="HEAD")
        with pytest.raises(PermanentError, match=r"sends on to an address that is not http\(s\)"):
            fetch(server, tmp_path)

    def test_redirects_are_followed_and_continued(self, server, tmp_path):
        moved = Fault(status=302, headers={"Location": "/store.parquet"})
        server.offers["/store.parquet"] = server.offers.pop(MONTH)
        server.script(MONTH, then=moved, method="HEAD")
        server.script(MONTH, then=moved)
        server.script("/store.parquet", Fault(drop_after=100_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.asked("GET", "/store.parquet")] == [None, "bytes=100000-"]

    def test_redirects_without_end(self, server, tmp_path):
        server.script(MONTH, then=Fault(status=302, headers={"Location": MONTH}), method="HEAD")
        with pytest.raises(PermanentError, match="from one address to another without end"):
            fetch(server, tmp_path)

    def test_a_disk_too_small_is_told_before_anything_is_sent(self, server, tmp_path):
        with pytest.raises(
            PermanentError, match=r"yellow 2021-01: 300,000 bytes are needed in /\S+, 299,999 are free; .*TAXI_HOME"
        ):
            fetch(server, tmp_path, free_bytes=lambda _: 299_999)
        assert not (tmp_path / f"{NAME}.part").exists()

    def test_a_folder_that_cannot_be_written(self, server, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(PermanentError, match=r"yellow 2021-01: /\S+/file cannot be written \(.*\); check"):
            fetch(server, tmp_path / "file")


class TestSecrets:
    def test_user_and_password_go_to_the_server_alone(self, server, tmp_path):
        address = server.address.replace("//", "//anna:s3cr%2Ft@") + MONTH + "?token=t0ken"
        got = fetch(server, tmp_path, address=address)
        assert server.seen[-1].headers["Authorization"] == "Basic YW5uYTpzM2NyL3Q="
        kept = "".join(path.read_text() for path in tmp_path.glob("*.json")) + repr(got)
        assert "s3cr" not in kept
        assert "t0ken" not in kept
        assert "***" in got.published.location

    @pytest.mark.parametrize("how", ["refused", "name", "status", "page", "silent", "ssl"])
    def test_they_are_in_no_error_nor_in_what_caused_it(self, server, tmp_path, how):
        address = server.address.replace("//", "//anna:s3cret@") + MONTH + "?token=t0ken"
        if how == "refused":
            server.shutdown()
            server.server_close()
        elif how == "name":
            address = "http://anna:s3cret@nowhere.invalid/x.parquet?token=t0ken"
        elif how == "ssl":
            address = address.replace("http:", "https:")
        else:
            fault = {"status": Fault(status=500), "page": Fault(body=b"<html>"), "silent": Fault(stall_after=5)}[how]
            server.script(MONTH, then=fault)
        with pytest.raises((PermanentError, TransientError)) as caught:
            fetch(server, tmp_path, address=address, patience=Patience(**{**QUICK.__dict__, "attempts": 2}))
        told = "".join(traceback.format_exception(caught.value))
        assert "s3cret" not in told
        assert "t0ken" not in told

    @pytest.mark.parametrize(
        ("address", "shown"),
        [
            ("https://u:p@host/a", "https://***@host/a"),
            ("https://u:p@ss@host:8/a?sig=1&x=2", "https://***@host:8/a?***"),
            ("https://u:p/q@host/a", "https://***@host/a"),
            ("https://u:p?q@host/a", "https://***@host/a"),
            ("https://host/{month}", "https://host/{month}"),
        ],
    )
    def test_how_an_address_is_shown(self, address, shown):
        assert redact(address) == shown

    @pytest.mark.parametrize(
        "address", ["https://u:p/q@host/a", "https://u:p?q@host/a", "https:///a", "https://host:x/"]
    )
    def test_an_address_that_is_none_is_refused_without_showing_its_secrets(self, address):
        with pytest.raises((PermanentError, Again)) as caught:
            Web(1, 1).ask("GET", address)
        assert "p/q" not in str(caught.value)
        assert "p?q" not in str(caught.value)


CHILD = """
import sys
from pathlib import Path
from taxi_assets.errors import TaxiError
from taxi_assets.trips.download import Downloader, Patience
address, target = sys.argv[1], Path(sys.argv[2])
downloader = Downloader(Patience(attempts=2, first_pause=0.01, read_seconds=20), *map(eval, sys.argv[3:]))
try:
    print(downloader.fetch(address, target, "yellow 2021-01", lambda: downloader.probe(address, "x").published).fresh)
except TaxiError as error:
    print(type(error).__name__, error)
"""


def child(server: MisbehavingServer, folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
    return subprocess.Popen(
        [*before, sys.executable, "-c", CHILD, server.address + MONTH, str(folder / NAME), *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestProcesses:
    def test_a_killed_download_is_continued_by_the_next(self, server, tmp_path):
        server.script(MONTH, Fault(stall_after=100_000))
        process = child(server, tmp_path)
        wait_for_bytes(server, 100_000)
        until = time.monotonic() + 5
        while (tmp_path / f"{NAME}.part").stat().st_size < 90_000 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        had = (tmp_path / f"{NAME}.part").stat().st_size
        assert not (tmp_path / NAME).exists()
        assert had >= 90_000

        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert server.asked("GET")[-1].range == f"bytes={had}-"
        assert server.asked("GET")[-1].sent == len(OLD) - had

    def test_two_at_once_both_end_with_the_file_and_it_is_sent_once(self, server, tmp_path):
        server.script(MONTH, Fault(piece=30_000, pause=0.1))
        both = [child(server, tmp_path) for _ in range(2)]
        told = [process.communicate(timeout=20) for process in both]
        assert sorted(out for out, _ in told) == ["False\n", "True\n"], told
        assert len(server.asked("GET")) == 1
        assert holds(tmp_path, OLD)

    def test_waiting_for_another_process_is_bounded(self, server, tmp_path):
        server.script(MONTH, Fault(stall_after=100_000))
        process = child(server, tmp_path)
        try:
            wait_for_bytes(server, 100_000)
            with pytest.raises(TransientError, match=r"another process has been busy with /\S+ for 0 seconds"):
                fetch(server, tmp_path, patience=Patience(total_seconds=0.2))
        finally:
            process.kill()
            process.communicate(timeout=10)

    def test_a_disk_that_fills_up_is_told_and_gets_its_space_back(self, server, tmp_path):
        in_small_disk = (
            "unshare",
            "-rm",
            "sh",
            "-c",
            f'mount -t tmpfs -o size=200k tmpfs {tmp_path} && exec "$@"',
            "sh",
        )
        if not shutil.which("unshare") or subprocess.run([*in_small_disk, "true"], capture_output=True).returncode:
            pytest.skip("a small disk of its own needs a mount namespace, which is not permitted here")
        out, err = child(server, tmp_path, "lambda _: 10**9", before=in_small_disk).communicate(timeout=20)
        assert "PermanentError yellow 2021-01: the disk of" in out, err
        assert "is full (300,000 bytes are needed); free some space, or set TAXI_HOME" in out
        out, _ = child(server, tmp_path, before=in_small_disk).communicate(timeout=20)
        assert "PermanentError yellow 2021-01: 300,000 bytes are needed in" in out


def test_a_full_disk_takes_the_part_with_it(tmp_path):
    def fill(part: Part) -> None:
        with local_copy.disk_troubles("yellow", tmp_path, part), Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"1")

    part = Part(tmp_path / NAME)
    part.begin(Published("x", "1", 5, None)).close()
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(PermanentError, match=r"disk of .* is full"):
        fill(part)
    assert list(tmp_path.iterdir()) == []


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that nobody trusts."""
    if not shutil.which("openssl"):
        pytest.skip("a certificate of one's own needs openssl")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *subject,
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
