"""What was measured as tables: on the terminal, and in docs/performance.md, which follows from recorded.json alone."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Case, Sample, summary
from benchmarks.targets import API_TO_POSTGRES_FLOORS, GRAPH_FLOORS, TARGETS, bounds, values
from benchmarks.workspace import ROWS

RECORDED = Path(__file__).with_name("recorded.json")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"

FLOOR_OF = {
    "api_to_postgres": API_TO_POSTGRES_FLOORS,
    "library_api_to_postgres": API_TO_POSTGRES_FLOORS,
    "sink_postgres": ("floor_copy",),
    "sink_parquet_object": ("floor_copy_bytes",),
    "sink_day_folders": ("floor_day_folders",),
    "sink_warehouse": ("floor_duckdb",),
    "graph": GRAPH_FLOORS,
    "mage_api_to_postgres": API_TO_POSTGRES_FLOORS,
    "dlt_api_to_postgres": API_TO_POSTGRES_FLOORS,
    "pandas_api_to_postgres": API_TO_POSTGRES_FLOORS,
    "mage_three_pipelines": GRAPH_FLOORS,
}
"""The floors that a case's work is made of, for the column `over its floors`."""


def recorded() -> dict[str, Any]:
    """What was recorded last, by section; empty when nothing was."""
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else {}


def record(name: str, section: Mapping[str, Any]) -> None:
    """Keep a section and write the page anew."""
    RECORDED.write_text(json.dumps({**recorded(), name: section}, indent=1) + "\n")
    PAGE.write_text(rendered(PAGE.read_text(), recorded()))


def rendered(page: str, sections: Mapping[str, Any]) -> str:
    """The page with what is between `<!-- name -->` and `<!-- end -->` written anew."""

    def section(match: re.Match[str]) -> str:
        found = sections.get(match[1])
        body = SECTIONS[match[1]](found) if found else "Not recorded yet."
        return f"<!-- {match[1]} -->\n{body}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", section, page, flags=re.DOTALL)


