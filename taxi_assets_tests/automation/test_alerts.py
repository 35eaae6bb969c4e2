# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Failures and recoveries are reported once, completely and without secrets; an unreachable channel does no harm."""

import json

import pytest

from taxi_assets.assets.guards import Replacing, require_replaceable
from taxi_assets.automation.alerts import GROUP_SECONDS, AlertState
from taxi_assets.automation.deadlines import DEADLINE
from taxi_assets.automation.outcomes import Problem, months_of
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.datasets.schema import YELLOW
from taxi_assets_tests.alert_servers import MailServer, Webhook
from taxi_assets_tests.alert_world import MakeWorld, hook, mail, world
from taxi_assets_tests.months import month_of_trips
from taxi_assets_tests.processes import free_port

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # backfill_policy


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
