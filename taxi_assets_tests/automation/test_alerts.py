"""Failures and recoveries are reported once, completely and without secrets; an unreachable channel does no harm."""

import json
import time
from collections.abc import Callable

import dagster as dg
import pytest

from taxi_assets.assets.guards import Replacing, require_replaceable
from taxi_assets.automation.alerts import GROUP_SECONDS, AlertState, alerts_sensor
from taxi_assets.automation.deadlines import DEADLINE
from taxi_assets.automation.outcomes import Problem, months_of
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.failures import explained
from taxi_assets.core.manifest import Manifest
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.settings import Settings
from taxi_assets.status.run_history import RETRY_SECONDS
from taxi_assets_tests.alert_servers import MailServer, Webhook, mail_server, webhook
from taxi_assets_tests.months import month_of_trips
from taxi_assets_tests.processes import free_port

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # backfill_policy
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


@pytest.fixture
def hook():
    with webhook() as made:
        yield made


@pytest.fixture
def mail():
    with mail_server() as made:
        yield made


@pytest.fixture
def world():
    with dg.instance_for_test() as instance:
        yield lambda **settings: World(instance, **settings)


MakeWorld = Callable[..., World]


def test_a_failed_run_is_posted_with_month_asset_sentence_and_link(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    run = here.load("2021-03", "{month}: the server <db> says no & stops.")
    here.tick()
    (message,) = hook.posted
    assert set(message) == {"text"}
    assert "postgres_table failed: 2021-03" in message["text"]
    assert "2021-03: the server &lt;db&gt; says no &amp; stops." in message["text"]
    assert f"<http://ui:3000/runs/{run}|" in message["text"]
    assert "Traceback" not in message["text"]


def test_a_refused_month_is_reported_with_what_is_loaded_and_how_to_allow_it(world: MakeWorld, hook: Webhook, tmp_path):
    raw = month_of_trips(tmp_path, "2021-03", 500)
    raw.manifest.extra["generated"] = True
    with pytest.raises(PermanentError) as refusal:
        require_replaceable(raw, Manifest(3_000, extra={"location": "https://there/2021-03"}), YELLOW, Replacing())
    here = world(alert_webhook=hook.url)
    here.load("2021-03", str(refusal.value))
    here.tick()
    (message,) = hook.posted
    assert "postgres_table failed: 2021-03" in message["text"]
    assert str(refusal.value) in message["text"]
    assert "3,000 real yellow trips from https://there/2021-03 are loaded" in message["text"]
    assert "--replace-real" in message["text"]


def test_a_repeated_failure_is_reported_once_and_so_is_its_recovery(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    for _ in range(3):
        here.load("2021-03", "{month}: no.")
        here.tick()
    assert len(hook.posted) == 1
    here.load("2021-03")
    here.tick()
    assert "recovered: postgres_table 2021-03" in hook.posted[1]["text"]
    assert "failed 3 times" in hook.posted[1]["text"]
    here.load("2021-03")
    here.tick()
    assert len(hook.posted) == 2


def test_one_cause_in_many_months_is_one_message(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    for month in ("2021-03", "2021-04", "2021-05"):
        here.load(month, "{month}: Postgres on 127.0.0.1:5432 cannot be reached.")
    here.tick()
    (message,) = hook.posted
    assert "3 months (2021-03, 2021-04, 2021-05)" in message["text"]


def test_a_new_column_is_one_alert_however_many_months_have_it(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url, alert_repeat_hours=0.0001)
    for month, names in (
        ("2021-03", ["a", "b"]),
        ("2021-04", ["a", "b"]),
        ("2021-02", []),
        ("2021-05", ["a", "b", "c"]),
    ):
        here.warn(month, *names)
        here.tick()
    texts = [message["text"] for message in hook.posted]
    assert [text.partition("\n")[0] for text in texts] == [
        f":warning: *postgres_table columns: new column {name}*" for name in "abc"
    ]
    assert "2021-03: column a." in texts[0]
    assert "2021-05: column c." in texts[2]


def test_further_months_of_a_reported_cause_are_collected_in_one_message():
    state = AlertState()
    problem = lambda month, since: Problem(month, "raw_trips", f"{month}: no answer.", "run", since)  # noqa: E731
    state.add(problem("2021-01", 0), 3600)
    assert len(state.due(1000, "")) == 1
    for month in ("2021-02", "2021-03"):
        state.add(problem(month, 1010), 3600)
    assert state.due(1020, "") == []
    (message,) = state.due(1001 + GROUP_SECONDS, "")
    assert "2 months (2021-02, 2021-03)" in message.title


def test_a_persistent_failure_is_reported_again_after_the_repeat_time():
    state = AlertState()
    for since, reported in ((0, 1), (1800, 0), (7200, 1)):
        state.add(Problem("2021-01", "raw_trips", "2021-01: no.", "run", since), 3600)
        assert len(state.due(1.0 + since, "")) == reported
    assert AlertState.parse(state.dump()) == state


def test_a_missed_deadline_and_its_recovery_are_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    here.look(False)
    here.tick()
    assert f"postgres_table {DEADLINE} missed its deadline" in hook.posted[0]["text"]
    assert "2021-03 is late" in hook.posted[0]["text"]
    here.look(True)
    here.tick()
    assert "recovered" in hook.posted[1]["text"]


def test_a_failure_that_the_daemon_retries_is_not_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    run = here.load("2021-03", "{month}: no.")
    here.instance.add_run_tags(run, {"dagster/will_retry": "true", "dagster/auto_retry_run_id": "the next"})
    here.tick()
    assert hook.posted == []


def test_a_failure_waits_until_it_is_known_whether_the_daemon_will_retry(hook: Webhook, monkeypatch):
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True}}) as instance:
        here = World(instance, alert_webhook=hook.url)
        # as it is between the event of the failure and Dagster's note
        monkeypatch.setattr(type(instance), "add_run_tags", lambda *_: None)
        runs = [here.load(month, "{month}: no.") for month in ("2021-03", "2021-04")]
        here.tick()
        assert hook.posted == []
        monkeypatch.undo()
        for run, will in zip(runs, ("true", "false"), strict=True):
            here.instance.add_run_tags(run, {"dagster/will_retry": will})
        here.tick()
        assert hook.posted == []  # the first is to be retried, and is not yet
        here.instance.add_run_tags(runs[0], {"dagster/auto_retry_run_id": "the next"})
        here.tick()
        (message,) = hook.posted
        assert "failed: 2021-04" in message["text"]