def machine() -> dict[str, str]:
    """Where and when: processor, cores, memory, system, Python, date."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        processor = names[0] if names else processor
    import psutil

    return {
        "machine": f"{os.cpu_count()} cores, {processor}, {psutil.virtual_memory().total / 1e9:.0f} GB memory",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "date": dt.date.today().isoformat(),
    }


def main_section(samples: Mapping[str, Sequence[Sample]], cases: Sequence[Case], rows: int) -> dict[str, Any]:
    """The main run as it is recorded."""
    measured = [case for case in cases if samples.get(case.name)]
    repeat = max((len(of) for of in samples.values()), default=0)
    return {
        **machine(),
        "rows": rows,
        "repeat": repeat,
        "cases": {case.name: {"what": case.what, **summary(samples[case.name])} for case in measured},
        "ratios": values(samples),
        "bounds": bounds(samples),
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded, so that it also reads well on a terminal."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def main_table(section: Mapping[str, Any]) -> str:
    """Every case, then every target."""
    cases, ratios, best = section["cases"], section["ratios"], section["bounds"]

    def over(name: str) -> str:
        floors = FLOOR_OF.get(name, ())
        if not floors or any(floor not in cases for floor in floors):
            return ""
        return f"{cases[name]['median'] / sum(cases[floor]['median'] for floor in floors):.2f}"

    lines = [
        (
            f"`{name}`",
            case["what"],
            f"{case['median']:.2f}",
            f"{case['least']:.2f}-{case['most']:.2f}",
            f"{case['cpu']:.2f}",
            f"{case['peak']:.0f}",
            over(name),
        )
        for name, case in cases.items()
    ]
    promises = [
        (
            target.name,
            target.what,
            f"{'≥' if target.least else '≤'} {target.limit:g}{target.unit}",
            f"{ratios[target.name]:.2f}{target.unit}" if target.name in ratios else "not measured",
            ("yes" if target.met(ratios[target.name]) else "**no**") if target.name in ratios else "",
            f"{best[target.name]:.2f}{target.unit}" if target.name in best else "",
        )
        for target in TARGETS
    ]
    return (
        f"{_where(section)} {section['rows']:,} rows, median of {section['repeat']}.\n\n"
        + table(("target", "what is compared", "promised", "measured", "kept", "at best"), promises)
        + "\n\n"
        + table(("case", "what it is", "s", "min-max", "CPU s", "peak MB", "over its floors"), lines)
    )


def scale_table(section: Mapping[str, Any]) -> str:
    """Time per row and peak, by rows and case."""
    lines = [
        (
            f"`{line['case']}`",
            f"{line['rows']:,}",
            f"{line['seconds']:.2f}",
            f"{1e6 * line['seconds'] / line['rows']:.2f}",
            f"{line['peak']:.0f}",
        )
        for line in section["lines"]
    ]
    return (
        f"{_where(section)}\n\n"
        + table(("case", "rows", "s", "µs a row", "peak MB"), lines)
        + "\n\n"
        + table(("case", "from rows", "to rows", "peak, times (promised: at most 1.1)"), growth(section["lines"]))
    )


def high_volume_table(section: Mapping[str, Any]) -> str:
    """Time per row and column, and peak, of both months; and the ratios that are promised."""
    lines, ratios = [], []
    per_value: dict[tuple[str, str], float] = {}
    peaks: dict[tuple[str, str], float] = {}
    for line in section["lines"]:
        at = line["where"], line["case"]
        per_value[at] = 1e9 * line["seconds"] / line["rows"] / line["columns"]
        peaks[at] = line["peak"]
        figures = (f"{line['rows']:,}", str(line["columns"]), f"{line['seconds']:.1f}", f"{per_value[at]:.0f}")
        lines.append((f"`{line['case']}`", line["where"], *figures, f"{line['peak']:.0f}"))
    for where in dict.fromkeys(line["where"] for line in section["lines"]):
        yellow, high = (where, "yellow"), (where, "fhvhv")
        ratios.append((where, f"{peaks[high] / peaks[yellow]:.2f}", f"{per_value[high] / per_value[yellow]:.2f}"))
    return (
        f"{_where(section)}\n\n"
        + table(("dataset", "where", "rows", "columns", "s", "ns a row and column", "peak MB"), lines)
        + "\n\n"
        + table(
            ("where", "peak, times yellow's (promised: 1.1)", "time a row and column, times yellow's (promised: 1.2)"),
            ratios,
        )
    )


def zone_ids_table(section: Mapping[str, Any]) -> str:
    """Points a second, and how they agree with ray casting, by area."""
    lines = [
        (
            line["area"],
            f"{line['points']:,}",
            f"{line['inside']:,}",
            f"{line['points'] / line['seconds'] / 1e6:.1f}",
            f"{100 - 100 * line['differing'] / line['points']:.4f} %",
            f"{line['differing']}, {line['on_borders']}",
        )
        for line in section["lines"]
    ]
    head = ("points in", "points", "in a zone", "million a second", "agree", "others, of them on borders")
    return f"{_where(section)} The index is made in {section['seconds_to_start']:.2f} s.\n\n{table(head, lines)}"


def exports_table(section: Mapping[str, Any]) -> str:
    """Processor time of each form of a CSV, and times that of the published one."""
    lines = [(line["form"], f"{line['seconds']:.2f}", f"{line['times']:.2f}") for line in section["lines"]]
    head = ("written", "processor s", "times the published file's (promised: at most 1.5)")
    return f"{_where(section)} {section['rows']:,} rows.\n\n{table(head, lines)}"


def growth(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """For each case how many times the peak at the usual month's rows its peak at the most rows is."""
    peaks: dict[str, dict[int, float]] = {}
    for line in lines:
        peaks.setdefault(line["case"], {})[line["rows"]] = line["peak"]
    return [
        (f"`{case}`", f"{ROWS:,}", f"{max(of):,}", f"{of[max(of)] / of[ROWS]:.2f}")
        for case, of in peaks.items()
        if ROWS in of
    ]


def backfill_table(section: Mapping[str, Any]) -> str:
    """Months by one worker and by two, and what Dagster costs a month."""
    lines = [
        (
            str(line["jobs"]),
            str(line["months"]),
            *(f"{line[name]:.{n}f}" for name, n in (("seconds", 1), ("peak", 0), ("cores", 2))),
        )
        for line in section["lines"]
    ]
    return (
        f"{_where(section)} {section['rows']:,} rows a month.\n\n"
        + table(("workers", "months", "s", "peak MB", "cores busy"), lines)
        + f"\n\nTwo workers load {section['gain']:.2f} times as many months a second as one, start-up left out (promised: at "
        f"least 1.7). One worker takes {section['month']:.2f} s a month; Dagster's share of it, measured with the no-op graph "
        f"in a process that is already up, is {section['orchestration']:.2f} s."
    )


def _where(section: Mapping[str, Any]) -> str:
    return f"{section['date']}; {section['machine']}; {section['system']}."


SECTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "main": main_table,
    "scale": scale_table,
    "high_volume": high_volume_table,
    "backfill": backfill_table,
    "zone_ids": zone_ids_table,
    "exports": exports_table,
}
