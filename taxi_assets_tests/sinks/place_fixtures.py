"""The fixture `place`: a sink, by the value of the fixture `name` of the module that imports it, in a fresh place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taxi_assets_tests.sinks.places import place_of
from taxi_assets_tests.sinks.places.base import Place


class _Servers:
    """The servers of the session's fixtures, where they are needed."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        fixtures = {"postgres": "postgres_server", "gcs": "gcs_of_session", "bigquery": "bigquery"}
        return self._request.getfixturevalue(fixtures[name])


@pytest.fixture
def place(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place_of(name, _Servers(request), tmp_path) as place:
        yield place
