"""The deployment that `deploy/verify` tries: a project of docker compose with settings of its own, and how it is asked."""

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT, IMAGE = "taxi-verify", "taxi-assets:verify"

LAUNCH = """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
RUNS = (
    "query($f: RunsFilter) { runsOrError(filter: $f) { ... on Runs { results { runId status tags { key value } } } } }"
)
ROWS = "SELECT to_char(tpep_pickup_datetime, 'YYYY-MM'), count(*) FROM ny_taxi.yellow_cab_data GROUP BY 1"


def run(*command: str | Path, data: str | bytes | None = None, seconds: float = 900, **environment: str) -> str:
    """What a command prints; its last lines as the error when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        input=data.encode() if isinstance(data, str) else data,
        capture_output=True,
        timeout=seconds,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode:
        said = (done.stderr.decode() or done.stdout.decode()).strip().splitlines()[-12:]
        raise RuntimeError(f"{' '.join(map(str, command))[:200]} failed: " + "\n".join(said))
    return done.stdout.decode(errors="replace").strip()


def until(condition: Callable[[], object], seconds: float, what: str) -> object:
    """Wait for a truthy answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(1)
    raise RuntimeError(f"waited {seconds:.0f} s for {what}")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stack:
    """The composed project: its settings in a file of its own, and how it is asked."""

    def __init__(self, folder: Path) -> None:
        self.file, self.password, self.port = folder / "env", secrets.token_hex(16), free_port()
        self.profiles: list[str] = []
        self.set(
            ENV_FILE=str(self.file),
            DEPLOY_IMAGE=IMAGE,
            POSTGRES_PASSWORD=self.password,
            UI_PORT=str(self.port),
            POSTGRES_PORT=str(free_port()),
            TAXI_AUTOMATION="off",
            TAXI_SOURCE="sample",
            TAXI_SAMPLE_ROWS="20000",
        )

    def set(self, **settings: str) -> None:
        """Add to the settings."""
        with self.file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())

    def compose(self, *arguments: str, **options) -> str:
        """Run docker compose. What the caller's own environment sets of ours must not win over the file."""
        profiles = [word for profile in self.profiles for word in ("--profile", profile)]
        clean = {name: value for name, value in self.settings().items() if name in os.environ}
        command = ["docker", "compose", "--project-name", PROJECT, "--env-file", str(self.file), *profiles, *arguments]
        return run(*command, **options, **clean)

    def settings(self) -> dict[str, str]:
        """What the file says."""
        return dict(line.split("=", 1) for line in self.file.read_text().splitlines())

    def up(self, *arguments: str) -> None:
        """Start what is not running, and wait until it is healthy."""
        self.compose("up", "--detach", "--wait", "--no-build", *arguments)

    def remove(self) -> None:
        """Remove its containers and volumes, of every profile."""
        self.profiles = ["scale", "emulators"]
        self.compose("down", "--volumes", "--remove-orphans")
        self.profiles = []

    def ask(self, query: str, **variables: object) -> dict:
        """The answer of the UI's GraphQL API."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            reply = json.load(answer)
        if "errors" in reply:
            raise RuntimeError(str(reply["errors"])[:500])
        return reply["data"]

    def postgres(self, command: str, data: bytes | None = None) -> str:
        """A shell line in the database's container, as its superuser."""
        return self.compose(
            "exec", "-T", "postgres", "sh", "-c", f"export PGPASSWORD=$POSTGRES_PASSWORD; {command}", data=data
        )

    def query(self, sql: str, database: str = "trips") -> list[list[str]]:
        """Rows of a query, as text."""
        lines = self.postgres(
            f"psql -U postgres -d {database} -qAt -F ';' -v ON_ERROR_STOP=1", sql.encode()
        ).splitlines()
        return [line.split(";") for line in lines]

    def rows(self) -> dict[str, int]:
        """Rows in Postgres by month."""
        return {month: int(rows) for month, rows in self.query(ROWS)}

    def launch(self, month: str) -> str:
        """Ask for a run of load_month; its id."""
        selector = {
            "repositoryLocationName": "taxi_assets",
            "repositoryName": "__repository__",
            "jobName": "load_month",
        }
        tags = [{"key": "dagster/partition", "value": f"{month}-01"}]
        params = {"selector": selector, "executionMetadata": {"tags": tags}, "runConfigData": {}}
        answer = self.ask(LAUNCH, p=params)["launchPipelineExecution"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise RuntimeError(str(answer))
        return answer["run"]["runId"]

    def runs(self, **filters: object) -> list[dict]:
        """Runs as the UI lists them."""
        return self.ask(RUNS, f=filters)["runsOrError"]["results"]

    def status(self, run_id: str) -> str:
        """A run's status."""
        return self.runs(runIds=[run_id])[0]["status"]

    def finish(self, run_id: str, seconds: float = 300) -> None:
        """Wait for the run's success."""
        ended = until(
            lambda: (s := self.status(run_id)) in ("SUCCESS", "FAILURE", "CANCELED") and s, seconds, "the run"
        )
        if ended != "SUCCESS":
            raise RuntimeError(f"the run ended with {ended}: {self.compose('logs', '--tail', '40', 'code')[-2500:]}")
