"""Google Cloud Storage and BigQuery on this machine, to play with the cloud profile without an account.

    python -m taxi_assets_tests.emulators [FOLDER]

serves both until interrupted, keeps what they hold in FOLDER, and prints the settings that use them.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from taxi_assets_tests.emulators import bigquery, storage

STORAGE_PORT, BIGQUERY_PORT, GRPC_PORT = 4443, 9050, 9060
BUCKET = "taxi"


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".taxi/emulators").absolute()
    (folder / "storage" / BUCKET).mkdir(parents=True, exist_ok=True)
    print("Preparing the BigQuery emulator (once: a minute, 600 MB) ...", file=sys.stderr)
    address = f"http://127.0.0.1:{STORAGE_PORT}"
    try:
        commands = {
            "storage": (storage.command(folder / "storage", STORAGE_PORT), None),
            "bigquery": (
                bigquery.command(BIGQUERY_PORT, GRPC_PORT, folder / "bigquery"),
                bigquery.environment(address),
            ),
        }
    except bigquery.Unavailable as error:
        print(f"{error}.", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    servers: dict[str, subprocess.Popen] = {}
    try:
        for name, (command, environment) in commands.items():
            with (folder / f"{name}.log").open("ab") as log:
                servers[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        print(f"export TAXI_PROFILE=gcp STORAGE_EMULATOR_HOST={address} TAXI_BUCKET=gs://{BUCKET}")
        print(f"export TAXI_BIGQUERY_PROJECT=local TAXI_BIGQUERY_ENDPOINT=http://127.0.0.1:{BIGQUERY_PORT}", flush=True)
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.5)
        ended = next(name for name, server in servers.items() if server.poll() is not None)
        print(f"The {ended} emulator has ended: see {folder / ended}.log.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for server in servers.values():
            server.terminate()
        for server in servers.values():
            server.wait(10)


if __name__ == "__main__":
    sys.exit(main())
