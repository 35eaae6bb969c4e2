"""One server: the image, the stack, a month through it, and what docs/deploy.md says of its life."""

import json
import re
import time

from verification.stack import IMAGE, PROJECT, Stack, run, until

MONTH = "2021-01"
OLDER = "1aca709bba64"  # Dagster's storage as its releases of summer 2024 left it
DOWNGRADE = f"""
import sqlalchemy, os, dagster_postgres.storage as postgres
from dagster._core.storage import sql
engine = sqlalchemy.create_engine(os.environ["DAGSTER_POSTGRES_URL"], isolation_level="AUTOCOMMIT")
with engine.connect() as connection:
    sql.run_alembic_downgrade(sql.get_alembic_config(postgres.__file__), connection, "{OLDER}")
"""
REVISION = "SELECT version_num, to_regclass('backfill_tags') IS NOT NULL FROM alembic_version"
ENTER = """
import json, psycopg, sys
def enters(user, database, password):
    try:
        psycopg.connect(host="postgres", user=user, dbname=database, password=password, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error)
    return "enters"
print(json.dumps([enters(*each) for each in json.load(sys.stdin)]))
"""


def image(stack: Stack) -> str:
    """Built; its user is not root, another user will do, and nothing in its history or environment is a secret."""
    stack.compose("build", "migrate", seconds=1800)
    facts = json.loads(run("docker", "image", "inspect", IMAGE))[0]
    assert facts["Config"]["User"] == "10001:10001", facts["Config"]["User"]
    assert not facts["Config"].get("Entrypoint")
    told = json.dumps(facts["Config"]) + run("docker", "history", "--no-trunc", IMAGE)
    assert not re.search(r"passw|secret|token|_key=", told, re.IGNORECASE), "the image's history speaks of secrets"
    anyone = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--user", "12345:12345", "--network", "none"]
    program = (
        "import dagster_contrib_gcp, dagster_celery, taxi_assets.definitions as d; print(len(list(d.defs.assets)))"
    )
    run(*anyone, "--env", "TAXI_HOME=/tmp/taxi", IMAGE, "python", "-c", program)
    packages = run(
        "docker", "run", "--rm", IMAGE, "sh", "-c", "ls -d /opt/venv/lib/python3*/site-packages/*.dist-info | wc -l"
    )
    ours = int(run("docker", "run", "--rm", IMAGE, "sh", "-c", "du -sk /opt | cut -f1")) / 1024
    return (
        f"{facts['Size'] / 1e6:,.0f} MB, {ours:,.0f} MB of them over the base; {packages} packages with their metadata"
    )


def up(stack: Stack) -> str:
    """Every service healthy, nothing published but on 127.0.0.1."""
    stack.up()
    names = run("docker", "ps", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}").split()
    facts = json.loads(run("docker", "inspect", *names))
    assert all(each["State"]["Health"]["Status"] == "healthy" for each in facts)
    hosts = {
        binding["HostIp"]
        for each in facts
        for ports in each["NetworkSettings"]["Ports"].values()
        for binding in ports or []
    }
    assert hosts == {"127.0.0.1"}, hosts
    assert all(each["HostConfig"]["Memory"] and each["HostConfig"]["NanoCpus"] for each in facts)
    used = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", *names).splitlines()
    scale = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
    total = sum(float(line.split()[0][:-3]) * scale[line.split()[0][-3:]] for line in used)
    return f"{len(facts)} containers healthy, {total:,.0f} MB"


def month(stack: Stack) -> str:
    """A month through the UI's API, its run a process of the code location's container."""
    stack.finish(stack.launch(MONTH))
    rows = stack.rows()
    assert list(rows) == [MONTH], rows
    return f"{MONTH}: {rows[MONTH]:,} rows"


def survives(stack: Stack) -> str:
    """MonthFile and history are there after `down` and `up`; the storage is migrated on the way."""
    before, runs = stack.rows(), len(stack.runs())
    stack.compose("down")
    stack.up()
    assert stack.rows() == before
    assert len(stack.runs()) == runs > 0
    assert "current" in stack.compose("logs", "migrate")
    return f"{sum(before.values()):,} rows and {runs} runs, and dagster instance migrate had run"


