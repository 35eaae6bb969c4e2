"""Google Cloud Storage, BigQuery and Postgres on this machine, to try the cloud profile without an account.

    eval "$(python -m taxi_assets_tests.emulators [FOLDER])"

starts them in the background unless they are running, stores their data in FOLDER, and prints one line of settings that
use them; `--stop` stops them. They emulate the services' protocols, not their access control, quotas or cost.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import requests

from taxi_assets.core.errors import TaxiError
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.emulators import bigquery, storage
from taxi_assets_tests.processes import until

PORTS = (4443, 9050, 9060)
"""Of storage, of BigQuery's HTTP and of its gRPC."""
BUCKET, PROJECT = "taxi", "local"


def start(folder: Path, ports: tuple[int, int, int]) -> dict[str, str]:
    """Start what does not run, wait until it answers, and return the settings that use it.

    Raises:
        Unavailable: the BigQuery emulator cannot be had, or a server does not start.
        TaxiError: Postgres does not start.
    """
    (folder / "storage" / BUCKET).mkdir(parents=True, exist_ok=True)
    storage_url, bigquery_url = (f"http://127.0.0.1:{port}" for port in ports[:2])
    _server(
        folder / "storage.pid", f"{storage_url}/storage/v1/b", lambda: storage.command(folder / "storage", ports[0])
    )
    _server(
        folder / "bigquery.pid",
        f"{bigquery_url}/bigquery/v2/projects",
        lambda: bigquery.command(*ports[1:], folder / "bigquery"),
        lambda: bigquery.environment(storage_url),
    )
    EmbeddedPostgres(folder / "postgres").url()
    address = [sys.executable, "-m", "taxi_assets.sinks.postgres.embedded", "url", str(folder / "postgres")]
    return {
        "TAXI_PROFILE": "gcp",
        "TAXI_AUTOMATION": "off",  # which is on in the cloud: it would load the publisher's newest months
        "STORAGE_EMULATOR_HOST": storage_url,
        "TAXI_BUCKET": f"gs://{BUCKET}",
        "TAXI_BIGQUERY_PROJECT": PROJECT,
        "TAXI_BIGQUERY_ENDPOINT": bigquery_url,
        "TAXI_POSTGRES_URL": f'"$({shlex.join(address)})"',  # evaluated when used, so that its password is not shown
    }


def stop(folder: Path) -> None:
    """Stop the emulators that were started in this folder, and no others."""
    for file in folder.glob("*.pid"):
        if process := _running(file):
            process.terminate()
            with suppress(psutil.TimeoutExpired):
                process.wait(10)
            if process.is_running():
                process.kill()
        file.unlink()
    EmbeddedPostgres(folder / "postgres").stop()


def _server(
    pid: Path,
    url: str,
    command: Callable[[], list[str]],
    environment: Callable[[], dict[str, str] | None] = lambda: None,
) -> None:
    log = pid.with_suffix(".log")
    if not _running(pid):
        if _answers(url):
            raise bigquery.Unavailable(f"{url} is another program's: stop it, or name other ports with --ports")
        with log.open("ab") as output:
            started = subprocess.Popen(
                command(),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # the terminal's interrupt is not meant for it
            )
        pid.write_text(json.dumps([started.pid, psutil.Process(started.pid).create_time()]))
    try:
        until(lambda: _answers(url) or not _running(pid), 60, f"{pid.stem} at {url}")
    except AssertionError as error:
        raise bigquery.Unavailable(f"{error}; see {log}") from None
    if not _running(pid):
        raise bigquery.Unavailable(f"the {pid.stem} emulator has ended; see {log}")


def _running(file: Path) -> psutil.Process | None:
    """The process that the file names, if it is still that one and alive."""
    with suppress(OSError, ValueError, psutil.NoSuchProcess):
        number, begun = json.loads(file.read_text())
        process = psutil.Process(number)
        if process.create_time() == begun and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _answers(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(url, timeout=5).status_code < 500
    return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m taxi_assets_tests.emulators")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".taxi/emulators"))
    parser.add_argument("--ports", nargs=3, type=int, default=PORTS, metavar=("STORAGE", "BIGQUERY", "GRPC"))
    parser.add_argument("--stop", action="store_true")
    given = parser.parse_args()
    folder = given.folder.absolute()
    if given.stop:
        stop(folder)
        return 0
    print("Starting the emulators (the first time, BigQuery's is built: a minute, 600 MB) ...", file=sys.stderr)
    try:
        settings = start(folder, tuple(given.ports))
    except (bigquery.Unavailable, TaxiError) as error:
        print(f"{str(error).rstrip('.')}.", file=sys.stderr)
        return 1
    print("export " + " ".join(f"{name}={value}" for name, value in settings.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
