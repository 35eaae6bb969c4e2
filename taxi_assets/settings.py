"""The settings: environment variables TAXI_* and `.env`, validated, with the local profile as default.

Entry points call `load_settings` once and pass the result on; no other module reads the environment for a setting. Where the
values come from, and what paths are relative to, is in `core.home`; which addresses are allowed in `core.addresses`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator

from taxi_assets.core.addresses import require_git_host, require_postgres_address, require_url, require_url_or_path
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.home import HomeSettings, project_folder
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.publisher.file_settings import FileSettings
from taxi_assets.publisher.source import PUBLISHERS, address_scheme, require_source


def _require_brokers(urls: str) -> None:
    for url in re.split(r";(?=[a-z+]+://)", urls):  # several are separated by semicolons
        require_url(url, path=False)


_ADDRESSES: Mapping[str, Callable[[str], None]] = {
    "postgres_url": require_postgres_address,
    "celery_broker": _require_brokers,
    "celery_backend": _require_brokers,
    "alert_webhook": partial(require_url, schemes=("http", "https")),
    "smtp_url": partial(require_url, schemes=("smtp", "smtps"), path=False),
    "ui_url": partial(require_url, schemes=("http", "https")),
    "git_url": require_git_host,
}
"""What checks the settings that are addresses; no message contains a part of one."""


class Settings(HomeSettings, CleaningRules, FileSettings):
    """All settings, one field per variable: `source` is TAXI_SOURCE. `.env.example` says what each means. Those of the cleaning
    rules are in `datasets.rules`, those about other tools' files in `publisher.file_settings`."""

    profile: Literal["local", "gcp"] = "local"
    kinds: str = "yellow"
    # Not shown, as addresses may contain a password or a token:
    source: str = Field("tlc", repr=False)
    zones: str | None = Field(None, repr=False)
    fhv_bases: str | None = Field(None, repr=False)
    zone_outlines: str | None = Field(None, repr=False)
    sample_rows: int = Field(100_000, ge=1)

    executor: Literal["in_process", "multiprocess", "celery"] = "in_process"
    celery_broker: SecretStr | None = None
    celery_backend: SecretStr | None = None
    celery_redeliver_seconds: int = Field(1800, ge=10)
    months_per_run: str = "1"

    postgres_url: SecretStr | None = None
    postgres_schema: str = Field("ny_taxi", pattern=r"^[a-z_][a-z0-9_]{0,62}$")

    bucket: str | None = None
    object_template: str = "nyc_taxi_data/{kind}_tripdata_{month}.parquet"
    dataset_prefix: str = "nyc_taxi_data/{kind}_tripdata_by_day"
    # Off by default: the partitions of gcs_daily are days, and `dagster asset materialize --select '*' --partition` accepts only
    # assets of one partitions definition.
    daily: bool = False
    daily_template: str = "{year}/{month}/{day}/daily-trips.parquet"
    lake: str | None = None

    bigquery_project: str | None = None
    dataset: str = Field("ny_taxi", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    bigquery_location: str = "US"
    bigquery_endpoint: str | None = None
    gcp_key_file: Path | None = None

    automation: Literal["off", "on", "declarative"] | None = None
    sensor_seconds: int = Field(600, ge=5)
    monthly_cron: str = "0 7 20 * *"
    reconcile_cron: str = "0 6 * * *"
    reconcile_months: int = Field(24, ge=1)
    reconcile_runs: int = Field(5, ge=1)
    audit_cron: str = "0 3 * * 0"
    audit_months: int = Field(50, ge=1)
    repair: bool = False
    deadline_days: int = Field(7, ge=0)
    alert_webhook: SecretStr | None = None
    smtp_url: SecretStr | None = None
    alert_email: str | None = None
    alert_repeat_hours: float = Field(24, gt=0)
    ui_url: str = "http://127.0.0.1:3000"
    git_url: str | None = None
    git_ref: str = "main"

    @field_validator("object_template")
    @classmethod
    def _contains_month(cls, value: str) -> str:
        if "{month}" not in value:
            raise ValueError("must contain {month}; otherwise each month would overwrite the previous one")
        return value

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        if unknown := sorted(set(names) - KINDS.keys()):
            quoted = ", ".join(repr(name) for name in unknown)
            raise ValueError(f"must be a list of {', '.join(KINDS)}, separated by commas; got {quoted}")
        if len(set(names)) < len(names):
            raise ValueError("must not contain a kind twice")
        return value

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if value in (*PUBLISHERS, "sample"):
            return value
        require_url_or_path(value)
        require_source(value)
        return value

    @field_validator("zones", "fhv_bases", "zone_outlines")
    @classmethod
    def _known_lookup(cls, value: str | None) -> str | None:
        if value:
            require_url_or_path(value)
            address_scheme(value, ("https", "http", "file"), "https:// or a path")
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

    @field_validator("monthly_cron", "reconcile_cron", "audit_cron")
    @classmethod
    def _cron(cls, value: str) -> str:
        try:  # as Dagster does when a schedule is defined and when it computes a tick
            dg.ScheduleDefinition(name="schedule", job_name="job", cron_schedule=value)
            dg.TimeWindowPartitionsDefinition("2000-01-01", "%Y-%m-%d", cron_schedule=value).get_first_partition_key()
        except (dg.DagsterInvalidDefinitionError, ValueError):
            raise ValueError(
                "must be a cron expression of five fields for a day that exists, for example `0 6 * * *`"
            ) from None
        return value

    @field_validator(*_ADDRESSES)
    @classmethod
    def _address(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        if value:
            url = value.get_secret_value() if isinstance(value, SecretStr) else value
            _ADDRESSES[str(info.field_name)](url)
        return value

    @field_validator("alert_email")
    @classmethod
    def _mailboxes(cls, value: str | None) -> str | None:
        if value is not None and not all(re.fullmatch(r"[^\s@,]+@[^\s@,]+", each.strip()) for each in value.split(",")):
            raise ValueError("must be one email address, or several separated by commas")
        return value

    @model_validator(mode="after")
    def _email_is_complete(self) -> Settings:
        if (self.smtp_url is None) != (self.alert_email is None):
            raise ValueError("TAXI_SMTP_URL and TAXI_ALERT_EMAIL must be set together")
        return self

    @model_validator(mode="after")
    def _kinds_do_not_share_names(self) -> Settings:
        names = ("object_template", "dataset_prefix", *(["daily_template"] if self.daily else []))
        shared = [f"TAXI_{name.upper()}" for name in names if "{kind}" not in getattr(self, name)]
        if shared and "," in self.kinds:
            raise ValueError(
                f"with several TAXI_KINDS, {', '.join(shared)} must contain {{kind}}; otherwise one kind would overwrite another"
            )
        return self

    @model_validator(mode="after")
    def _cloud_is_complete(self) -> Settings:
        missing = self._unset("postgres_url", "bucket", "bigquery_project")
        if missing and self.profile == "gcp":
            raise ValueError(f"TAXI_PROFILE=gcp needs {missing}")
        return self

    @model_validator(mode="after")
    def _celery_is_complete(self) -> Settings:
        missing = self._unset("celery_broker", "postgres_url")
        if missing and self.executor == "celery":
            raise ValueError(
                f"TAXI_EXECUTOR=celery needs {missing}: the broker, and a Postgres server that every worker can reach (the "
                "embedded one serves one machine only)"
            )
        return self

    def _unset(self, *names: str) -> str:
        """Return the variables of those settings that are not set."""
        return ", ".join(f"TAXI_{name.upper()}" for name in names if getattr(self, name) is None)

    @cached_property
    def taxi_kinds(self) -> tuple[TaxiKind, ...]:
        """The kinds of taxi whose assets are defined."""
        return tuple(KINDS[name.strip()] for name in self.kinds.split(","))

    @property
    def cleaning_rules(self) -> CleaningRules:
        """The default cleaning rules; the run config of clean_trips can override them."""
        return CleaningRules(**{name: getattr(self, name) for name in CleaningRules.model_fields})

    @property
    def automated(self) -> bool:
        """Whether schedules and sensors are on by default."""
        return (self.automation or ("on" if self.profile == "gcp" else "off")) != "off"

    @property
    def staging_folder(self) -> Path:
        """Folder of files that are being written."""
        return self.home_folder / "staging"

    @property
    def lake_folder(self) -> Path:
        """Folder of the months that assets pass on."""
        return self.folder / self.lake if self.lake else self.home_folder / "lake"

    @property
    def bucket_location(self) -> str:
        """`gs://name`, or an absolute directory."""
        if self.bucket and self.bucket.startswith("gs://"):
            return self.bucket.rstrip("/")
        return str(self.folder / self.bucket if self.bucket else self.home_folder / "bucket")


def load_settings(folder: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings from the environment and from `.env` in `folder`, by default the project folder.

    `overrides` are settings by field name that win over both; None is a setting's default.

    Raises:
        PermanentError: a value is not allowed; the message names the variable.
    """
    folder = folder or project_folder()
    try:
        settings = Settings(_env_file=folder / ".env", **overrides)
    except ValidationError as error:
        raise PermanentError(explain(error)) from None  # which has the values, some of them secret
    settings._folder = folder.resolve()
    return settings


def explain(error: ValidationError) -> str:
    """Return one sentence per invalid setting. Values are omitted, because they may be secret."""
    sentences = []
    for each in error.errors(include_input=False, include_url=False):
        name = f"TAXI_{each['loc'][0]}".upper() if each["loc"] else ""
        message = each["msg"].removeprefix("Value error, ").removeprefix("Input ")
        separator = "" if not name else " " if message.startswith(("must ", "should ")) else ": "
        sentences.append(f"{name}{separator}{message}.")
    return f"{' '.join(sentences)} See .env.example for every setting."
