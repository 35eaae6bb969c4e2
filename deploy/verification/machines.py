"""Several machines: a backfill on Celery workers, of which one is lost."""

import json
import time

from verification.stack import COMPOSE, FIRST_MACHINE, SECOND, Stack, run, until

YEAR = [f"2020-{month:02}" for month in range(1, 13)]
REDELIVER_SECONDS = 30
SINKS = ("postgres", "clean months", "objects", "day folders", "warehouse")
BACKFILL = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
ASSETS = "{ assetNodes { assetKey { path } jobNames } }"
HELD = """SELECT {month} m, count(*), round(CAST(sum(total_amount) AS NUMERIC(18, 4)), 2) FROM {trips} GROUP BY m"""
"""A month's rows and their sum of money, in Postgres and in DuckDB."""
EVERYWHERE = """
import duckdb, json
home = "/var/lib/taxi"
warehouse = duckdb.connect(home + "/warehouse.duckdb", read_only=True)
def held(trips):
    query = HELD.format(month="strftime(tpep_pickup_datetime, '%Y-%m')", trips=trips)
    return {month: [rows, str(money)] for month, rows, money in warehouse.sql(query).fetchall()}
def files(pattern): return held(f"read_parquet('{home}/{pattern}', hive_partitioning=false)")
print(json.dumps([files("lake/yellow_clean_trips/*.parquet"), files("bucket/nyc_taxi_data/*.parquet"),
                  files("bucket/nyc_taxi_data/*_by_day/*/*.parquet"), held("ny_taxi.yellow_cab_data")]))
"""
BEGUN = "SELECT count(*) FROM event_logs s WHERE s.event LIKE '%Executing steps%' AND s.event LIKE '%taxi@{host}%'"
"""Steps that the worker on a host took."""
CUT_SHORT = f"""{BEGUN}
  AND EXISTS (SELECT FROM event_logs e WHERE e.run_id = s.run_id AND e.step_key = s.step_key AND e.id > s.id
              AND e.dagster_event_type = 'STEP_START')
  AND NOT EXISTS (SELECT FROM event_logs e WHERE e.run_id = s.run_id AND e.step_key = s.step_key AND e.id > s.id
                  AND e.dagster_event_type IN ('STEP_SUCCESS', 'STEP_FAILURE', 'STEP_UP_FOR_RETRY'))"""
TWICE = """SELECT count(*) FROM (SELECT FROM event_logs WHERE dagster_event_type = 'STEP_START'
  GROUP BY run_id, step_key HAVING count(*) > 1) again"""


def celery(stack: Stack) -> str:
    """A backfill of twelve months, a worker here and one on another machine; the first is killed in the middle of a step."""
    stack.files.append(FIRST_MACHINE)
    stack.profiles.append("scale")
    stack.set(TAXI_EXECUTOR="celery", TAXI_SAMPLE_ROWS="5000", TAXI_CELERY_REDELIVER_SECONDS=str(REDELIVER_SECONDS))
    stack.up("--scale", "worker=1")
    other = second_machine(stack)
    try:
        return backfill(stack, other)
    finally:
        other.compose("down")


def second_machine(stack: Stack) -> Stack:
    """A worker on a machine of its own, which reaches the first one's database, broker and folder and nothing else."""
    (folder := stack.file.parent / "second").mkdir(exist_ok=True)
    other = Stack(folder, SECOND)
    other.files, other.profiles = [COMPOSE, "deploy/verification/machine-2.yml"], ["scale"]
    other.set(
        **{**stack.settings(), "ENV_FILE": str(other.file)},
        TAXI_POSTGRES_URL=f"postgresql://trips:{stack.password}@database.internal:5432/trips",
        DAGSTER_POSTGRES_URL=f"postgresql+psycopg2://dagster:{stack.password}@database.internal:5432/dagster",
        TAXI_CELERY_BROKER="redis://broker.internal:6379/0",
    )
    other.compose("up", "--detach", "--wait", "--no-build", "--no-deps", "--scale", "worker=1", "worker")
    return other


def backfill(stack: Stack, other: Stack) -> str:
    """Ask for the months, lose a worker, and compare every sink when the backfill has ended."""
    assets = [node["assetKey"] for node in stack.ask(ASSETS)["assetNodes"] if "load_month" in node["jobNames"]]
    began = time.monotonic()
    params = {"assetSelection": assets, "partitionNames": [f"{each}-01" for each in YEAR]}
    answer = stack.ask(BACKFILL, p=params)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    tag = [{"key": "dagster/backfill", "value": answer["backfillId"]}]

    def done() -> int:
        return sum(each["status"] == "SUCCESS" for each in stack.runs(tags=tag))

    def ended() -> bool:
        runs = stack.runs(tags=tag)
        return len(runs) >= len(YEAR) and all(each["status"] in ("SUCCESS", "FAILURE") for each in runs)

    until(lambda: done() >= 2, 900, "two months")
    hosts = [host(stack), host(other)]
    kill_in_the_middle(stack, hosts[0])
    at_kill = done()
    until(ended, 2400, "the backfill")
    seconds = time.monotonic() - began
    runs = stack.runs(tags=tag)
    partitions = [tag["value"][:7] for each in runs for tag in each["tags"] if tag["key"] == "dagster/partition"]
    assert sorted(partitions) == YEAR, partitions
    assert {each["status"] for each in runs} == {"SUCCESS"}, [each["status"] for each in runs]
    rows = compare(stack)
    taken = [int(stack.query(BEGUN.format(host=each), "dagster")[0][0]) for each in hosts]
    assert all(taken), taken
    again = int(stack.query(TWICE, "dagster")[0][0])
    assert again >= 1, "no step of the killed worker was done again"
    return (
        f"12 months, {rows:,} rows, the same in {len(SINKS)} places, in {seconds:.0f} s; one of two workers killed after "
        f"{at_kill} months and {taken[0]} steps, {again} begun again by the other machine's, which took {taken[1]}"
    )


def compare(stack: Stack) -> int:
    """Every month's rows and money, the same in every sink; how many rows that is."""
    ours = HELD.format(month="to_char(tpep_pickup_datetime, 'YYYY-MM')", trips="ny_taxi.yellow_cab_data")
    postgres = {month: [int(rows), money] for month, rows, money in stack.query(ours)}
    asked = stack.compose("exec", "-T", "code", "python", "-c", f"HELD = {HELD!r}\n{EVERYWHERE}")
    places = dict(zip(SINKS, [postgres, *json.loads(asked.splitlines()[-1])], strict=True))
    for month in YEAR:
        held = {name: place.get(month) for name, place in places.items()}
        assert postgres.get(month, [0])[0] > 0, (month, held)
        assert all(each == postgres[month] for each in held.values()), (month, held)
    return sum(postgres[month][0] for month in YEAR)


def host(machine: Stack) -> str:
    """The host's name as the machine's worker knows it."""
    return json.loads(run("docker", "inspect", machine.container("worker")))[0]["Config"]["Hostname"]


def kill_in_the_middle(stack: Stack, host: str) -> None:
    """SIGKILL the worker while it is at work on a step, for good."""
    for _ in range(20):
        run("docker", "kill", stack.container("worker"))
        if int(stack.query(CUT_SHORT.format(host=host), "dagster")[0][0]):
            return
        run("docker", "start", stack.container("worker"))
        time.sleep(7)
    raise RuntimeError("the worker was never in the middle of a step when it was killed")
