"""Every setting, read once from the environment (TAXI_*) and `.env`, validated, and defaulted to the local profile.

Nothing else in the package reads the environment. Relative paths count from the project's folder: DAGSTER_HOME where it
is set, else the working directory.
"""

from __future__ import annotations

import os
import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.publisher.source import PUBLISHERS, address_scheme


def project_folder() -> Path:
    """The folder that relative paths count from: DAGSTER_HOME, else the working directory."""
    return Path(os.environ.get("DAGSTER_HOME") or ".").resolve()


class Settings(BaseSettings, CleaningRules):
    """The settings, one field a variable: `source` is TAXI_SOURCE. Those of the cleaning rules are in `trips.rules`."""

    model_config = SettingsConfigDict(env_prefix="TAXI_", extra="ignore", env_ignore_empty=True, frozen=True)

    profile: Literal["local", "gcp"] = Field(
        "local",
        description="Where months go: `local` (embedded Postgres, a directory "
        "as bucket, DuckDB) or `gcp` (Postgres by URL, a bucket, BigQuery).",
    )
    home: Path = Field(Path(".taxi"), description="Folder for everything written at run time.")
    kinds: str = Field("yellow", description="Kinds of taxi, separated by commas: yellow, green.")
    source: str = Field(
        "tlc",
        description="Where months come from: `tlc`, `datatalks`, `sample`, or an https address or path "
        "with {month} (and {kind}) in it.",
    )
    sample_rows: int = Field(100_000, ge=1, description="Rows of a generated month (TAXI_SOURCE=sample).")
    new_columns: Literal["keep", "add", "refuse"] = Field(
        "keep",
        description="What happens to a column of the publisher's that this version does not know: `keep` its values in the raw "
        "month only, `add` it to every sink as well, or `refuse` the month.",
    )
    executor: Literal["in_process", "multiprocess", "celery"] = Field(
        "in_process",
        description="How a run executes its steps: in its own process, in processes beside it, or on Celery workers, "
        "which share the lake, the bucket and the Postgres server.",
    )
    celery_broker: SecretStr | None = Field(
        None, description="Where steps wait for a Celery worker: redis://:password@host:6379/0 (rediss:// for TLS)."
    )
    celery_backend: SecretStr | None = Field(None, description="Where Celery workers answer; unset: the broker.")
    celery_redeliver_seconds: int = Field(
        1800,
        ge=10,
        description="Seconds after which a step whose worker vanished is given to another: more than the longest step.",
    )
    months_per_run: str = Field("1", description="Months a backfill run holds: a number, or `all`.")

    postgres_url: SecretStr | None = Field(
        None,
        description="Your own server, postgresql://user:password@host/database; "
        "unset in the local profile: the embedded one.",
    )
    postgres_schema: str = Field(
        "ny_taxi", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Postgres schema of the tables."
    )

    bucket: str | None = Field(
        None, description="gs://name or a directory; unset in the local profile: TAXI_HOME/bucket."
    )
    object_template: str = Field(
        "nyc_taxi_data/{kind}_tripdata_{month}.parquet", description="Name of a month's object; {month} is required."
    )
    dataset_prefix: str = Field(
        "nyc_taxi_data/{kind}_tripdata_by_day", description="Prefix of the dataset in day folders."
    )
    daily: bool = Field(
        False,
        description="Whether gcs_daily is there: one object a day. Off by default: its partitions are days, and "
        "`dagster asset materialize --select '*' --partition` takes assets of one kind of partition only.",
    )
    daily_template: str = Field(
        "{year}/{month}/{day}/daily-trips.parquet", description="Name of a day's object (gcs_daily)."
    )
    lake: str | None = Field(
        None, description="Where raw and clean months are kept between assets: a directory; unset: TAXI_HOME/lake."
    )

    bigquery_project: str | None = Field(
        None,
        description="Google Cloud project of the warehouse; unset in the local "
        "profile: DuckDB in TAXI_HOME/warehouse.duckdb.",
    )
    dataset: str = Field(
        "ny_taxi", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Dataset (schema) of the warehouse."
    )
    bigquery_location: str = Field("US", description="Location of the BigQuery dataset.")
    bigquery_endpoint: str | None = Field(
        None, description="Address of a BigQuery emulator, for trying things out; unset: Google's."
    )
    gcp_key_file: Path | None = Field(None, description="Service account key; unset: Application Default Credentials.")

    automation: Literal["off", "on", "declarative"] | None = Field(
        None,
        description="`on`: schedules and sensors run from the start; `declarative`: so do they, and sinks follow clean_trips "
        "by conditions; unset: off in the local profile, on in the gcp profile. In the UI each can be switched at any time.",
    )
    sensor_seconds: int = Field(600, ge=5, description="Seconds between two looks for new months.")
    monthly_cron: str = Field("0 7 20 * *", description="When the newest published month is loaded (New York time).")
    reconcile_cron: str = Field("0 6 * * *", description="When missing, failed and outdated months are looked for.")
    reconcile_months: int = Field(
        24, ge=1, description="Newest months that reconciliation loads when they are missing."
    )
    reconcile_runs: int = Field(
        5, ge=1, description="Most runs one reconciliation launches; the other months are named."
    )
    deadline_days: int = Field(
        7, ge=0, description="Days after its publication in which every sink has the newest month."
    )
    alert_webhook: SecretStr | None = Field(None, description="Address that alerts are posted to, as Slack takes them.")
    smtp_url: SecretStr | None = Field(
        None, description="Mail server of alerts: smtp://user:password@host:587 or smtps://host:465."
    )
    alert_email: str | None = Field(None, description="Who gets alerts by mail, separated by commas.")
    alert_repeat_hours: float = Field(24, gt=0, description="Hours in which the same failure is not told again.")
    ui_url: str = Field("http://127.0.0.1:3000", description="Address of the Dagster UI, for links in alerts.")

    @field_validator("object_template")
    @classmethod
    def _names_the_month(cls, value: str) -> str:
        if "{month}" not in value:
            raise ValueError("must contain {month}, or every month would overwrite the last one")
        return value

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        if unknown := sorted(set(names) - KINDS.keys()):
            told = ", ".join(name or "an empty name" for name in unknown)
            raise ValueError(f"{told} is not a kind of taxi known here ({', '.join(KINDS)})")
        if len(set(names)) < len(names):
            raise ValueError("names a kind of taxi twice")
        return value

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if value in (*PUBLISHERS, "sample"):
            return value
        if "{month}" not in value:  # not told: it may hold a password
            raise ValueError("is neither tlc, datatalks nor sample, nor does it contain {month}")
        address_scheme(value)
        return value

    @field_validator("bucket", "lake")
    @classmethod
    def _known_place(cls, value: str | None, info: ValidationInfo) -> str | None:
        scheme, separator, _ = (value or "").partition("://")
        if separator and not (info.field_name == "bucket" and scheme == "gs"):  # or it would be a directory `s3:`
            allowed = "gs://name or a directory" if info.field_name == "bucket" else "a directory that every worker has"
            raise ValueError(f"{scheme}:// is not supported; use {allowed}")
        return value

    @field_validator("months_per_run")
    @classmethod
    def _months(cls, value: str) -> str:
        if value != "all" and not (value.isdigit() and int(value) > 0):
            raise ValueError("must be a positive number or `all`")
        return value

    @field_validator("monthly_cron", "reconcile_cron")
    @classmethod
    def _cron(cls, value: str, info: ValidationInfo) -> str:
        if value == cls.model_fields[info.field_name or ""].default:
            return value
        from dagster._vendored.croniter import croniter  # by which Dagster judges it; it takes seconds to import

        if len(value.split()) not in (1, 5) or not croniter.is_valid(value):
            raise ValueError("must be a cron expression of five fields, for example `0 6 * * *`")
        try:
            croniter(value).get_next()
        except ValueError:  # croniter's own is one
            raise ValueError("names a day that never comes") from None
        return value

    @field_validator("alert_webhook", "smtp_url", "ui_url")
    @classmethod
    def _address(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        schemes = ("smtp", "smtps") if info.field_name == "smtp_url" else ("http", "https")
        given = value.get_secret_value() if isinstance(value, SecretStr) else value
        if given is not None and not re.fullmatch(rf"({'|'.join(schemes)})://[^\s/]\S*", given):
            raise ValueError(f"must be an address that begins with {schemes[0]}:// or {schemes[1]}://")
        return value

    @field_validator("alert_email")
    @classmethod
    def _mailboxes(cls, value: str | None) -> str | None:
        if value is not None and not all(re.fullmatch(r"[^\s@,]+@[^\s@,]+", each.strip()) for each in value.split(",")):
            raise ValueError("must be one mail address, or several separated by commas")
        return value

    @model_validator(mode="after")
    def _mail_is_whole(self) -> Settings:
        if (self.smtp_url is None) != (self.alert_email is None):
            raise ValueError("TAXI_SMTP_URL and TAXI_ALERT_EMAIL are needed together")
        return self

    @model_validator(mode="after")
    def _kinds_do_not_share_names(self) -> Settings:
        if "," in self.kinds:
            shared = [
                name
                for name in ("object_template", "dataset_prefix", "daily_template")
                if "{kind}" not in getattr(self, name)
            ]
            if shared and (self.daily or shared != ["daily_template"]):
                names = ", ".join(f"TAXI_{name.upper()}" for name in shared)
                raise ValueError(
                    f"with several TAXI_KINDS, {names} must contain {{kind}}, or one kind would overwrite another"
                )
        return self

    @model_validator(mode="after")
    def _cloud_is_named(self) -> Settings:
        if self.profile == "gcp":
            missing = [
                f"TAXI_{name.upper()}"
                for name in ("postgres_url", "bucket", "bigquery_project")
                if getattr(self, name) is None
            ]
            if missing:
                raise ValueError(f"TAXI_PROFILE=gcp needs {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _workers_share(self) -> Settings:
        if self.executor == "celery":
            missing = [f"TAXI_{n.upper()}" for n in ("celery_broker", "postgres_url") if getattr(self, n) is None]
            if missing:
                raise ValueError(
                    f"TAXI_EXECUTOR=celery needs {', '.join(missing)}: the broker, and a Postgres server that every worker "
                    "reaches (the embedded one serves one machine)"
                )
        return self

    @cached_property
    def taxi_kinds(self) -> tuple[TaxiKind, ...]:
        """The kinds of taxi whose assets are defined."""
        return tuple(KINDS[name.strip()] for name in self.kinds.split(","))

    @cached_property
    def home_folder(self) -> Path:
        """TAXI_HOME, absolute."""
        return project_folder() / self.home

    @property
    def cleaning_rules(self) -> CleaningRules:
        """Which trips are kept, where the run config does not say otherwise."""
        return CleaningRules(**{name: getattr(self, name) for name in CleaningRules.model_fields})

    @property
    def automated(self) -> bool:
        """Whether schedules and sensors run from the start."""
        return (self.automation or ("on" if self.profile == "gcp" else "off")) != "off"

    @property
    def staging_folder(self) -> Path:
        """Where files are written before they are published."""
        return self.home_folder / "staging"

    @property
    def lake_folder(self) -> Path:
        """Where raw and clean months are kept between assets."""
        return project_folder() / self.lake if self.lake else self.home_folder / "lake"

    @property
    def bucket_location(self) -> str:
        """`gs://name`, or an absolute directory."""
        if self.bucket and self.bucket.startswith("gs://"):
            return self.bucket.rstrip("/")
        return str(project_folder() / self.bucket if self.bucket else self.home_folder / "bucket")


@lru_cache
def get_settings() -> Settings:
    """The settings of this process.

    Raises:
        PermanentError: a value is not allowed; the sentence names the variable.
    """
    try:
        return Settings(_env_file=project_folder() / ".env")
    except ValidationError as error:
        raise PermanentError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """One sentence for each wrong setting; values are left out, for they may be secret."""
    return (
        " ".join(
            f"{'TAXI_' + str(e['loc'][0]).upper() + ': ' if e['loc'] else ''}{e['msg'].removeprefix('Value error, ')}."
            for e in error.errors(include_input=False, include_url=False)
        )
        + " See .env.example for every setting."
    )