@pytest.mark.parametrize("tags", [{}, {"dagster/will_retry": "true"}])
def test_a_failure_whose_retry_never_starts_is_reported(hook: Webhook, monkeypatch, tags):
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True}}) as instance:
        here = World(instance, alert_webhook=hook.url)
        monkeypatch.setattr(type(instance), "add_run_tags", lambda *_: None)
        here.load("2021-03", "{month}: no.", **tags)
        later = time.time() + RETRY_SECONDS + 1
        monkeypatch.setattr("taxi_assets.automation.alerts.time.time", lambda: later)
        here.tick()
        assert len(hook.posted) == 1


def test_the_reason_of_a_terminated_run_is_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    job = here.defs.resolve_job_def("load")
    run = here.instance.create_run_for_job(job, tags={"dagster/partition": "2021-06-01"})
    here.instance.report_engine_event("Run execution process was terminated by signal 9 (SIGKILL).", run)
    here.instance.report_run_failed(run)
    here.tick()
    assert "terminated by signal 9" in hook.posted[0]["text"]
    assert "from outside" not in hook.posted[0]["text"]


def test_a_run_whose_process_was_killed_is_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    job = here.defs.resolve_job_def("load")
    run = here.instance.create_run_for_job(job, tags={"dagster/partition": "2021-06-01"})
    here.instance.report_run_failed(run, "2021-06: its process was killed; nothing partial remains.")
    here.tick()
    assert "2021-06: its process was killed; nothing partial remains." in hook.posted[0]["text"]


def test_an_email_has_the_same_content_and_logs_in(world: MakeWorld, mail: MailServer):
    here = world(smtp_url=f"smtp://me%40example.com:s3cret@127.0.0.1:{mail.port}", alert_email="ops@example.com, b@c.d")
    run = here.load("2021-03", "{month}: the server says no.")
    assert "messages delivered: 1," in here.tick()
    (message,) = mail.mails
    assert message["Subject"] == "[taxi_assets] postgres_table failed: 2021-03"
    assert message["To"] == "ops@example.com, b@c.d"
    assert message["From"] == "me@example.com"
    assert "2021-03: the server says no." in message.get_content()
    assert f"/runs/{run}" in message.get_content()
    assert len(mail.logins) == 1


