"""The shipped .env.example lists exactly the settings."""

import re
from pathlib import Path

from taxi_assets.settings import Settings

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"


def test_env_example_and_settings_name_the_same_variables():
    shown = set(re.findall(r"^#?(TAXI_[A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert shown == {f"TAXI_{name.upper()}" for name in Settings.model_fields}
