"""The benchmarks' arithmetic and tables. Nothing here is timed."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.backfill import month_seconds
from benchmarks.measure import Case, CaseFailed, Sample, interleave, run, summary
from benchmarks.targets import TARGETS, bounds, regressions, values
from benchmarks.workspace import ROWS

REPOSITORY = Path(report.__file__).resolve().parent.parent
TARGET = {target.name: target for target in TARGETS}


def seconds(*measured: float) -> list[Sample]:
    return [Sample(second, second, 100.0) for second in measured]


def python(name: str, code: str, *, inside: bool = False) -> Case:
    return Case(name, "", (sys.executable, "-c", code), inside)


def test_a_summary_is_median_spread_and_highest_peak() -> None:
    told = summary([Sample(3, 1, 90), Sample(1, 2, 120), Sample(2, 9, 100)])
    assert told == {"median": 2, "least": 1, "most": 3, "cpu": 2, "peak": 120}


def test_a_ratio_is_taken_in_each_round_so_that_a_slow_round_cancels_out() -> None:
    samples = {"mage_api_to_postgres": seconds(20, 200, 21), "api_to_postgres": seconds(4, 40, 4)}
    assert values(samples) == {"faster than Mage, API to Postgres": 5.0}


def test_what_bounds_a_target_is_its_floors_and_the_no_op_graph_in_place_of_ours() -> None:
    target = TARGET["faster than Mage, API to Postgres"]
    assert target.at_best is not None
    floors = target.at_best[1]
    samples = {name: seconds(1, 2) for name in floors} | {"mage_api_to_postgres": seconds(30, 60)}
    assert bounds(samples)[target.name] == pytest.approx(30 / len(floors))
    assert bounds(samples | {"noop_graph": []}).get(target.name) is None


def test_floors_are_added_up_and_a_missing_one_leaves_the_target_out() -> None:
    target = TARGET["API to Postgres without Dagster, over its floors"]
    samples = {name: seconds(1, 1) for name in target.bottom} | {"library_api_to_postgres": seconds(7, 8)}
    assert target.value(samples) == pytest.approx(7.5 / len(target.bottom))
    del samples[target.bottom[0]]
    assert target.value(samples) is None


def test_the_package_s_import_is_a_difference_and_the_checks_a_share_of_the_same_run() -> None:
    samples = {
        "import_package": seconds(1.4),
        "import_dagster": seconds(1.0),
        "graph": [Sample(10, 10, 100.0, {"checks": 1.0})],
    }
    assert values(samples) == {"added to import dagster": 0.4, "share of the checks": 0.1}


@pytest.mark.parametrize(
    ("name", "better", "limit", "worse"),
    [("faster than dlt, API to Postgres", 1.3, 1.2, 1.1), ("share of the checks", 0.05, 0.1, 0.2)],
)
def test_a_target_is_met_on_its_limit_and_on_its_better_side(
    name: str, better: float, limit: float, worse: float
) -> None:
    assert [TARGET[name].met(value) for value in (better, limit, worse)] == [True, True, False]


def test_only_what_is_worse_by_more_than_a_quarter_is_a_regression() -> None:
    recorded = {"faster than dlt, API to Postgres": 2.0, "Postgres sink over the pre-encoded COPY": 1.0}
    assert regressions({**recorded}, recorded) == []
    assert regressions({name: 1.2 * value for name, value in recorded.items()}, recorded) == []
    assert len(regressions({"faster than dlt, API to Postgres": 1.4}, recorded)) == 1
    assert len(regressions({"Postgres sink over the pre-encoded COPY": 1.3}, recorded)) == 1
    assert regressions({"Postgres sink over the pre-encoded COPY": 0.5}, recorded) == []


def test_a_month_of_a_backfill_is_what_the_further_months_took() -> None:
    taken = {(1, 1): 12.0, (1, 12): 67.0, (2, 2): 13.0, (2, 12): 43.0}
    assert (month_seconds(taken, 1), month_seconds(taken, 2)) == (5.0, 3.0)


def test_a_case_tells_its_own_seconds_and_its_memory_is_its_own(tmp_path: Path) -> None:
    code = "import json; kept = b'x' * 150_000_000; print('BENCH ' + json.dumps({'seconds': 0.5, 'cpu': 0.25}))"
    sleep = "; import time; time.sleep(0.3)"
    large = run(python("large", code + sleep, inside=True), {}, tmp_path)
    small = run(python("small", "import time; time.sleep(0.3)"), {}, tmp_path)
    assert (large.seconds, large.cpu) == (0.5, 0.25)
    assert 150 < large.peak < 250
    assert 1 < small.peak < 60  # plus the memory of this process


def test_the_memory_of_children_counts(tmp_path: Path) -> None:
    child = "import time; kept = b'x' * 100_000_000; time.sleep(1)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert run(python("parent", code), {}, tmp_path).peak > 100


def test_a_case_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(CaseFailed, match=r"broken ended with 1:[\s\S]*no such month"):
        run(python("broken", "raise SystemExit('no such month')"), {}, tmp_path)


def test_every_other_round_runs_backwards() -> None:
    ran: list[str] = []

    def once(case: Case) -> Sample:
        ran.append(case.name)
        return Sample(1, 1, 1)

    samples = interleave([python(name, "") for name in "ab"], 2, once, lambda _: None)
    assert ran == ["a", "b", "a", "b", "b", "a"]
    assert {name: len(of) for name, of in samples.items()} == {"a": 2, "b": 2}


def test_every_case_that_a_target_names_exists() -> None:
    from benchmarks import floors, ours
    from benchmarks.peers.cases import PEERS

    known = {case.name for case in (*floors.CASES, *ours.CASES)} | PEERS.keys()
    named = {name.partition(".")[0] for target in TARGETS for name in (*target.top, *target.bottom)}
    named |= {name for case, of in report.FLOOR_OF.items() for name in (case, *of)}
    assert named <= known


def test_the_page_shows_what_is_recorded() -> None:
    page = report.PAGE.read_text()
    assert report.rendered(page, report.recorded()) == page, "run: make bench-record"


def test_a_recorded_run_is_rendered_with_promises_and_cases() -> None:
    samples = {"mage_api_to_postgres": seconds(20), "api_to_postgres": seconds(5)}
    cases = [Case("api_to_postgres", "ours", ()), Case("mage_api_to_postgres", "theirs", ())]
    text = report.main_table(report.main_section(samples, cases, 1000))
    promise = next(line for line in text.splitlines() if "faster than Mage, API" in line)
    assert "≥ 5x" in promise
    assert "4.00x" in promise
    assert "**no**" in promise
    assert "| `api_to_postgres`" in text


def test_the_no_op_graph_has_the_shape_of_ours() -> None:
    code = """if True:
        import importlib
        import dagster as dg
        from benchmarks.launch import subset
        from benchmarks.ours import SIX

        def steps(module):
            job = importlib.import_module(module).defs.resolve_job_def("load_month")
            job = subset(job, {dg.AssetKey(name) for name in SIX.split(",")})
            graph = job.asset_layer.asset_graph
            return len(graph.asset_check_keys), len(job.nodes), graph.executable_asset_keys

        ours, noop = steps("taxi_assets.definitions"), steps("benchmarks.noop_graph")
        assert ours == noop, (ours, noop)
        assert ours[:2] == (11, 12), ours
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_growth_is_the_peak_at_the_most_rows_over_that_at_the_usual_month_s() -> None:
    lines = [
        {"case": "graph", "rows": rows, "peak": peak}
        for rows, peak in ((100_000, 300), (ROWS, 400), (5_000_000, 430), (15_000_000, 420))
    ]
    assert report.growth([*lines, {"case": "sink", "rows": 100_000, "peak": 1}]) == [
        ("`graph`", f"{ROWS:,}", "15,000,000", "1.05")
    ]
