"""Errors for the person who must act: what happened, to which month or file, and what to do.

Everything the package raises on purpose is one of two kinds, by what a retry would bring; anything else is a bug.
"""


class TaxiError(Exception):
    """Base of the errors raised on purpose: one sentence that names the month or file and the remedy."""


class PermanentError(TaxiError):
    """A retry would fail the same way: a damaged file, an unknown column, a month not published, a wrong setting."""


class NotPublishedYet(PermanentError):
    """A recent month that is not published: a backfill of all missing months passes over it."""


class TransientError(TaxiError):
    """A retry may succeed: a network fault, a lock held too long, a server that is down or overloaded."""


def disk_full(error: BaseException) -> bool:
    """Whether `error` or what caused it is the operating system's "no space left on device" (or over quota)."""
    import errno

    seen: BaseException | None = error
    while seen is not None:
        full = isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
