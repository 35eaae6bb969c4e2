"""The BigQuery emulator: its own Python 3.13 environment, prepared once per machine, and its start.

local-bigquery needs Python 3.13 and DuckDB 1.5, so it is installed in a cache folder, not in the project's environment:
about 600 MB in TAXI_EMULATOR_HOME, else ~/.cache/taxi-assets. The server is `bigquery_server`. By hand:

    python -m taxi_assets_tests.emulators.bigquery prepare
    python -m taxi_assets_tests.emulators.bigquery serve --port 9050 --data-dir FOLDER --storage http://127.0.0.1:4443

Only the standard library is imported here.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "bigquery-requirements.lock"
SERVER = HERE / "bigquery_server.py"
PYTHON = "3.13"
CACHE = os.environ.get("TAXI_EMULATOR_HOME") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "taxi-assets"
)


class Unavailable(Exception):
    """The emulator is unavailable on this machine; the message gives the reason."""


def folder() -> Path:
    """Where the environment of these requirements is, or would be."""
    return Path(CACHE).absolute() / f"bigquery-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"


def prepare() -> Path:
    """Build the environment unless it is there, and return its folder; one process builds while others wait.

    Raises:
        Unavailable: there is no Python 3.13, or the packages cannot be had.
    """
    home = folder()
    if (home / "ready").exists():
        return home
    python = find_python()
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(home.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "ready").exists():
            shutil.rmtree(home, ignore_errors=True)  # what a killed build left
            _build(home, python)
            (home / "ready").touch()
    return home


def find_python() -> str:
    """A Python 3.13: this one, one on PATH, pyenv's or uv's.

    Raises:
        Unavailable: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [sys.executable, shutil.which(f"python{PYTHON}")]
    candidates += sorted(map(str, pyenv.glob(f"versions/{PYTHON}*/bin/python{PYTHON}")), reverse=True)
    if uv := shutil.which("uv"):
        candidates.append(_output(uv, "python", "find", "--no-python-downloads", PYTHON))
    for candidate in filter(None, candidates):
        program = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        version, _, executable = _output(candidate, "-c", program).partition(" ")
        if version == PYTHON:
            return executable
    raise Unavailable(f"the BigQuery emulator needs Python {PYTHON}, which was not found on PATH, by pyenv or by uv")


def command(port: int, grpc_port: int, data: Path) -> list[str]:
    """What serves the emulator on 127.0.0.1, keeping its tables in `data`."""
    address = ["--host", "127.0.0.1", "--port", str(port), "--grpc-port", str(grpc_port)]
    return [str(prepare() / "venv/bin/python"), str(SERVER), *address, "--data-dir", str(data)]


def environment(storage: str | None) -> dict[str, str]:
    """The server's environment: its own HOME, where DuckDB looks for extensions, and the URL that serves gs://."""
    passed = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return passed | {"HOME": str(prepare() / "home")} | ({"STORAGE_EMULATOR_HOST": storage} if storage else {})


def _build(home: Path, python: str) -> None:
    """A virtual environment of exactly the locked packages, and DuckDB's extensions where DuckDB looks for them."""
    venv = home / "venv"
    install = ["install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(REQUIREMENTS)]
    _run(python, "-m", "venv", "--without-pip", str(venv))
    # --no-deps: local-bigquery declares DuckDB 2, for which its extensions do not exist yet; 1.5.5 is what works
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(venv / "bin/python"), *install)
    program = "import duckdb; print(duckdb.__version__, duckdb.sql('PRAGMA platform').fetchone()[0])"
    version, _, platform = _output(str(venv / "bin/python"), "-c", program).partition(" ")
    extensions = home / f"home/.duckdb/extensions/v{version}/{platform}"
    extensions.mkdir(parents=True)
    for extension in venv.glob(f"lib/python{PYTHON}/site-packages/duckdb_extension_*/extensions/v{version}/*"):
        (extensions / extension.name).symlink_to(extension)


def _run(*arguments: str) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Unavailable(f"the BigQuery emulator's environment could not be built: {last}")


def _output(*arguments: str) -> str:
    """The output of a command, or an empty string if it fails or does not exist."""
    try:
        return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m taxi_assets_tests.emulators.bigquery")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="build the emulator's environment and print its folder")
    serve = commands.add_parser("serve", help="serve until interrupted")
    serve.add_argument("--port", type=int, default=9050)
    serve.add_argument("--grpc-port", type=int, default=9060)
    serve.add_argument("--data-dir", type=Path, required=True)
    serve.add_argument("--storage", help="address of the Cloud Storage emulator, http://host:port")
    given = parser.parse_args()
    try:
        if given.command == "prepare":
            print(prepare())
            return 0
        arguments = command(given.port, given.grpc_port, given.data_dir.absolute())
        os.execve(arguments[0], arguments, environment(given.storage))
    except Unavailable as error:
        print(f"{error}.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
