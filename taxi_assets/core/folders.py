"""Where files are staged by default."""

from __future__ import annotations

import tempfile
from pathlib import Path


def default_staging() -> str:
    """Where sinks stage files that are not told where: a folder for temporary files."""
    return str(Path(tempfile.gettempdir()) / "taxi_assets")
