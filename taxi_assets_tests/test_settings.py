"""Settings are read from the environment and .env and validated; no message contains a secret."""

from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.settings import load_settings


def set_all(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setenv(f"TAXI_{name.upper()}", value)


def test_the_defaults_are_the_local_profile_under_one_folder(tmp_path):
    settings = load_settings()
    assert settings.profile == "local"
    assert settings.home_folder == tmp_path / ".taxi"
    assert settings.bucket_location == str(tmp_path / ".taxi" / "bucket")


def test_dot_env_is_read_and_the_environment_wins(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("TAXI_SOURCE=datatalks\nTAXI_SAMPLE_ROWS=7\n")
    set_all(monkeypatch, sample_rows="9")
    assert (load_settings().source, load_settings().sample_rows) == ("datatalks", 9)


def test_overrides_win_over_the_environment_and_dot_env(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("TAXI_BUCKET=gs://of-dotenv\nTAXI_SAMPLE_ROWS=7\n")
    set_all(monkeypatch, source="datatalks", home="elsewhere")
    settings = load_settings(source="sample", bucket=None, home=Path("mine"))
    assert (settings.source, settings.sample_rows) == ("sample", 7)
    assert settings.bucket_location == str(tmp_path / "mine" / "bucket")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "source",
            "nowhere",
            "TAXI_SOURCE must be tlc, datatalks, sample, or a path or URL that contains {month}, or {year} and "
            "{month_number}; got 'nowhere'",
        ),
        ("source", "https://me:s3cret@host/x", "got 'https://***@host/x'"),
        ("source", "ftp://host/{month}.csv", "TAXI_SOURCE: ftp:// is not supported; use https://"),
        ("bucket", "s3://trips", "TAXI_BUCKET: s3:// is not supported; use gs://name or a directory"),
        ("lake", "gs://lake", "TAXI_LAKE: gs:// is not supported; use a directory"),
        (
            "monthly_cron",
            "0 0 31 2 *",
            "TAXI_MONTHLY_CRON must be a cron expression of five fields for a day that exists",
        ),
        ("monthly_cron", "0 0 31 4 *", "for a day that exists"),
        ("sample_rows", "0", "TAXI_SAMPLE_ROWS"),
        ("reject_unknown_passengers", "perhaps", "TAXI_REJECT_UNKNOWN_PASSENGERS should be a valid boolean"),
        ("max_trip_distance", "0", "TAXI_MAX_TRIP_DISTANCE should be greater than 0"),
        (
            "kinds",
            "yellow,purple",
            "TAXI_KINDS must be a list of yellow, green, fhv, fhvhv, separated by commas; got 'purple'",
        ),
        ("kinds", "yellow,", "got ''"),
        ("kinds", "yellow,yellow", "TAXI_KINDS must not contain a kind twice"),
        ("monthly_cron", "every day", "TAXI_MONTHLY_CRON must be a cron expression"),
        ("reconcile_cron", "99 7 20 * *", "TAXI_RECONCILE_CRON must be a cron expression"),
        ("reconcile_cron", "0 0 7 20 * *", "TAXI_RECONCILE_CRON must be a cron expression"),
        ("sensor_seconds", "-5", "TAXI_SENSOR_SECONDS should be greater than or equal to 5"),
        ("alert_webhook", "hooks.slack.com/x", "TAXI_ALERT_WEBHOOK must be a URL that begins with http://"),
        ("smtp_url", "mail.example.com", "TAXI_SMTP_URL must be a URL that begins with smtp://"),
        ("alert_email", "nobody", "TAXI_ALERT_EMAIL must be one email address"),
        ("alert_email", "me@example.com", "TAXI_SMTP_URL and TAXI_ALERT_EMAIL must be set together"),
        ("ui_url", "localhost:3000", "TAXI_UI_URL must be a URL that begins with http://"),
        ("object_template", "trips.parquet", "TAXI_OBJECT_TEMPLATE must contain {month}"),
        ("months_per_run", "none", "TAXI_MONTHS_PER_RUN must be a positive number or `all`"),
        ("postgres_schema", "a b", "TAXI_POSTGRES_SCHEMA"),
        ("profile", "gcp", "TAXI_PROFILE=gcp needs TAXI_POSTGRES_URL, TAXI_BUCKET, TAXI_BIGQUERY_PROJECT"),
    ],
)
def test_an_invalid_setting_is_one_sentence_that_names_it(monkeypatch, name, value, sentence):
    set_all(monkeypatch, **{name: value})
    with pytest.raises(PermanentError) as error:
        load_settings()
    assert sentence in str(error.value)


def test_valid_settings_of_the_automation_are_accepted(monkeypatch):
    mail = {"smtp_url": "smtps://me%40x:s@mail.example.com", "alert_email": "a@example.com, b@example.com"}
    set_all(monkeypatch, monthly_cron="@monthly", reconcile_cron="*/5 6-8 * * mon-fri", ui_url="https://taxi", **mail)
    assert load_settings().monthly_cron == "@monthly"


def test_two_folders_have_settings_of_their_own_in_one_process(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / ".env").write_text(f"TAXI_POSTGRES_SCHEMA=trips_{name}\n")
    first, second = (load_settings(tmp_path / name) for name in "ab")
    assert (first.postgres_schema, second.postgres_schema) == ("trips_a", "trips_b")
    assert (first.home_folder, second.home_folder) == (tmp_path / "a" / ".taxi", tmp_path / "b" / ".taxi")
    assert first.model_copy(update={"home": Path("other")}).lake_folder == tmp_path / "a" / "other" / "lake"


def test_the_password_in_the_url_is_never_shown(monkeypatch):
    set_all(monkeypatch, postgres_url="postgresql://me:s3cret@localhost/trips")
    assert "s3cret" not in repr(load_settings())
    set_all(monkeypatch, postgres_url="postgresql://me:s3cret@localhost/trips", sample_rows="none")
    with pytest.raises(PermanentError) as error:
        load_settings()
    assert "s3cret" not in str(error.value)


def test_several_kinds_may_not_share_names_in_the_bucket(monkeypatch):
    set_all(monkeypatch, kinds="yellow,green")
    assert len(load_settings().taxi_kinds) == 2
    set_all(monkeypatch, kinds="yellow,green", daily="true")
    with pytest.raises(PermanentError, match=r"TAXI_DAILY_TEMPLATE must contain \{kind\}"):
        load_settings()
    set_all(monkeypatch, daily_template="{kind}/{year}/{month}/{day}.parquet", object_template="{month}.parquet")
    with pytest.raises(PermanentError, match=r"TAXI_OBJECT_TEMPLATE must contain \{kind\}"):
        load_settings()


def test_the_cleaning_rules_are_settings(monkeypatch):
    assert load_settings().cleaning_rules == CleaningRules()
    set_all(monkeypatch, reject_unknown_passengers="false", max_trip_distance="50")
    assert load_settings().cleaning_rules == CleaningRules(reject_unknown_passengers=False, max_trip_distance=50)
