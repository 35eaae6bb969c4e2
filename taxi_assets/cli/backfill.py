"""`make backfill`: many months, some at a time, heaviest first; interrupted anywhere and resumed by the same command.

What is loaded is read from the instance, so there is no state of its own: a month counts as done when every asset of it is
materialized from the published version by the present code with its checks passed. Of a month that was cut short only
what is missing is done again. Workers are processes that load one month after another (`worker`), so that Dagster
is imported once each; they end with this process, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING

from taxi_assets.cli.backfill_report import Report, Task, summarize
from taxi_assets.cli.backfill_worker import Worker
from taxi_assets.core import run_tags
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.settings import get_settings
from taxi_assets.status.decide import Judgement, State, judge, ranges

if TYPE_CHECKING:
    import dagster as dg

    from taxi_assets.status.month_records import MonthRecords

STARTER = "make backfill"
PROBE_SECONDS = 600.0
WAIT_SECONDS = 60.0
"""How long the workers of an interrupted backfill are waited for; they end at once, in the middle of what they do."""
ATTEMPTS = 2
"""Times a month is tried whose worker was killed. A month that failed by itself has had its retries in its steps."""

MILLION_ROWS = {
    2009: 14.2, 2010: 14.1, 2011: 14.7, 2012: 14.9, 2013: 14.4, 2014: 13.8, 2015: 12.2, 2016: 10.9, 2017: 9.5,
    2018: 8.6, 2019: 7.0, 2020: 2.1, 2021: 2.6, 2022: 3.3, 2023: 3.2, 2024: 3.4, 2025: 3.9,
}  # fmt: skip
"""Yellow rows of an average month by year: how heavy a month is where its publisher does not tell the size."""


def backfill(kind: TaxiKind, months: Sequence[Month], jobs: int, *, again: bool = False) -> int:
    """Load the months with `jobs` workers and return the exit code: 0 done, 1 some failed, 130 interrupted.

    `again` loads also what is up to date. Raises PermanentError when another backfill works in the same home.
    """
    with _alone() as lock:
        import dagster as dg

        from taxi_assets.automation.housekeeping import end_dead_runs, make_storage
        from taxi_assets.definitions import defs
        from taxi_assets.status.month_records import MonthRecords

        with dg.DagsterInstance.get() as instance:
            make_storage(instance)  # before the workers come
            end_dead_runs(instance, print)
            assets = defs.get_repository_def().asset_graph
            records = MonthRecords(instance, assets, kind, get_settings().new_columns)
            tasks, elsewhere = plan(kind, months, records, again=again)
            report = Report(len(tasks), sum(task.weight for task in tasks))
            interrupted = False
            if tasks:
                interrupted = _work(kind, tasks, min(jobs, len(tasks)), lock, records, instance, report)
        return summarize(report, elsewhere, interrupted=interrupted)


@contextlib.contextmanager
def _alone() -> Generator[int, None, None]:
    """Hold the home's backfill lock, which workers hold too; its file descriptor.

    Raises:
        PermanentError: another backfill, or a worker of one, has it.
    """
    home = get_settings().home_folder
    home.mkdir(parents=True, exist_ok=True)
    with (home / "backfill.lock").open("a+") as lock:
        deadline, told = time.monotonic() + WAIT_SECONDS, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip()
                if holder and not run_tags.is_gone(holder):
                    raise PermanentError(
                        f"Another backfill is at work here (process {holder.split()[-2]}); let it finish or interrupt it."
                    ) from None
                if time.monotonic() > deadline:
                    raise PermanentError(
                        f"The workers of an interrupted backfill have not ended in {WAIT_SECONDS:.0f} s; end them (they "
                        "are `python -m taxi_assets.cli.backfill_worker`), then run the command again."
                    ) from None
            if not told:
                print("Waiting for the workers of an interrupted backfill to end ...", flush=True)
                told = True
            time.sleep(0.2)
        lock.truncate(0)
        lock.write(run_tags.this_process())
        lock.flush()
        yield lock.fileno()


def plan(
    kind: TaxiKind, months: Sequence[Month], records: MonthRecords, *, again: bool
) -> tuple[list[Task], list[Month]]:
    """What to load, heaviest first, and the months that other runs are loading; prints what is skipped and why."""
    from taxi_assets.resources import resources
    from taxi_assets.status.probing import ask

    print(f"Asking the publisher for {len(months)} months of {kind.name} trips ...", flush=True)
    source = resources(get_settings())["publisher"].open()
    answers = ask(source, kind, months, PROBE_SECONDS, refusals=3)
    if answers.trouble and not answers.published:
        raise PermanentError(answers.trouble)
    if answers.trouble:
        print(f"{answers.trouble} The months it did not answer for are tried all the same.")
    known = records.read(months)
    judged = [
        judge(m, answers.published.get(m), known[m], records.graph, records.code, asked=m in answers.published)
        for m in months
    ]
    wanted, skipped = [], []
    for judgement in judged:
        done = judgement.state in (State.CURRENT, State.RUNNING, State.UNPUBLISHED)
        if again and judgement.state is State.CURRENT:
            wanted.append(Judgement(judgement.month, State.CURRENT, "asked for again"))
        elif (done and judgement.month in answers.published) or judgement.state is State.RUNNING:
            skipped.append(judgement)
        else:
            wanted.append(judgement)
    for line in _by_reason(skipped):
        print(f"  skipped: {line}")
    for line in _by_reason(wanted):
        print(f"  to load: {line}")
    sizes = {month: published.size if published else None for month, published in answers.published.items()}
    tasks = [Task(j, weight, answers.version(j.month)) for j, weight in weighed(wanted, sizes)]
    return tasks, [judgement.month for judgement in skipped if judgement.state is State.RUNNING]


def weighed(wanted: Iterable[Judgement], sizes: dict[Month, int | None]) -> list[tuple[Judgement, float]]:
    """The months with their weights, heaviest first; by size where every size is known, else by the year's average."""
    judged = list(wanted)
    known = [sizes.get(j.month) for j in judged]
    latest = MILLION_ROWS[max(MILLION_ROWS)]
    by_size = all(known) and known
    weights = known if by_size else [MILLION_ROWS.get(j.month.year, latest) for j in judged]
    pairs = [(j, float(weight or 0)) for j, weight in zip(judged, weights, strict=True)]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0].month))


