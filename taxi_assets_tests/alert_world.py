"""An instance with an asset that fails as a test requires, the alerts sensor beside it, and channels to report to."""

from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from taxi_assets.automation.alerts import alerts_sensor
from taxi_assets.automation.deadlines import DEADLINE
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.failures import explained
from taxi_assets.settings import Settings
from taxi_assets_tests.alert_servers import MailServer, Webhook, mail_server, webhook

MONTHS = dg.MonthlyPartitionsDefinition("2021-01-01")


class World:
    """An instance with an asset that fails as the test requires, and its alerts sensor."""

    def __init__(self, instance: dg.DagsterInstance, **settings: object) -> None:
        self.instance, self.settings = instance, Settings(ui_url="http://ui:3000", **settings)
        self.sentence: str | None = None
        self.check_passes, self.cursor = True, None
        self.new_columns: dict[str, str] = {}

        @dg.asset(partitions_def=MONTHS, backfill_policy=dg.BackfillPolicy.single_run())
        def postgres_table(context: dg.AssetExecutionContext) -> None:
            with explained("postgres_table"):
                if self.sentence:
                    raise PermanentError(self.sentence.format(month=context.partition_keys[0][:7]))

        @dg.asset_check(asset=postgres_table, name=DEADLINE)
        def deadline() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.check_passes, description="2021-03 is late (due 2021-05-01).")

        @dg.asset_check(asset=postgres_table, name="columns")
        def columns() -> dg.AssetCheckResult:
            causes = {f"new column {name}": sentence for name, sentence in self.new_columns.items()}
            return dg.AssetCheckResult(
                passed=not causes,
                severity=dg.AssetCheckSeverity.WARN,
                description=" ".join(causes.values()),
                metadata={"causes": dg.MetadataValue.json(causes)} if causes else {},
            )

        jobs = [
            dg.define_asset_job("warn", selection=dg.AssetSelection.checks(columns)),
            dg.define_asset_job("load", selection=dg.AssetSelection.assets(postgres_table).without_checks()),
            dg.define_asset_job("look", selection=dg.AssetSelection.checks(deadline)),
        ]
        self.defs = dg.Definitions(assets=[postgres_table], asset_checks=[deadline, columns], jobs=jobs)
        self.tick()

    def load(self, month: str, sentence: str | None = None, **tags: str) -> str:
        """Run the month; its run id."""
        self.sentence = sentence
        job = self.defs.resolve_job_def("load")
        result = job.execute_in_process(
            partition_key=f"{month}-01", instance=self.instance, raise_on_error=False, tags=tags
        )
        assert result.success is (sentence is None)
        return result.run_id

    def load_range(self, first: str, last: str, sentence: str | None = None) -> None:
        """Load months in one run, as a backfill does."""
        self.sentence = sentence
        edges = {"start": f"{first}-01", "end": f"{last}-01"}
        tags = {f"dagster/asset_partition_range_{edge}": key for edge, key in edges.items()}
        job = self.defs.resolve_implicit_global_asset_job_def()
        key = dg.AssetKey("postgres_table")
        part = job.get_subset(asset_selection={key}, asset_check_selection=set())
        result = part.execute_in_process(instance=self.instance, raise_on_error=False, tags=tags)
        assert result.success is (sentence is None)

    def look(self, passes: bool) -> None:
        self.check_passes = passes
        self.defs.resolve_job_def("look").execute_in_process(instance=self.instance)

    def warn(self, month: str, *new_columns: str) -> None:
        self.new_columns = {name: f"{month}: column {name}." for name in new_columns}
        self.defs.resolve_job_def("warn").execute_in_process(instance=self.instance)

    def tick(self) -> str:
        """Evaluate the sensor and return its message."""
        repository = self.defs.get_repository_def()
        with dg.build_sensor_context(self.instance, cursor=self.cursor, repository_def=repository) as context:
            data = alerts_sensor(self.settings).evaluate_tick(context)
        self.cursor = data.cursor
        assert not data.run_requests
        return data.skip_message


MakeWorld = Callable[..., World]


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as made:
        yield made


@pytest.fixture
def world() -> Iterator[MakeWorld]:
    with dg.instance_for_test() as instance:
        yield lambda **settings: World(instance, **settings)
