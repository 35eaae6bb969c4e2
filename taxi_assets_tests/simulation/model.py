"""What the simulated world consists of: a publisher, sinks, and machines that each have a lake and a history of runs.

The decisions are the product's (`taxi_assets.status`, the alerts' state); everything else is a model small enough for
thousands of histories a second, each identified by a seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace

from taxi_assets.automation.alerts import AlertState
from taxi_assets.automation.outcomes import Problem
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.publisher.published import Published
from taxi_assets.status.decide import Assets, Decision, Expected, MonthRecord

MONTHS = [Month(2021, number) for number in range(1, 5)]
NEWEST = MONTHS[-2:]
LAKE = ("raw", "clean", "rejected")
SINKS = ("object", "days", "postgres", "warehouse")
DERIVED = ("summary", "report")
ASSETS = Assets(*LAKE, SINKS, DERIVED)
DAY = 86_400.0


class Failed(Exception):
    """A step of a run failed."""


@dataclass(frozen=True)
class Content:
    """What the rows of a month are: of which version, by which code, by which rules; `foreign` if somebody changed them."""

    version: int
    code: int
    rules: int
    foreign: bool = False

    @property
    def rows(self) -> int:
        return 40 * self.version + 10 * self.code + self.rules + 500 * self.foreign


@dataclass
class Held:
    """A month in the lake or in a sink: what it is, and what is recorded of it."""

    content: Content
    manifest: Manifest


Place = MutableMapping[Month, Held]


@dataclass
class Machine:
    """A machine with its own lake and Dagster history. Sinks are shared."""

    lake: dict[str, Place] = field(default_factory=lambda: {name: {} for name in LAKE})
    failures: dict[Month, Counter[str]] = field(default_factory=dict)
    failed_checks: dict[Month, dict[str, str]] = field(default_factory=dict)
    run_keys: set[str] = field(default_factory=set)
    alerts: AlertState = field(default_factory=AlertState)
    sent: dict[str, float] = field(default_factory=dict)
    on: bool = True

    def forget(self) -> None:
        """Delete Dagster's history."""
        self.failures, self.failed_checks, self.run_keys, self.alerts = {}, {}, set(), AlertState()
        self.sent = {}


@dataclass
class World:
    """Everything at one moment."""

    versions: dict[Month, int] = field(default_factory=dict)
    etag: bool = True
    answers: bool = True
    refuses: bool = False
    code: int = 1
    rules: int = 0
    own_rules: dict[Month, set[int]] = field(default_factory=dict)
    sinks: dict[str, Place] = field(default_factory=lambda: {name: {} for name in (*SINKS, *DERIVED)})
    machines: list[Machine] = field(default_factory=lambda: [Machine(), Machine()])
    clock: float = 0.0
    loads: int = 0
    log: list[str] = field(default_factory=list)

    def published(self, month: Month) -> Published | None:
        """The answer of the publisher about a month."""
        if (version := self.versions.get(month)) is None:
            return None
        return Published("publisher", f"v{version}" if self.etag else None, 10_000 + version, None)

    def move(self, sink: str) -> None:
        """Give a sink a new, empty address."""
        self.sinks[sink] = {}

    def tamper(self, sink: str, month: Month) -> None:
        """Change a month's rows in a sink, not what is recorded of them."""
        if sink in SINKS and (held := self.sinks[sink].get(month)):
            held.content = replace(held.content, foreign=True)

    def delete(self, sink: str, month: Month) -> None:
        """Delete a month from a sink."""
        self.sinks[sink].pop(month, None)

    def place(self, machine: Machine, asset: str) -> Place:
        return machine.lake[asset] if asset in LAKE else self.sinks[asset]

    def manifest(self, content: Content, asset: str, month: Month) -> Manifest:
        """What is recorded of a month that is loaded now."""
        extra = {
            "location": "publisher",
            "version": f"v{content.version}" if self.etag else f"sha{content.version}",
            "sha256": f"sha{content.version}",
            "published_bytes": 10_000 + content.version,
            "generated": False,
            "code_version": str(content.code),
            "loaded_at": f"{self.clock:020.1f}",
        }
        if asset != "raw":
            own = content.rules in self.own_rules.get(month, ())
            extra |= {"rules": {"level": content.rules}, "own_rules": own, "loaded_columns": {}}
            extra["cleaned_at"] = f"{self.clock:020.1f}"
        rows = content.rows if asset not in ("raw", *DERIVED) else 7
        return Manifest(rows, {}, extra=extra)

    def record(self, machine: Machine, month: Month) -> MonthRecord:
        """What the machine can read about a month."""
        manifests = {
            asset: held.manifest for asset in ASSETS.all if (held := self.place(machine, asset).get(month)) is not None
        }
        failures = machine.failures.get(month, Counter())
        return MonthRecord(manifests, None, failures, machine.failed_checks.get(month, {}))  # ty: ignore[invalid-argument-type]

    def expectation(self) -> Expected:
        def outdated(manifest: Manifest) -> str | None:
            if manifest.extra.get("own_rules"):
                return None
            level = manifest.extra["rules"]["level"]
            return None if level == self.rules else "was cleaned with another level"

        return Expected(str(self.code), outdated, repair=True)

    def attempt(self, month: Month) -> str:
        """What a run of the month tries to load, by which failed runs are counted."""
        published = self.published(month)
        version = (published.version or f"{published.size} bytes") if published else "none"
        return f"{version} by {self.code}"

    def needs(self, machine: Machine, month: Month) -> bool:
        """Whether loading the month is needed, by the truth: a sink lacks it, or has something else than it should have."""
        held = [self.sinks[sink].get(month) for sink in (*SINKS, *DERIVED)]
        contents = {each and each.content for each in held}
        if len(contents) > 1 or None in contents:
            return True
        (content,) = contents
        assert content
        clean = machine.lake["clean"].get(month)
        begun = clean is not None and clean.content != content and _when(clean) > max(map(_when, filter(None, held)))
        raw = machine.lake["raw"].get(month)
        begun = begun or (raw is not None and raw.content.version > content.version)  # since withdrawn, maybe
        return begun or not self.is_right(month, content)

    def is_right(self, month: Month, content: Content) -> bool:
        """Whether this is what a sink should have of the month; a withdrawn month stays as it was last published."""
        version = self.versions.get(month, content.version)
        rules = {self.rules, *self.own_rules.get(month, ())}
        return (content.version, content.code, content.foreign) == (
            version,
            self.code,
            False,
        ) and content.rules in rules


