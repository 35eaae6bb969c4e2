"""`taxi-assets backfill`: load many months, several at a time, heaviest first; run it again to resume.

It has no state of its own: what is loaded is read from the lake and the sinks (`status`), and only missing assets of a month
that was interrupted are loaded again. Workers are processes that load one month after another (`backfill_worker`), so that
each imports Dagster once; they exit with this process, however it ends.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from taxi_assets.assets.guards import Replacing
from taxi_assets.assets.month_status import month_status, run_config
from taxi_assets.automation.housekeeping import end_dead_runs
from taxi_assets.cli.backfill_report import Report, Task, summarize
from taxi_assets.cli.backfill_worker import Worker
from taxi_assets.cli.interrupts import Interrupts
from taxi_assets.cli.sinks import failed_load, require_sinks
from taxi_assets.core import run_tags
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.locks import file_lock
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.definitions import build_defs
from taxi_assets.resources import resources
from taxi_assets.settings import Settings
from taxi_assets.status.decide import Decision, State, count, ranges
from taxi_assets.status.months import MonthStatus
from taxi_assets.status.probing import ProbeResults, probe_months

PROBE_SECONDS = 600.0
LOCK_SECONDS = 60.0
"""How long to wait for the workers of an interrupted backfill; they exit at once."""
ATTEMPTS = 2
"""How often a month is tried whose worker was killed. A month that failed has been retried by its steps already."""

MILLION_ROWS = {
    2009: 14.2, 2010: 14.1, 2011: 14.7, 2012: 14.9, 2013: 14.4, 2014: 13.8, 2015: 12.2, 2016: 10.9, 2017: 9.5,
    2018: 8.6, 2019: 7.0, 2020: 2.1, 2021: 2.6, 2022: 3.3, 2023: 3.2, 2024: 3.4, 2025: 3.9,
}  # fmt: skip
"""Yellow rows of an average month by year: the weight of months whose size the publisher does not report."""


def backfill(
    settings: Settings,
    kind: TaxiKind,
    months: Sequence[Month],
    jobs: int,
    interrupts: Interrupts,
    replacing: Replacing,
    *,
    again: bool,
) -> int:
    """Load the months with `jobs` workers and return the exit code: 0 success, 1 failure, 130 interrupted.

    `again` reloads months that are up to date, too; `replacing` is what may be replaced.

    Raises:
        PermanentError: another backfill is running in the same TAXI_HOME, or the publisher or a sink cannot be reached.
    """
    with backfill_lock(settings.home_folder) as lock, dg.DagsterInstance.get() as instance, ExitStack() as stack:
        end_dead_runs(instance, print)
        records, results = stack.enter_context(examine(settings, kind, months, instance))
        if results.error and not results.published:
            raise PermanentError(results.error)
        if results.error:
            print(f"{results.error} Months that could not be checked are tried anyway.")
        decisions = records.decide(results.published, records.read(months))
        tasks = plan(decisions, results, again=again)
        report = Report(len(tasks), sum(task.weight for task in tasks))
        interrupted = False
        if tasks:
            log = settings.home_folder / "backfill.log"
            with interrupts.paused():  # the first Ctrl-C lets months finish
                workers = [Worker(kind, lock, log) for _ in range(min(jobs, len(tasks)))]
                tags = {run_tags.BACKFILL: uuid.uuid4().hex[:8]}
                print(f"The runs have the tag {run_tags.BACKFILL}={tags[run_tags.BACKFILL]}.")
                interrupted = _Loading(kind, replacing, tags, records, instance).load(tasks, workers, report)
        other_runs = [decision.month for decision in decisions if decision.state is State.RUNNING]
        return summarize(report, other_runs, interrupted=interrupted)


@contextmanager
def examine(
    settings: Settings, kind: TaxiKind, months: Sequence[Month], instance: dg.DagsterInstance, *, quiet: bool = False
) -> Generator[tuple[MonthStatus, ProbeResults]]:
    """Yield the reader of what is recorded about months, and what the source publishes of them.

    Raises:
        PermanentError: a sink cannot be reached; the source was not asked.
    """
    require_sinks(settings, kind, months[0])
    graph = build_defs(settings).get_repository_def().asset_graph
    if not quiet:
        print(f"Checking {count(len(months))} at the source ...", flush=True)
    with dg.build_resources(resources(settings), instance) as opened:
        results = probe_months(opened.publisher.open(), kind, months, PROBE_SECONDS, max_errors=3)
        yield month_status(instance, graph, kind, settings, opened), results


@contextmanager
def backfill_lock(home: Path) -> Generator[int, None, None]:
    """Hold the lock of a backfill in this home; yield its file descriptor, which workers hold, too.

    Raises:
        PermanentError: another backfill, or a worker of one, holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = home / "backfill.lock"

    def refuse_second() -> None:
        holder = path.read_text().strip()
        if holder and not run_tags.is_gone(holder):
            raise PermanentError(
                f"Another backfill is already running (process {holder.split()[-2]}); wait for it, or interrupt it."
            )

    def waiting() -> None:
        refuse_second()
        print("Waiting for the workers of an interrupted backfill to exit ...", flush=True)

    with ExitStack() as stack:
        try:
            lock = stack.enter_context(file_lock(path, LOCK_SECONDS, waiting))
        except TimeoutError:
            refuse_second()
            raise PermanentError(
                f"The workers of an interrupted backfill are still running after {LOCK_SECONDS:.0f} s; terminate them "
                "(`python -m taxi_assets.cli.backfill_worker`), then run the command again."
            ) from None
        lock.truncate(0)
        lock.write(run_tags.this_process())
        lock.flush()
        yield lock.fileno()


