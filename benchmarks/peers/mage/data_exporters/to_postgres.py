"""The course's exporter: Mage's own Postgres client, replacing the table."""

from os import path

from mage_ai.io.config import ConfigFileLoader
from mage_ai.io.postgres import Postgres
from mage_ai.settings.repo import get_repo_path

if "data_exporter" not in globals():
    from mage_ai.data_preparation.decorators import data_exporter


@data_exporter
def export_data_to_postgres(df, **kwargs) -> None:
    with Postgres.with_config(ConfigFileLoader(path.join(get_repo_path(), "io_config.yaml"), "default")) as loader:
        loader.export(df, "mage", "yellow_cab_data", index=False, if_exists="replace")
