"""The output of `make run`: a progress bar on a terminal, plain lines elsewhere."""

import logging
import os
import pty

from taxi_assets.assets.common import RateLimiter
from taxi_assets.terminal import terminal_logger


def log(stream, monkeypatch, *lines: str, during: str = "") -> None:
    """Log the lines; with `during`, as while a step runs: Dagster then has this file in the place of standard output."""
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr(RateLimiter, "seconds", RateLimiter.seconds)
    logger = terminal_logger(None)
    if during:
        with open(during, "w") as file:
            os.dup2(file.fileno(), stream.fileno())
    for line in lines:
        logger.handle(logging.makeLogRecord({"msg": line, "levelno": logging.INFO}))


LINES = ("2021-01: 5.0 MB downloaded (25 %)", "2021-01: 20.0 MB downloaded (100 %)", "2021-01: 1,369,765 rows.")


def test_a_terminal_shows_a_bar_that_the_next_line_replaces(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        log(stream, monkeypatch, *LINES)
        shown = ""
        while not shown.endswith("rows.\r\n"):  # a terminal returns one line at a time
            shown += os.read(reader, 10_000).decode()
    os.close(reader)
    first, second, last = shown.split("\r\x1b[K")
    assert first.endswith("(25 %) [#####...............]")
    assert second.endswith(f"(100 %) [{20 * '#'}]")
    assert last.strip() == LINES[-1]
    assert shown.count("\n") == 1


def test_the_bar_reaches_the_terminal_while_dagster_keeps_what_a_step_prints(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "120")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        log(stream, monkeypatch, *LINES, during=str(tmp_path / "step"))
        shown = os.read(reader, 10_000).decode()
        assert RateLimiter.seconds == 1.0
    os.close(reader)
    assert "(25 %) [#####...............]" in shown
    assert (tmp_path / "step").read_text() == ""


def test_a_narrow_terminal_keeps_the_bar_in_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        log(stream, monkeypatch, LINES[0])
        shown = os.read(reader, 10_000).decode()
    os.close(reader)
    assert len(shown) <= 60
    assert shown.endswith("]")


def test_a_file_gets_plain_lines(monkeypatch, tmp_path, capsys):
    path = tmp_path / "log"
    with path.open("w") as stream:
        log(stream, monkeypatch, *LINES)
    assert [line.strip() for line in path.read_text().splitlines()] == list(LINES)
