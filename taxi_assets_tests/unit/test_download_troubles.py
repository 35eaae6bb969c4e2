# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""A server that is slow, down or refusing: how long it is asked, and what is said then, without secrets."""

import ssl
import time
import traceback

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.publisher.download import Patience
from taxi_assets.publisher.offer import redact
from taxi_assets.publisher.web import Again, Web, retry_after
from taxi_assets_tests.certificates import own_certificate
from taxi_assets_tests.download_fixtures import (
    MONTH,
    NAME,
    OLD,
    QUICK,
    fetch,
    holds,
    server,
)
from taxi_assets_tests.misbehaving_server import Fault


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
