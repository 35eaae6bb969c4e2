"""The Dagster logger of `make run` and `make backfill`: what people at a terminal want to read."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from typing import Any

from taxi_assets.assets.common import Pace


def terminal_logger(_: Any) -> logging.Logger:
    """A Dagster logger for people at a terminal: what the assets say, and errors, a line each.

    It keeps the standard output of its start: while a step runs, Dagster puts a file in its place.
    """
    logger = logging.Logger("taxi_assets.cli.terminal", logging.INFO)
    handler = _Terminal(os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    Pace.seconds = 1.0 if handler.stream.isatty() else Pace.seconds
    handler.addFilter(
        lambda record: not _meta(record).get("dagster_event") and "Not executing." not in record.getMessage()
    )
    handler.setFormatter(_Line())
    logger.addHandler(handler)
    return logger


def _meta(record: logging.LogRecord) -> dict[str, Any]:
    """What Dagster's log manager adds to a record."""
    return getattr(record, "dagster_meta", {})


class _Terminal(logging.StreamHandler):
    """A line each; at a terminal, progress is a bar in the last line, which whatever comes next replaces."""

    CLEAR, WIDTH = "\r\x1b[K", 20
    _drawn = False

    def emit(self, record: logging.LogRecord) -> None:
        line, clear = self.format(record), self.CLEAR if self._drawn else ""
        share = re.search(r"\((\d+) %\)", line) if self.stream.isatty() else None
        if share:
            bar = "#" * round(self.WIDTH * min(int(share[1]), 100) / 100)
            room = shutil.get_terminal_size().columns - self.WIDTH - 4
            self.stream.write(f"{clear}{line[:room]} [{bar:.<{self.WIDTH}}]")
        else:
            self.stream.write(f"{clear}{line}\n")
        self._drawn = bool(share)
        self.flush()


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = _meta(record)
        level = "warning: " if record.levelno == logging.WARNING else ""
        return f"{(meta.get('step_key') or ''):<24} {level}{meta.get('orig_message', record.getMessage())}"
