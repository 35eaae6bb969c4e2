"""The Dagster logger of `taxi-assets run` and `backfill`: messages of the assets, for a person at a terminal."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from typing import Any

from taxi_assets.assets.common import RateLimiter
from taxi_assets.core.failures import failure_sentence
from taxi_assets.core.output import open_output


def terminal_logger(_: Any) -> logging.Logger:
    """Return a Dagster logger that prints messages of the assets and errors, one line each.

    It duplicates standard output when it is created, because Dagster redirects standard output while a step runs.
    """
    logger = logging.Logger("taxi_assets.terminal")
    handler = _Terminal(open_output(os.dup(sys.stdout.fileno())))
    RateLimiter.seconds = 1.0 if handler.stream.isatty() else RateLimiter.seconds
    handler.addFilter(_is_shown)
    handler.setFormatter(_Line())
    logger.addHandler(handler)
    return logger


def _is_shown(record: logging.LogRecord) -> bool:
    """Return whether a record is a message, or a step that is to be retried: other events of Dagster are for its UI."""
    if event := getattr(record, "dagster_meta", {}).get("dagster_event"):
        return event.is_step_up_for_retry
    return record.levelno >= logging.INFO and "Not executing." not in record.getMessage()


class _Terminal(logging.StreamHandler):
    """Writes one line per message; at a terminal, a percentage is a progress bar that the next message overwrites."""

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
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})  # what Dagster's log manager added
        level = "warning: " if record.levelno == logging.WARNING else ""
        message = meta.get("orig_message", record.getMessage())
        if event := meta.get("dagster_event"):
            seconds = event.step_retry_data.seconds_to_wait or 0
            level, message = "warning: ", f"{failure_sentence(event)} The step is repeated in {seconds:.0f} s."
        return f"{(meta.get('step_key') or ''):<24} {level}{message}"
