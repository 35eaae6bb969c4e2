"""The project folder and TAXI_HOME: where settings are read, in which order, and where everything is written.

Relative paths count from the project folder: DAGSTER_HOME where it is set, else the working directory.

`dagster dev`, `dagster asset materialize` and the processes they start put the `.env` of the working directory over their
environment. Linux keeps the environment that a process was started with in /proc; elsewhere what Dagster did cannot be undone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field, PrivateAttr
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

_DAGSTER = re.compile(r"(?:.*/)?(?:dagster[\w.-]*|dg)|from multiprocessing\..*")
"""An argument of a process of Dagster's: the program, the module, or the code of a child that multiprocessing started."""


def project_folder() -> Path:
    """Return the folder that relative paths count from: DAGSTER_HOME, else the working directory."""
    return Path(os.environ.get("DAGSTER_HOME") or ".").resolve()


class HomeSettings(BaseSettings):
    """TAXI_HOME alone: what Dagster's storage needs to know, even when another setting is wrong."""

    model_config = SettingsConfigDict(env_prefix="TAXI_", extra="ignore", env_ignore_empty=True, frozen=True)
    _folder: Path = PrivateAttr(default_factory=project_folder)

    home: Path = Field(Path(".taxi"), description="Folder for everything written at run time.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over `.env`, also under Dagster's command line, which puts `.env` over the environment."""
        assert isinstance(env_settings, EnvSettingsSource)
        assert isinstance(dotenv_settings, EnvSettingsSource)
        env_settings.env_vars = without_dotenv(env_settings.env_vars, dotenv_settings.env_vars)
        return init_settings, env_settings, dotenv_settings

    @property
    def folder(self) -> Path:
        """The folder that relative paths count from."""
        return self._folder

    @property
    def home_folder(self) -> Path:
        """TAXI_HOME, absolute."""
        return self.folder / self.home

    @property
    def history_folder(self) -> Path:
        """Folder of Dagster's runs, events and logs (dagster.yaml, `taxi_assets.history`)."""
        return self.home_folder / "dagster"

    @property
    def history_lock(self) -> Path:
        """File that is locked while a process uses Dagster's history."""
        return self.history_folder / "in_use.lock"


def load_home() -> HomeSettings:
    """Read TAXI_HOME, as `load_settings` does, without validating the other settings."""
    return HomeSettings(_env_file=project_folder() / ".env")


def without_dotenv(environment: Mapping[str, str | None], dotenv: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the environment with the values that Dagster's command line replaced by those of `.env`; names in lower case."""
    result, started = dict(environment), None
    for name, value in environment.items():
        if name in dotenv and dotenv[name] == value:
            started = list(_started_with()) if started is None else started
            other = next((each.get(name) for each in started if each.get(name) != value), value)
            result[name] = other or value  # a variable that was not set, or empty, was no choice
    return result


def _started_with() -> Iterator[dict[str, str]]:
    """Yield what this process and its ancestors were started with, up to the first process that is not Dagster's."""
    process = "self"
    while process != "0":
        folder = Path("/proc", process)
        try:
            arguments = _read(folder / "cmdline").split("\0")
            environment = _read(folder / "environ").split("\0")
            (process,) = re.findall(r"^PPid:\s*(\d+)$", _read(folder / "status"), re.MULTILINE)
        except OSError:  # no /proc, another user's process, or one that has ended
            return
        if not any(_DAGSTER.fullmatch(argument) for argument in arguments[1:4]):
            return
        pairs = (line.partition("=") for line in environment)
        yield {name.lower(): value for name, separator, value in pairs if separator}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")
