"""Ctrl-C ends a command at once, whatever it is doing.

Python's own handling waits until the main thread returns from C code, and Dagster replaces it while a job runs: a download or a
connection was finished first. No load depends on an orderly end: whatever kills a run, the previous month is intact.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Self

INTERRUPTED = "Interrupted."
LOAD_INTERRUPTED = "Interrupted. The previous month is intact; run it again to continue."
EXIT_CODE = 130
LAST_SECONDS = 0.5
"""How long a last action may take before the process ends."""


class Interrupts:
    """While it is entered, Ctrl-C prints `sentence` and ends the process with exit code 130.

    SIGINT is blocked in the thread that enters and in those that are started from it, and one thread waits for it. Child
    processes inherit the block, so that those that Dagster starts during a step do not print tracebacks; Postgres sets a signal
    mask of its own. A process that was started to ignore SIGINT, a shell's background job, still ignores it.
    """

    def __init__(self, sentence: str = INTERRUPTED) -> None:
        self.sentence = sentence
        self._last_action: Callable[[], object] = lambda: print(end="", flush=True)

    def __enter__(self) -> Self:
        self._ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        if not self._ignored:
            self._leaving = False
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self._stderr = os.dup(2)  # Dagster redirects standard error while a step runs
            self._thread = threading.Thread(target=self._wait, name="interrupts", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ignored:
            self._leaving = True
            signal.pthread_kill(self._thread.ident or 0, signal.SIGINT)
            self._thread.join()
            os.close(self._stderr)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    @contextmanager
    def last_action(self, action: Callable[[], object]) -> Generator[None]:
        """Call `action` before the process is ended by Ctrl-C in this block; it is not waited for longer than LAST_SECONDS."""
        previous, self._last_action = self._last_action, action
        try:
            yield
        finally:
            self._last_action = previous

    @contextmanager
    def paused(self) -> Generator[None]:
        """Let Ctrl-C raise KeyboardInterrupt in the main thread in this block."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def _wait(self) -> None:
        signal.sigwait({signal.SIGINT})
        if self._leaving:
            return

        def finish() -> None:
            with suppress(Exception):  # the process ends, whatever becomes of it
                self._last_action()

        finishing = threading.Thread(target=finish, daemon=True)
        finishing.start()
        finishing.join(LAST_SECONDS)
        start = "\n" if os.isatty(self._stderr) else ""  # a progress bar, or the terminal's ^C, is on the line
        os.write(self._stderr, f"{start}{self.sentence}\n".encode())
        os._exit(EXIT_CODE)
