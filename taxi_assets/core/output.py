"""Text output whose reader may go away: `make summary | head -1`."""

from __future__ import annotations

import io
import os
from typing import Any, TextIO


def open_output(descriptor: int) -> TextIO:
    """Return a text stream on a file descriptor. What is written after its reader has gone is dropped: the work continues."""
    raw = _Output(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), errors="backslashreplace", line_buffering=raw.isatty())


class _Output(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)
