"""A backfill's order, lines and summary."""

from taxi_assets.cli.backfill import plan
from taxi_assets.cli.backfill_report import Report, Task, summarize
from taxi_assets.core.month import Month
from taxi_assets.publisher.published import Published
from taxi_assets.status.decide import Decision, State
from taxi_assets.status.probing import ProbeResults


def missing(*months: str) -> list[Decision]:
    return [Decision(Month.parse(month), State.MISSING, "") for month in months]


def order(*months: str, sizes: dict[str, int | None] | None = None) -> list[str]:
    published = {Month.parse(m): Published(m, None, size, None) for m, size in (sizes or {}).items()}
    return [str(task.month) for task in plan(missing(*months), ProbeResults(published), again=False)]


def test_the_heaviest_month_goes_first_by_size_where_every_size_is_known():
    sizes = {"2021-01": 5, "2021-02": 50, "2021-03": 20}
    assert order(*sizes, sizes=sizes) == ["2021-02", "2021-03", "2021-01"]


def test_without_sizes_the_years_of_many_trips_go_first():
    assert order("2020-05", "2014-01", "2019-01", "2031-01", sizes={"2020-05": 99, "2014-01": None}) == [
        "2014-01", "2019-01", "2031-01", "2020-05"]  # fmt: skip


def report(**failures: str) -> Report:
    result = Report(3, 30.0)
    for decision in missing("2021-01", "2021-02", "2021-03"):
        name = str(decision.month).replace("-", "_")
        failed = [failures[f"m{name}"]] if f"m{name}" in failures else []
        outcome = {"rows": 1234, "seconds": 2.5, "failures": failed, "outcome": "was not loaded"}
        result.add(Task(decision, 10.0, "v1"), outcome)
    return result


def test_each_month_is_a_line_and_the_last_one_has_no_time_left(capsys):
    report()
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("[1/3] 2021-01 loaded        1,234 rows     2.5 s, about ")
    assert second.startswith("[2/3] 2021-02 loaded")
    assert "remaining" not in third


def test_a_failure_is_named_in_the_summary_and_makes_the_exit_code(capsys):
    code = summarize(report(m2021_02="raw_trips: 2021-02: the file is damaged."), [], interrupted=False)
    assert code == 1
    out = capsys.readouterr().out
    assert "loaded      2 months in 0 s, 2,468 clean rows" in out
    assert "months      2021-01, 2021-03" in out
    assert "failed      1 month:" in out
    assert "2021-02  It was not loaded. raw_trips: 2021-02: the file is damaged." in out


def test_the_exit_code_of_loaded_running_elsewhere_interrupted_and_remaining_months(capsys):
    assert summarize(report(), [], interrupted=False) == 0
    assert summarize(report(), [Month(2020, 1)], interrupted=False) == 1
    assert summarize(Report(2, 1.0), [], interrupted=True) == 130
    assert summarize(Report(2, 1.0), [], interrupted=False) == 1
    assert summarize(Report(0, 0.0), [], interrupted=False) == 0
    assert "nothing to do" in capsys.readouterr().out