def restore_trips(stack: Stack) -> str:
    """The commands of docs/deploy.md: dump, lose every row, restore."""
    before = stack.rows()
    stack.documented("Back up and restore")
    stack.query("TRUNCATE ny_taxi.yellow_cab_data")
    assert stack.rows() == {}
    stack.documented("Back up and restore", 1, dagster="trips")
    assert stack.rows() == before
    stack.finish(stack.launch(MONTH))  # and the owner may still replace a month
    assert stack.rows() == before
    return f"{sum(before.values()):,} rows back, and a month replaced afterwards"


def restore_instance(stack: Stack) -> str:
    """The same for Dagster's history."""
    before = {each["runId"]: each["status"] for each in stack.runs()}
    stack.documented("Back up and restore")
    stack.query("TRUNCATE runs CASCADE", "dagster")
    assert stack.runs() == []
    stack.documented("Back up and restore", 1)
    assert {each["runId"]: each["status"] for each in stack.runs()} == before
    stack.finish(stack.launch(MONTH))
    return f"{len(before)} runs back, and a new one succeeded"


def killed(stack: Stack) -> str:
    """A run whose container is killed is ended when the container is back, and started once more."""
    stack.set(TAXI_SAMPLE_ROWS="2000000")  # long enough to be in the middle of it
    stack.up()
    run_id = stack.launch("2021-02")
    until(lambda: stack.status(run_id) == "STARTED", 120, "the run to start")
    time.sleep(3)
    stack.compose("kill", "code")
    stack.set(TAXI_SAMPLE_ROWS="20000")
    stack.up()
    assert stack.status(run_id) == "FAILURE", stack.status(run_id)
    again = until(
        lambda: [e["runId"] for e in stack.runs(tags=[{"key": "dagster/parent_run_id", "value": run_id}])],
        120,
        "the retry",
    )
    stack.finish(again[0])
    return f"2021-02: ended, retried, {stack.rows()['2021-02']:,} rows"


def upgrade(stack: Stack) -> str:
    """The instance's storage as an older Dagster had it, by Dagster's own way back: the next `up` migrates it."""
    (newest,) = stack.query(REVISION, "dagster")
    runs = {each["runId"] for each in stack.runs()}
    stack.compose("stop", "webserver", "daemon", "code")
    stack.compose("run", "--rm", "--no-deps", "-T", "migrate", "python", "-c", DOWNGRADE)
    (older,) = stack.query(REVISION, "dagster")
    assert older == [OLDER, "f"], older
    stack.up()
    (now,) = stack.query(REVISION, "dagster")
    assert now == newest, (now, newest)
    assert runs <= {each["runId"] for each in stack.runs()}
    stack.finish(stack.launch(MONTH))
    return f"from {OLDER} to {now[0]}: {len(runs)} runs kept, and a new one succeeded"


def rotate(stack: Stack) -> str:
    """The commands of docs/deploy.md: a new password, which everything uses afterwards and without which nobody enters."""
    old = stack.password
    stack.documented("Rotate the password")
    new = stack.password
    assert new != old
    tries = [
        ("trips", "trips", old),
        ("dagster", "dagster", old),
        ("postgres", "trips", new),
        ("trips", "dagster", new),
    ]
    tries += [("trips", "trips", new), ("dagster", "dagster", new)]
    asked = stack.compose("exec", "-T", "code", "python", "-c", ENTER, data=json.dumps(tries))
    *refused, trips, dagster = json.loads(asked.splitlines()[-1])
    assert all("password authentication failed" in each for each in refused[:2]), refused
    assert "pg_hba.conf rejects" in refused[2], refused
    assert "permission denied for database" in refused[3], refused
    assert trips == dagster == "enters", (trips, dagster)
    stack.finish(stack.launch(MONTH))
    return "old password refused, the superuser and foreign databases too; a month loaded with the new one"