def _when(held: Held) -> str:
    return str(held.manifest.extra.get("cleaned_at", ""))


def load(
    world: World, machine: Machine, month: Month, decision: Decision | None, own_rules: int | None = None
) -> Iterator[str]:
    """Load a month as a run does, a step at a time: yields the name of each step that was done.

    Without a decision it is loaded whole, by the settings' rules or by those given to the run.

    Raises:
        Failed: a step cannot be done.
    """
    world.loads += 1
    selected = set(ASSETS.all) if decision is None or decision.assets is None else set(decision.assets)
    rules = world.rules if own_rules is None else own_rules
    if decision is not None and decision.rules is not None:
        rules = int(decision.rules["level"])  # ty: ignore[invalid-argument-type]
    if "raw" in selected:
        version = world.versions.get(month)
        if version is None or not world.answers or world.refuses:
            raise Failed(f"{month}: raw: the publisher does not deliver it")
        content = Content(version, world.code, 0)
        machine.lake["raw"][month] = Held(content, world.manifest(content, "raw", month))
        yield "raw"
    if "clean" in selected:
        if (raw := machine.lake["raw"].get(month)) is None:
            raise Failed(f"{month}: clean: there is no raw month")
        content = Content(raw.content.version, raw.content.code, rules)
        manifest = world.manifest(content, "clean", month)
        manifest = Manifest(manifest.rows, {}, extra={**manifest.extra, **_origin(raw.manifest)})
        for asset in ("clean", "rejected"):
            machine.lake[asset][month] = Held(content, manifest)
        yield "clean"
    for asset in (*SINKS, *DERIVED):
        if asset in selected:
            if (clean := machine.lake["clean"].get(month)) is None:
                raise Failed(f"{month}: {asset}: there is no clean month")
            extra = {**clean.manifest.extra, "loaded_at": f"{world.clock:020.1f}"}
            rows = 7 if asset in DERIVED else clean.manifest.rows
            world.sinks[asset][month] = Held(clean.content, Manifest(rows, {}, extra=extra))
            machine.failed_checks.get(month, {}).pop(asset, None)
            world.clock += 0.1
            yield asset


def _origin(raw: Manifest) -> Mapping[str, object]:
    return {name: raw.extra[name] for name in ("version", "sha256", "published_bytes", "code_version")}


def run(
    world: World,
    machine: Machine,
    month: Month,
    decision: Decision | None,
    stop_after: int | None = None,
    own_rules: int | None = None,
) -> None:
    """Run a load on a machine, to its end or until it is killed after so many steps."""
    error = ""
    try:
        for done, _ in enumerate(load(world, machine, month, decision, own_rules), 1):
            if stop_after == done:
                error = f"{month}: killed after step {done}"
                break
    except Failed as failed:
        error = str(failed)
    finish(world, machine, month, error)


def finish(world: World, machine: Machine, month: Month, error: str) -> None:
    """Record how a run ended, as Dagster and the alerts do."""
    world.clock += 60
    if error:
        machine.failures.setdefault(month, Counter())[world.attempt(month)] += 1
        machine.alerts.add(Problem(str(month), "load_month", error, f"run{world.loads}", world.clock), DAY)
    else:
        machine.alerts.resolve([str(month)], "load_month")
        machine.sent = {key: at for key, at in machine.sent.items() if key in machine.alerts.problems}