def test_an_unreachable_channel_fails_nothing_shows_no_secret_and_gets_the_message_later(
    world: MakeWorld, hook: Webhook, capfd
):
    here = world(
        alert_webhook=hook.url, smtp_url=f"smtp://me:s3cret@127.0.0.1:{free_port()}", alert_email="ops@example.com"
    )
    hook.answer = 500
    here.load("2021-03", "{month}: no.")
    text = here.tick()
    assert "(messages delivered: 0, pending: 2)" in text
    said = "".join(capfd.readouterr())
    assert "could not be delivered by webhook (HTTP status 500)" in said
    assert "could not be delivered by email" in said
    assert "postgres_table failed: 2021-03. 2021-03: no." in said  # the log has it always
    assert "s3cret" not in said + text + here.cursor
    hook.answer = 200
    assert "(messages delivered: 1, pending: 1)" in here.tick()
    assert len(hook.posted) == 1


def test_without_channels_failures_are_in_the_log(world: MakeWorld, capfd):
    here = world()
    here.load("2021-03", "{month}: no.")
    assert "Reported 1 failures" in here.tick()
    assert "postgres_table failed: 2021-03. 2021-03: no. http://ui:3000/runs/" in "".join(capfd.readouterr())


def test_runs_that_finished_long_before_the_first_tick_are_ignored_by_the_following_ticks_too(
    world: MakeWorld, hook: Webhook, monkeypatch
):
    here = world(alert_webhook=hook.url)
    here.load("2021-03", "{month}: no.")
    here.cursor, later = None, time.time() + 7200
    monkeypatch.setattr("taxi_assets.automation.alerts.time.time", lambda: later)
    for _ in range(3):
        here.tick()
    assert hook.posted == []


def test_a_failure_while_the_sensor_was_off_after_quiet_ticks_is_reported(world: MakeWorld, hook: Webhook, monkeypatch):
    here = world(alert_webhook=hook.url)
    here.tick()
    here.load("2021-03", "{month}: no.")
    later = time.time() + 7200
    monkeypatch.setattr("taxi_assets.automation.alerts.time.time", lambda: later)
    here.tick()
    assert len(hook.posted) == 1


def test_runs_of_other_teams_that_name_no_code_location_are_not_reported(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)

    @dg.asset
    def their_table() -> None:
        raise dg.Failure("not ours.")

    jobs = [dg.define_asset_job(name, [their_table]) for name in ("etl", "load")]  # `load` is a name of ours, too
    theirs = dg.Definitions(assets=[their_table], jobs=jobs)
    for job in (*map(theirs.resolve_job_def, ("etl", "load")), theirs.resolve_implicit_global_asset_job_def()):
        assert not job.execute_in_process(instance=here.instance, raise_on_error=False).success
    here.tick()
    assert hook.posted == []


@pytest.mark.parametrize("how", ["a run a month", "one run"])
def test_a_failed_range_has_recovered_when_its_months_have_succeeded_in_whatever_runs(
    world: MakeWorld, hook: Webhook, how: str
):
    here = world(alert_webhook=hook.url)
    here.load_range("2021-01", "2021-03", "no.")
    here.tick()
    assert "postgres_table failed: 2021-01 to 2021-03" in hook.posted[0]["text"]
    if how == "one run":
        here.load_range("2021-01", "2021-04")
        here.tick()
    else:
        for month in ("2021-03", "2021-01", "2021-04", "2021-02"):
            assert len(hook.posted) == 1
            here.load(month)
            here.tick()
    (_, recovery) = hook.posted
    assert "recovered: postgres_table 2021-01 to 2021-03" in recovery["text"]


