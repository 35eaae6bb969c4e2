# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""A download that breaks off is continued where that is safe, and begun anew where it is not."""

import json

import pytest

from taxi_assets.core.errors import TransientError
from taxi_assets.publisher.download import Downloader, Patience
from taxi_assets.publisher.local_copy import Part
from taxi_assets_tests.download_fixtures import (
    MONTH,
    NAME,
    NEW,
    OLD,
    QUICK,
    fetch,
    holds,
    server,
)
from taxi_assets_tests.misbehaving_server import Fault, Offer


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
