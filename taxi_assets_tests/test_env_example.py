"""The shipped .env.example lists exactly the settings."""

import re
from pathlib import Path

from taxi_assets.settings import Settings, load_settings

EXAMPLE = Path(__file__).resolve().parents[1] / ".env.example"


def test_env_example_and_settings_name_the_same_variables():
    shown = set(re.findall(r"^#?(TAXI_[A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert shown == {f"TAXI_{name.upper()}" for name in Settings.model_fields}


def test_the_values_of_env_example_are_allowed(monkeypatch):
    shown = dict(re.findall(r"^#?(TAXI_[A-Z_]+)=(.+)$", EXAMPLE.read_text(), re.MULTILINE))
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    assert load_settings().postgres_url.get_secret_value() == "postgresql://user:password@host:5432/database"
