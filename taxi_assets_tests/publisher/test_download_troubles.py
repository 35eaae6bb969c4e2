# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""A server that is slow, down or refuses: how often it is retried, and what the error says, without secrets."""

import ssl
import time
import traceback
from types import SimpleNamespace

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.publisher.download import DownloadPolicy
from taxi_assets.publisher.http_client import HttpClient, RetryableError, retry_after
from taxi_assets.publisher.published import redact
from taxi_assets_tests.certificates import own_certificate
from taxi_assets_tests.download_fixtures import MONTH, NAME, OLD, QUICK, fetch, holds, server
from taxi_assets_tests.misbehaving_server import Fault


class TestRetries:
    def test_a_server_that_is_down_briefly_is_retried(self, server, tmp_path):
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

    def test_a_retry_after_beyond_the_limit_fails_at_once(self, server, tmp_path):
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
        with pytest.raises(TransientError, match=r"answers 503 Service Unavailable \(gave up after 4 attempts\)"):
            fetch(server, tmp_path)
        assert len(server.seen) == QUICK.attempts

    @pytest.mark.parametrize("drop", [20_000, None], ids=["many attempts", "one attempt"])
    def test_time_is_bounded_despite_progress(self, server, tmp_path, drop):
        hasty = DownloadPolicy(**{**QUICK.__dict__, "total_seconds": 0.6, "progress_bytes": 1})
        server.script(MONTH, then=Fault(piece=5000, pause=0.05, drop_after=drop))
        began = time.monotonic()
        with pytest.raises(TransientError, match="run it again later; the partial download is kept"):
            fetch(server, tmp_path, policy=hasty)
        assert time.monotonic() - began < 2

    def test_a_server_that_sends_too_slowly_is_given_up(self, server, tmp_path):
        server.script(MONTH, then=Fault(piece=10, pause=0.02))
        with pytest.raises(TransientError, match=r"sends only \d+ bytes per second"):
            fetch(server, tmp_path)

    def test_a_server_that_stops_sending_is_retried(self, server, tmp_path):
        server.script(MONTH, Fault(stall_after=100_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.sent for seen in server.requests("GET")] == [100_000, 200_000]

    def test_a_server_that_never_answers_is_named(self, server, tmp_path):
        server.script(MONTH, then=Fault(stall_after=0))
        with pytest.raises(TransientError, match=r"127\.0\.0\.1:\d+ did not respond in time"):
            fetch(server, tmp_path)

    def test_a_file_missing_after_the_probe_is_retried(self, server, tmp_path):
        server.script(MONTH, Fault(status=404), Fault(status=403))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)

    def test_a_server_without_head_is_probed_by_get(self, server, tmp_path):
        server.script(MONTH, then=Fault(status=405), method="HEAD")
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert not fetch(server, tmp_path).downloaded

    def test_a_refused_connection_is_named(self, server, tmp_path):
        server.shutdown()
        server.server_close()
        with pytest.raises(TransientError, match=r"127\.0\.0\.1:\d+ refuses the connection"):
            fetch(server, tmp_path)

    def test_an_unknown_host_is_named_with_the_remedy(self, server, tmp_path):
        with pytest.raises(
            TransientError, match=r"nowhere\.invalid cannot be resolved: .*; check the network and TAXI_SOURCE"
        ):
            fetch(server, tmp_path, address="http://nowhere.invalid/a.parquet")


class TestPermanent:
    def test_an_untrusted_certificate_fails_at_once(self, server, tmp_path):
        certificate, key = own_certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with pytest.raises(PermanentError, match=r"127\.0\.0\.1:\d+ presents a certificate that is not trusted"):
            fetch(server, tmp_path, address=server.address.replace("http:", "https:") + MONTH)

    def test_plain_http_where_tls_was_requested(self, server, tmp_path):
        with pytest.raises(PermanentError, match="whether TAXI_SOURCE should start with http or https"):
            fetch(server, tmp_path, address=server.address.replace("http:", "https:") + MONTH)

    @pytest.mark.parametrize("elsewhere", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
    def test_redirects_never_leave_http(self, server, tmp_path, elsewhere):
        server.script(MONTH, Fault(status=302, headers={"Location": elsewhere}), method="HEAD")
        with pytest.raises(PermanentError, match=r"^yellow 2021-01: .* redirects to an address that is not http\(s\)"):
            fetch(server, tmp_path)

    def test_redirects_are_followed_and_resumed(self, server, tmp_path):
        moved = Fault(status=302, headers={"Location": "/store.parquet"})
        server.offers["/store.parquet"] = server.offers.pop(MONTH)
        server.script(MONTH, then=moved, method="HEAD")
        server.script(MONTH, then=moved)
        server.script("/store.parquet", Fault(drop_after=100_000))
        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert [seen.range for seen in server.requests("GET", "/store.parquet")] == [None, "bytes=100000-"]

    def test_endless_redirects_fail(self, server, tmp_path):
        server.script(MONTH, then=Fault(status=302, headers={"Location": MONTH}), method="HEAD")
        with pytest.raises(PermanentError, match="redirects too many times"):
            fetch(server, tmp_path)

    def test_a_disk_too_small_is_reported_before_the_download(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=299_999))
        with pytest.raises(
            PermanentError, match=r"yellow 2021-01: 300,000 bytes are needed in /\S+, 299,999 are free; .*TAXI_HOME"
        ):
            fetch(server, tmp_path)
        assert not (tmp_path / f"{NAME}.part").exists()

    def test_a_folder_that_cannot_be_written(self, server, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(PermanentError, match=r"yellow 2021-01: /\S+/file cannot be written \(.*\); check"):
            fetch(server, tmp_path / "file")


class TestSecrets:
    def test_user_and_password_go_only_to_the_server(self, server, tmp_path):
        address = server.address.replace("//", "//anna:s3cr%2Ft@") + MONTH + "?token=t0ken"
        got = fetch(server, tmp_path, address=address)
        assert server.seen[-1].headers["Authorization"] == "Basic YW5uYTpzM2NyL3Q="
        stored = "".join(path.read_text() for path in tmp_path.glob("*.json")) + repr(got)
        assert "s3cr" not in stored
        assert "t0ken" not in stored
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
            fetch(server, tmp_path, address=address, policy=DownloadPolicy(**{**QUICK.__dict__, "attempts": 2}))
        text = "".join(traceback.format_exception(caught.value))
        assert "s3cret" not in text
        assert "t0ken" not in text

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
    def test_an_invalid_address_is_refused_without_its_secrets(self, address):
        with pytest.raises((PermanentError, RetryableError)) as caught:
            HttpClient(1, 1).request("GET", address)
        assert "p/q" not in str(caught.value)
        assert "p?q" not in str(caught.value)