def test_a_month_that_failed_has_recovered_when_a_range_with_it_succeeds(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    here.load("2021-02", "{month}: no.")
    here.tick()
    here.load_range("2021-01", "2021-03")
    here.tick()
    assert "recovered: postgres_table 2021-02" in hook.posted[1]["text"]


def test_a_day_that_failed_has_not_recovered_because_another_day_succeeded():
    state = AlertState()
    state.add(Problem("2021-01-05", "gcs_daily", "no.", "run", 1.0), 3600)
    assert len(state.due(1.0, "")) == 1
    assert state.resolve(months_of({"dagster/partition": "2021-01-06"}), "gcs_daily") == []
    assert len(state.resolve(months_of({"dagster/partition": "2021-01-05"}), "gcs_daily")) == 1
    days = {"dagster/asset_partition_range_start": "2021-01-30", "dagster/asset_partition_range_end": "2021-02-01"}
    assert months_of(days) == ["2021-01-30", "2021-01-31", "2021-02-01"]


def test_two_causes_by_turns_are_one_alert_each(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    for _ in range(3):
        for sentence in ("{month}: no answer.", "{month}: no space."):
            here.load("2021-03", sentence)
            here.tick()
    assert len(hook.posted) == 2
    here.load("2021-03")
    here.tick()
    assert "recovered: postgres_table 2021-03" in hook.posted[2]["text"]
    assert "failed 6 times" in hook.posted[2]["text"]


def test_a_run_killed_in_a_step_has_recovered_when_another_job_finishes_the_step(world: MakeWorld, hook: Webhook):
    here = world(alert_webhook=hook.url)
    job = here.defs.resolve_implicit_global_asset_job_def()
    run = here.instance.create_run_for_job(job, tags={"dagster/partition": "2021-06-01"})
    started = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, job.name, step_key="postgres_table")
    here.instance.report_dagster_event(started, run.run_id)
    here.instance.report_run_failed(run, "2021-06: its process was killed; nothing partial remains.")
    here.tick()
    assert "postgres_table failed: 2021-06" in hook.posted[0]["text"]
    here.load("2021-06")
    here.tick()
    assert "recovered: postgres_table 2021-06" in hook.posted[1]["text"]


def test_a_success_that_is_read_with_an_earlier_failure_is_its_recovery(hook: Webhook, monkeypatch):
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True}}) as instance:
        here = World(instance, alert_webhook=hook.url)
        monkeypatch.setattr(type(instance), "add_run_tags", lambda *_: None)
        here.load("2021-03", "{month}: no.")  # whether it is retried is not known yet
        here.load("2021-03")
        here.tick()
        later = time.time() + RETRY_SECONDS + 1
        monkeypatch.setattr("taxi_assets.automation.alerts.time.time", lambda: later)
        here.tick()
        assert hook.posted == []


def test_what_the_sensor_cannot_read_is_reported_and_read_again(world: MakeWorld, hook: Webhook, monkeypatch):
    here = world(alert_webhook=hook.url)
    here.load("2021-03", "{month}: no.")
    for _ in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(type(here.instance), "all_logs", lambda *_, **__: 1 / 0)
            here.tick()
    (message,) = hook.posted
    assert "sensor alerts (read runs) failed" in message["text"]
    assert "ZeroDivisionError: division by zero" in message["text"]
    here.tick()
    texts = [message["text"] for message in hook.posted[1:]]
    assert "postgres_table failed: 2021-03" in texts[0]
    assert "recovered: sensor alerts (read runs)" in texts[1]


def test_ticks_that_cannot_be_read_do_not_delay_the_alerts_of_runs(world: MakeWorld, hook: Webhook, monkeypatch):
    here = world(alert_webhook=hook.url)
    here.load("2021-03", "{month}: no.")
    monkeypatch.setattr(type(here.instance), "all_instigator_state", lambda *_, **__: 1 / 0)
    here.tick()
    texts = [message["text"] for message in hook.posted]
    assert "postgres_table failed: 2021-03" in texts[0]
    assert "sensor alerts (read ticks) failed" in texts[1]


def test_a_cursor_of_an_earlier_version_continues_where_it_was():
    problem = {
        "month": "2021-01",
        "what": "raw_trips",
        "message": "no.",
        "run_id": "run",
        "since": 1.0,
        "reported": 2.0,
    }
    old = {"seen": {"RUN_FAILURE": 7, "RUN_SUCCESS": 0}, "problems": {"2021-01|raw_trips": problem}, "unsent": []}
    state = AlertState.parse(json.dumps(old))
    assert state.seen == 7
    assert len(state.resolve(["2021-01"], "raw_trips")) == 1
