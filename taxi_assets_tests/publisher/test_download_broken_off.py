# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""An interrupted download is resumed where that is safe, and restarted where it is not."""

import json

import pytest

from taxi_assets.core.errors import TransientError
from taxi_assets.publisher.download import Downloader, DownloadPolicy
from taxi_assets.publisher.local_copy import PartialFile
from taxi_assets_tests.download_fixtures import MONTH, NAME, NEW, OLD, QUICK, fetch, holds, server
from taxi_assets_tests.misbehaving_server import Fault, Offer


class TestResume:
    def test_a_dropped_download_is_resumed(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), Fault(drop_after=50_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [(seen.range, seen.status, seen.sent) for seen in server.requests("GET")] == [
            (None, 200, 100_000),
            ("bytes=100000-", 206, 50_000),
            ("bytes=150000-", 206, 150_000),
        ]
        assert server.requests("GET")[1].headers["If-Range"] == '"one"'

    def test_it_is_resumed_by_date_where_there_is_no_etag(self, server, tmp_path):
        server.offers[MONTH] = Offer(OLD, etag=None)
        server.script(MONTH, Fault(drop_after=100_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.sent for seen in server.requests("GET")] == [100_000, 200_000]

    @pytest.mark.parametrize("offer", [Offer(OLD, etag='W/"weak"'), Offer(OLD, etag=None, modified=None)])
    def test_it_is_restarted_where_the_file_has_no_identity(self, server, tmp_path, offer):
        server.offers[MONTH] = offer
        server.script(MONTH, Fault(drop_after=100_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.requests("GET")] == [None, None]

    def test_a_server_that_ignores_range_sends_it_from_the_start(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), Fault(ignore_range=True))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.sent for seen in server.requests("GET")] == [100_000, 300_000]

    @pytest.mark.parametrize("second", [Fault(), Fault(ignore_if_range=True)], ids=["If-Range", "ignored"])
    def test_a_file_that_changes_between_two_parts_is_restarted(self, server, tmp_path, second):
        server.script(MONTH, Fault(drop_after=100_000, piece=100_000), second)

        def change(done: int, _: int | None) -> None:
            if done == 100_000:
                server.offers[MONTH] = Offer(NEW, etag='"two"')

        got = fetch(server, tmp_path, progress=change)
        assert holds(tmp_path, NEW)
        assert got.published.version == '"two"'

    def test_another_range_than_the_requested_one_is_refused(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), Fault(shift=7))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.requests("GET")] == [None, "bytes=100000-", None]

    def test_a_refused_range_restarts_the_download(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), Fault(status=416, headers={"Content-Range": "bytes */300000"}))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.requests("GET")] == [None, "bytes=100000-", None]

    def test_a_later_run_resumes_what_an_earlier_one_gave_up(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), then=Fault(status=503))
        with pytest.raises(
            TransientError, match=r"answers 503 .*\(gave up after 4 attempts\).*partial download is kept"
        ):
            fetch(server, tmp_path)
        assert not (tmp_path / NAME).exists()
        server.script(MONTH)
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert server.requests("GET")[-1].range == "bytes=100000-"

    def test_a_later_run_discards_a_part_of_an_older_file(self, server, tmp_path):
        server.script(MONTH, Fault(drop_after=100_000), then=Fault(status=503))
        with pytest.raises(TransientError):
            fetch(server, tmp_path)
        server.script(MONTH)
        server.offers[MONTH] = Offer(NEW, etag='"two"')
        fetch(server, tmp_path)
        assert holds(tmp_path, NEW)
        assert server.requests("GET")[-1].range is None

    @pytest.mark.parametrize("spoil", ["boot", "record"])
    def test_an_untrusted_part_is_discarded(self, server, tmp_path, spoil):
        server.script(MONTH, Fault(drop_after=100_000), then=Fault(status=503))
        with pytest.raises(TransientError):
            fetch(server, tmp_path)
        record = tmp_path / f"{NAME}.part.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "another"}) if spoil == "boot" else "")
        server.script(MONTH)
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert server.requests("GET")[-1].range is None

    def test_a_complete_part_is_not_requested_again(self, server, tmp_path):
        got = Downloader(QUICK).probe(server.address + MONTH, "yellow 2021-01").published
        with PartialFile(tmp_path / NAME).create(got) as part:
            part.write(OLD)
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert server.requests("GET") == []

    def test_parts_of_different_files_are_downloaded_again_as_one(self, server, tmp_path):
        got = Downloader(QUICK).probe(server.address + MONTH, "yellow 2021-01").published
        with PartialFile(tmp_path / NAME).create(got) as part:
            part.write(b"not of this file")
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.requests("GET")] == ["bytes=16-", None]

    def test_a_connection_that_breaks_often_succeeds_as_long_as_it_makes_progress(self, server, tmp_path):
        policy = DownloadPolicy(**{**QUICK.__dict__, "progress_bytes": 20_000})
        server.script(MONTH, *[Fault(drop_after=25_000)] * 11)
        fetch(server, tmp_path, policy=policy)
        assert holds(tmp_path, OLD)
        assert len(server.requests("GET")) == 12 > policy.attempts

    def test_a_body_without_length_must_end_as_http_says(self, server, tmp_path):
        server.script(MONTH, Fault(chunked=True, drop_after=100_000), Fault(chunked=True))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)

    def test_a_body_without_length_must_have_the_length_of_the_probe(self, server, tmp_path):
        server.script(MONTH, Fault(chunked=True, body=OLD[:200_000]), Fault(chunked=True))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