def plan(decisions: Sequence[Decision], results: ProbeResults, *, again: bool) -> list[Task]:
    """Return the months to load, heaviest first; print what is skipped and what is loaded, with the reasons."""
    selected: list[Decision] = []
    reasons: dict[str, dict[str, list[Month]]] = {"skipped": {}, "to load": {}}
    for decision in decisions:
        month, reason, title = decision.month, decision.reason, "to load"
        if decision.state is State.CURRENT and again:
            reason = "reloading (--again)"
            decision = Decision(month, State.CURRENT, reason)
        elif decision.state is State.RUNNING:
            title, reason = "skipped", "being loaded by another run"
        elif decision.state in (State.CURRENT, State.UNPUBLISHED) and month in results.published:
            title = "skipped"
        reasons[title].setdefault(reason, []).append(month)
        if title == "to load":
            selected.append(decision)
    for title, groups in reasons.items():
        for reason, months in groups.items():
            print(f"  {title}: {ranges(months)}: {reason}")
    published = {decision.month: results.published.get(decision.month) for decision in selected}
    weights = {month: float(each.size or 0) if each else 0.0 for month, each in published.items()}
    if not all(weights.values()):
        weights = {month: MILLION_ROWS.get(month.year, MILLION_ROWS[max(MILLION_ROWS)]) for month in weights}
    tasks = [Task(d, weights[d.month], results.version(d.month), published[d.month]) for d in selected]
    return sorted(tasks, key=lambda task: (-task.weight, task.month))


@dataclass
class _Loading:
    """Loads months in workers. `tags` are those of every run, `stop` is set when no other month may begin."""

    kind: TaxiKind
    replacing: Replacing
    tags: Mapping[str, str]
    records: MonthStatus
    instance: dg.DagsterInstance
    stop: threading.Event = field(default_factory=threading.Event)

    def load(self, tasks: list[Task], workers: list[Worker], report: Report) -> bool:
        """Load the tasks; return whether it was interrupted. The first Ctrl-C lets the months in progress finish."""
        waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        finished: list[Worker] = []

        def work(worker: Worker) -> None:
            try:
                while not self.stop.is_set():
                    task = waiting.get_nowait()
                    if result := self._load_month(task, worker):
                        report.add(task, result)
            except queue.Empty:
                pass
            finally:
                finished.append(worker)

        for worker in workers:
            threading.Thread(target=work, args=(worker,), daemon=True).start()
        try:
            while len(finished) < len(workers):
                try:
                    time.sleep(0.1)  # Thread.join would take a thread for ended if Ctrl-C came meanwhile (Python 3.11)
                except KeyboardInterrupt:
                    if self.stop.is_set():
                        break
                    self.stop.set()
                    print("\nFinishing the months in progress; press Ctrl-C again to abort them.", flush=True)
        finally:
            for worker in workers:
                worker.end()
        if self.stop.is_set():
            end_dead_runs(self.instance, print)
        return self.stop.is_set()

    def _load_month(self, task: Task, worker: Worker) -> dict[str, Any] | None:
        """Load a month and return its result; None if the backfill was aborted. If the worker is killed, resume it once."""
        month, assets, records = task.month, task.decision.assets, self.records
        tags = {**self.tags, **({run_tags.SOURCE_VERSION: task.version} if task.version else {})}
        for attempt in range(ATTEMPTS):
            resume_tags = records.history.resume_tags(month) if assets or attempt else {}
            config = run_config(self.kind, dataclasses.replace(task.decision, assets=assets), self.replacing)
            result = worker.load(month, assets, {**tags, **resume_tags}, config)
            if result is not None:
                if result["failures"]:
                    result["outcome"] = failed_load(records, month, changed=result["changed"])
                return result
            if self.stop.is_set():
                return None
            end_dead_runs(self.instance, lambda _: None)
            worker.end()
            worker.start()
            (decision,) = records.decide({month: task.published}, records.read([month]))
            if decision.state is State.CURRENT:
                assets = frozenset(records.assets.derived)  # all of it is loaded; the run only has to succeed
            elif decision.state is State.UNFINISHED:
                assets = decision.assets
        return {
            "failures": [f"{month}: its worker exited {ATTEMPTS} times (killed, out of memory?); see backfill.log."],
            "outcome": failed_load(records, month, changed=True),
        }
