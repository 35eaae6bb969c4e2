"""The deployment that `make verify-deploy` tries: a project of docker compose with settings of its own, and how it is asked."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT, SECOND, IMAGE = "taxi-verify", "taxi-verify-2", "taxi-assets:verify"
COMPOSE, FIRST_MACHINE = "docker-compose.yml", "deploy/verification/machine-1.yml"

LAUNCH = """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
RUNS = (
    "query($f: RunsFilter) { runsOrError(filter: $f) { ... on Runs { results { runId status tags { key value } } } } }"
)
WHY = """SELECT replace(left(coalesce(e #>> '{{dagster_event,event_specific_data,error,message}}',
  e #>> '{{dagster_event,message}}'), 400), chr(10), ' ')
  FROM (SELECT id, event::json e FROM event_logs WHERE run_id = '{run}') each
  WHERE e #>> '{{dagster_event,event_specific_data,error}}' IS NOT NULL OR e #>> '{{level}}' = '40' ORDER BY id"""
ROWS = "SELECT to_char(tpep_pickup_datetime, 'YYYY-MM'), count(*) FROM ny_taxi.yellow_cab_data GROUP BY 1"


def run(
    *command: str | Path,
    data: str | bytes | None = None,
    seconds: float = 900,
    cwd: Path = REPOSITORY,
    **environment: str,
) -> str:
    """What a command prints; its last lines as the error when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        input=data.encode() if isinstance(data, str) else data,
        capture_output=True,
        timeout=seconds,
        cwd=cwd,
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

    def __init__(self, folder: Path, project: str = PROJECT) -> None:
        self.project, self.file, self.port = project, folder / ".env", free_port()
        self.files, self.profiles = [COMPOSE], []
        self.set(
            ENV_FILE=str(self.file),
            DEPLOY_IMAGE=IMAGE,
            POSTGRES_PASSWORD=secrets.token_hex(16),
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
        """Run docker compose."""
        files = [word for file in self.files for word in ("--file", file)]
        profiles = [word for profile in self.profiles for word in ("--profile", profile)]
        command = ["docker", "compose", "--project-name", self.project, "--env-file", str(self.file), *files, *profiles]
        return run(*command, *arguments, **options, **self.clean())

    def container(self, service: str) -> str:
        """The id of a service's first container."""
        return self.compose("ps", "--all", "--quiet", service).split()[0]

    def documented(self, heading: str, block: int = 0, **words: str) -> None:
        """Run a block of commands of docs/deploy.md as it is written there, beside the settings; some words exchanged."""
        section = (REPOSITORY / "docs/deploy.md").read_text().split(f"\n### {heading}\n")[1].split("\n### ")[0]
        commands = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[block]
        for word, other in words.items():
            commands = commands.replace(word, other)
        shutil.copy(REPOSITORY / "Makefile", self.file.parent)
        here = {
            "COMPOSE_FILE": str(REPOSITORY / COMPOSE),
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_ENV_FILES": str(self.file),
        }
        run("bash", "-euo", "pipefail", "-c", commands, cwd=self.file.parent, **here, **self.clean())

    def settings(self) -> dict[str, str]:
        """What the file says."""
        return dict(line.split("=", 1) for line in self.file.read_text().splitlines())

    def clean(self) -> dict[str, str]:
        """What the caller's own environment sets of ours, as the file says it, which must win."""
        return {name: value for name, value in self.settings().items() if name in os.environ}

    @property
    def password(self) -> str:
        """The database's."""
        return self.settings()["POSTGRES_PASSWORD"]

    def up(self, *arguments: str) -> None:
        """Start what is not running, and wait until it is healthy."""
        self.compose("up", "--detach", "--wait", "--no-build", *arguments)

    def remove(self) -> None:
        """Remove containers, networks and volumes, of every profile and of the second machine; nothing of them stays."""
        self.files, self.profiles = [COMPOSE, FIRST_MACHINE], ["scale", "emulators"]
        for project in (SECOND, self.project):
            self.compose("--project-name", project, "down", "--volumes", "--remove-orphans")
        self.files, self.profiles = [COMPOSE], []
        for kind in ("container", "network", "volume"):
            left = run(
                "docker", kind, "ls", *["--all"] * (kind == "container"), "--quiet", "--filter", f"name={PROJECT}"
            )
            assert not left, f"{kind}s left: {left}"

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
            why = " | ".join(";".join(line) for line in self.query(WHY.format(run=run_id), "dagster"))
            raise RuntimeError(f"the run ended with {ended}: {why}")
