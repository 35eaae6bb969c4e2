"""The warning about a month of which many rows are rejected; it does not stop the load."""

from __future__ import annotations

from taxi_assets.assets.month_check import CAUSES, MonthCheck, Problems
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.datasets.rules import RULES, CleaningRules, Rule
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import op_name

WARN_SHARE = 0.15
"""Share of a month's rows that may be rejected without a warning."""
CAUSE_SHARE = 0.1
"""A reason that alone rejects a larger share of the rows is a separate cause; without one, the largest reason is."""

APP_TRIPS = {
    "yellow": "Since 2025 these are mostly trips dispatched by an app (payment_type 0): 26 % of yellow trips in 2026.",
    "green": "Since 2025 these are mostly trips dispatched by an app (payment_type is null).",
}
"""What trips without a passenger count are, by kind (published Parquet files of 2025 and 2026)."""


def few_trips_are_rejected(kind: TaxiKind) -> MonthCheck:
    """The warning about rejected trips."""
    return MonthCheck(
        "few_trips_are_rejected",
        f"Warns when more than {WARN_SHARE:.0%} of a month's rows are rejected, with the share of each reason and the "
        "setting that keeps those trips.",
        lambda month, io: few_rejected(
            kind,
            month,
            io.clean_lake.read(kind.table, month).manifest,
            io.rejected_lake.read(kind.raw_table, month).manifest,
        ),
        warn=True,
    )


def few_rejected(kind: TaxiKind, month: Month, clean: Manifest, rejected: Manifest) -> Problems:
    """Few rows are rejected; the sentence has the share of each reason, largest first, and how to keep the trips."""
    rows = clean.rows + rejected.rows
    reasons = dict(sorted(rejected.extra["reasons"].items(), key=lambda item: (-item[1], item[0])))
    metadata = {"rejected_share": round(rejected.rows / rows, 6), "rejected_by_reason": reasons}
    if rejected.rows <= WARN_SHARE * rows:
        return [], metadata
    shares = ", ".join(f"{reason} {_percent(count, rows)}" for reason, count in reasons.items())
    large = {reason: count for i, (reason, count) in enumerate(reasons.items()) if not i or count > CAUSE_SHARE * rows}
    causes = {
        f"rejected: {reason}": f"{month}: {_percent(count, rows)} of {rows:,} rows are rejected as {reason}. "
        f"{_explanation(kind, reason)}"
        for reason, count in large.items()
    }
    sentence = f"{month}: {_percent(rejected.rows, rows)} of {rows:,} rows are rejected: {shares}."
    explanations = [f"{reason}: {_explanation(kind, reason)}" for reason in large]
    return [sentence, *explanations], {**metadata, CAUSES: causes}


def _explanation(kind: TaxiKind, reason: str) -> str:
    """What the rows rejected for a reason are, and how to keep them."""
    rule = next((rule for rule in RULES if rule.reason == reason), None)
    if rule is None:
        from taxi_assets.publisher.rows import REASONS  # needs Arrow

        return f"{REASONS[reason]} See rejected_trips for the lines as published."
    parts = [rule.description]
    if reason == "unknown_passengers":
        parts += ["Since 2019-07 providers send none for some trips.", APP_TRIPS.get(kind.name, "")]
    return " ".join(filter(None, [*parts, _how_to_keep(kind, rule)]))


def _how_to_keep(kind: TaxiKind, rule: Rule) -> str:
    if rule.setting is None:
        return ""
    switch = CleaningRules.model_fields[rule.setting].annotation is bool
    op = op_name(kind, "clean_trips")
    return (
        f"To keep these trips, set {rule.variable}={'false' if switch else ''}, or materialize clean_trips with the run config "
        f"`ops: {{{op}: {{config: {{{rule.setting}: {'false' if switch else 'null'}}}}}}}`."
    )


def _percent(count: int, rows: int) -> str:
    return f"{100 * count / rows:.1f} %"