def _by_reason(judged: Iterable[Judgement]) -> list[str]:
    groups: dict[str, list[Month]] = {}
    for judgement in judged:
        reason = "being loaded by another run" if judgement.state is State.RUNNING else judgement.reason
        groups.setdefault(reason, []).append(judgement.month)
    return [f"{ranges(months)}: {reason}." for reason, months in groups.items()]


def _work(
    kind: TaxiKind,
    tasks: list[Task],
    jobs: int,
    lock: int,
    records: MonthRecords,
    instance: dg.DagsterInstance,
    report: Report,
) -> bool:
    """Load the tasks; whether it was interrupted. The first Ctrl-C lets the months under way finish, the second not."""
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    stop = threading.Event()
    workers = [Worker(lock) for _ in range(jobs)]
    done: list[Worker] = []

    def attend(worker: Worker) -> None:
        try:
            _attend(worker, waiting, stop, kind, records, instance, report)
        finally:
            done.append(worker)

    for worker in workers:
        threading.Thread(target=attend, args=(worker,), daemon=True).start()
    try:
        while len(done) < len(workers):
            try:
                time.sleep(0.1)  # Thread.join takes a thread for ended when Ctrl-C comes while it waits (Python 3.11)
            except KeyboardInterrupt:
                if stop.is_set():
                    break
                stop.set()
                print("\nFinishing the months under way; press Ctrl-C again to leave them unfinished.", flush=True)
    finally:
        for worker in workers:
            worker.end()
    if stop.is_set():
        from taxi_assets.automation.housekeeping import end_dead_runs

        end_dead_runs(instance, print)
    return stop.is_set()


def _attend(
    worker: Worker,
    waiting: queue.SimpleQueue[Task],
    stop: threading.Event,
    kind: TaxiKind,
    records: MonthRecords,
    instance: dg.DagsterInstance,
    report: Report,
) -> None:
    """Give a worker one month after another. A month whose worker was killed is tried once more, from where it was."""
    from taxi_assets.automation.housekeeping import end_dead_runs
    from taxi_assets.status.decide import unfinished

    while not stop.is_set():
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            return
        assets = task.judgement.assets
        for attempt in range(1, ATTEMPTS + 1):
            begun = records.going_on(task.month) if assets or attempt > 1 else {}
            answer = worker.load(kind, task.month, records.part(assets) if assets else None, task.version, begun)
            if answer is not None:
                break
            if stop.is_set():
                return
            end_dead_runs(instance, lambda _: None)
            worker.restart()
            answer = {"failures": [f"{task.month}: its worker was killed {attempt} times (out of memory?)."]}
            known = records.read([task.month])[task.month]
            left = unfinished(records.graph, known.made, records.code, known.outdated)
            assets = frozenset(left) if left and task.judgement.state is not State.CHANGED else assets
        report.add(task, answer)


def months_between(first: Month, last: Month) -> list[Month]:
    """Both ends included.

    Raises:
        PermanentError: they are the wrong way round.
    """
    if last < first:
        raise PermanentError(f"{first} is after {last}; write the earlier month first.")
    months = [first]
    while months[-1] < last:
        months.append(months[-1].next)
    return months


def default_jobs() -> int:
    """Workers without JOBS: half the processors, at least one; a month keeps more than one busy at times."""
    return max((os.cpu_count() or 2) // 2, 1)
