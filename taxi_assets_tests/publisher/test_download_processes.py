# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Downloads by processes that are killed, race each other, or run out of disk."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.publisher.download import DownloadPolicy
from taxi_assets.publisher.local_copy import PartialFile
from taxi_assets.publisher.published import Published
from taxi_assets_tests.download_fixtures import MONTH, NAME, OLD, fetch, holds, server
from taxi_assets_tests.misbehaving_server import Fault, MisbehavingServer, wait_for_bytes
from taxi_assets_tests.processes import until

REPOSITORY = Path(__file__).resolve().parents[2]


CHILD = """
import shutil, sys
from pathlib import Path
from types import SimpleNamespace
from taxi_assets.core.errors import TaxiError
from taxi_assets.publisher.download import Downloader, DownloadPolicy
address, target = sys.argv[1], Path(sys.argv[2])
if "ignore free space" in sys.argv:
    shutil.disk_usage = lambda _: SimpleNamespace(free=10**9)
downloader = Downloader(DownloadPolicy(attempts=2, first_pause=0.01, read_seconds=20))
try:
    print(downloader.fetch(address, target, "yellow 2021-01", downloader.probe(address, "x").published).downloaded)
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
    def test_a_killed_download_is_resumed_by_the_next(self, server, tmp_path):
        server.script(MONTH, Fault(stall_after=100_000))
        process = child(server, tmp_path)
        wait_for_bytes(server, 100_000)
        part = tmp_path / f"{NAME}.part"
        until(lambda: part.exists() and part.stat().st_size >= 90_000, 10, "most of the bytes to be in the part")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        had = part.stat().st_size
        assert not (tmp_path / NAME).exists()

        fetch(server, tmp_path)
        assert holds(tmp_path, OLD)
        assert server.requests("GET")[-1].range == f"bytes={had}-"
        assert server.requests("GET")[-1].sent == len(OLD) - had

    def test_two_processes_at_once_download_the_file_once(self, server, tmp_path):
        server.script(MONTH, Fault(piece=30_000, pause=0.1))
        both = [child(server, tmp_path) for _ in range(2)]
        outputs = [process.communicate(timeout=20) for process in both]
        assert sorted(out for out, _ in outputs) == ["False\n", "True\n"], outputs
        assert len(server.requests("GET")) == 1
        assert holds(tmp_path, OLD)

    def test_waiting_for_another_process_is_bounded(self, server, tmp_path):
        server.script(MONTH, Fault(stall_after=100_000))
        process = child(server, tmp_path)
        try:
            wait_for_bytes(server, 100_000)
            with pytest.raises(TransientError, match=r"another process has been downloading /\S+ for 0 seconds"):
                fetch(server, tmp_path, policy=DownloadPolicy(total_seconds=0.2))
        finally:
            process.kill()
            process.communicate(timeout=10)

    def test_a_full_disk_is_reported_and_its_space_is_freed(self, server, tmp_path):
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
        out, err = child(server, tmp_path, "ignore free space", before=in_small_disk).communicate(timeout=20)
        assert "PermanentError yellow 2021-01: the disk of" in out, err
        assert "is full (300,000 bytes are needed); free some space, or set TAXI_HOME" in out
        out, _ = child(server, tmp_path, before=in_small_disk).communicate(timeout=20)
        assert "PermanentError yellow 2021-01: 300,000 bytes are needed in" in out


def test_a_full_disk_removes_the_partial_file(tmp_path):
    def fill(part: PartialFile) -> None:
        try:
            with Path("/dev/full").open("wb", buffering=0) as full:
                full.write(b"1")
        except OSError as error:
            raise part.disk_error(error, "yellow", None) from None

    part = PartialFile(tmp_path / NAME)
    part.create(Published("x", "1", 5, None)).close()
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(PermanentError, match=r"disk of .* is full"):
        fill(part)
    assert list(tmp_path.iterdir()) == []
