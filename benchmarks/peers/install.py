"""Builds the peers' environments: `python -m benchmarks.peers.install [mage] [dlt] [pandas]`.

By uv, which finds versions that go together in seconds; for Mage's 200 requirements pip tries for an hour.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = {
    "mage": ["mage-ai[postgres,google-cloud-storage]==0.9.80", "duckdb>=1.4"],
    "dlt": ["dlt[postgres]==1.31.*", "pyarrow", "adbc-driver-postgresql", "adbc-driver-manager"],
    "pandas": ["pandas==2.3.*", "psycopg2-binary"],
}


def python(folder: Path, peer: str) -> Path:
    """The interpreter of a peer's environment, there or not."""
    return folder / peer / "bin" / "python"


def main(peers: list[str]) -> int:
    """Install what is not there yet; a peer that cannot be installed is named, and the others still are."""
    from benchmarks.workspace import DEFAULT_FOLDER

    folder, failed = DEFAULT_FOLDER / "peers", []
    for peer in peers or REQUIREMENTS:
        done = folder / peer / ".ready"
        if done.exists() and done.read_text() == "\n".join(REQUIREMENTS[peer]):
            continue
        print(f"installing {peer} into {folder / peer} ...", flush=True)
        venv.create(folder / peer, clear=True, with_pip=True)
        pip = [python(folder, peer), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"]
        uv = [python(folder, peer), "-m", "uv", "pip", "install", "--quiet", "--python", python(folder, peer)]
        if any(subprocess.run(command).returncode for command in (pip, [*uv, *REQUIREMENTS[peer]])):
            failed.append(peer)
        else:
            done.write_text("\n".join(REQUIREMENTS[peer]))
    for peer in failed:
        print(f"{peer} could not be installed; its rows will be missing from the table.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
