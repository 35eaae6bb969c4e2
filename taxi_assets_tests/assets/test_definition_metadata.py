"""What the UI shows of an asset beside its runs: its code, its table, and what flows into it."""

from pathlib import Path

import pytest
from pydantic import ValidationError

import taxi_assets
from taxi_assets.definitions import build_defs
from taxi_assets.settings import Settings

REFERENCES = "dagster/code_references"


def metadata(settings: Settings) -> dict[str, dict]:
    """The definition metadata of every asset, by its name."""
    graph = build_defs(settings).get_repository_def().asset_graph
    return {key.to_user_string(): dict(graph.get(key).metadata) for key in graph.get_all_asset_keys()}


def test_every_asset_links_to_its_code_on_this_machine():
    for name, about in metadata(Settings(daily=True)).items():
        (reference,) = about[REFERENCES].code_references
        assert Path(reference.file_path).is_relative_to(Path(taxi_assets.__file__).parent), name
        assert Path(reference.file_path).read_text().splitlines()[reference.line_number - 1].strip(), name


def test_every_asset_links_to_the_git_host_that_is_named():
    for name, about in metadata(Settings(git_url="https://github.com/me/taxi", git_ref="v1")).items():
        (reference,) = about[REFERENCES].code_references
        assert reference.url.startswith("https://github.com/me/taxi/tree/v1/taxi_assets/assets/"), name


@pytest.mark.parametrize(
    "url", ["https://token@github.com/me/taxi", "github.com/me/taxi", "https://example.com/me/taxi"]
)
def test_an_address_that_cannot_be_linked_or_has_a_token_is_refused(url):
    with pytest.raises(ValidationError, match="at GitHub or GitLab without user or token"):
        Settings(git_url=url)


def test_tables_are_named_in_full():
    cloud = Settings(
        profile="gcp",
        kinds="yellow,green",
        postgres_url="postgresql://me:secret@there/trips",
        postgres_schema="taxi",
        bucket="gs://mine",
        bigquery_project="project",
    )
    named = {
        name: about["dagster/table_name"] for name, about in metadata(cloud).items() if "dagster/table_name" in about
    }
    assert named == {
        "postgres_table": "taxi.yellow_cab_data",
        "bq_table": "project.ny_taxi.yellow_cab_data",
        "green/postgres_table": "taxi.green_cab_data",
        "green/bq_table": "project.ny_taxi.green_cab_data",
    }
    assert metadata(Settings())["bq_table"]["dagster/table_name"] == "warehouse.ny_taxi.yellow_cab_data"
    assert metadata(Settings())["postgres_table"]["dagster/table_name"] == "ny_taxi.yellow_cab_data"
