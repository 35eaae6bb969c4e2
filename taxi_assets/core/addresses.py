"""Addresses with a user and password: refused unless every library parses them as they were meant.

An unescaped `@`, `/`, `?` or `#` in a password ends it early: the rest becomes the host, the path or the query, which are
connected to and printed. No message contains any part of an address.
"""

from __future__ import annotations

import re

ENCODED = "with special characters percent-encoded (@ is %40, / is %2F, ? is %3F, # is %23, % is %25, a space is %20)"

_CHARACTER = r"[^\s@/?#%\[\]]|%[0-9A-Fa-f]{2}"
_LOGIN = rf"(?:(?:{_CHARACTER})*@)?"
_HOST = r"(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|(?:[\w.{}~-]|%[0-9A-Fa-f]{2})*)(?::\d*)?"

_URL = re.compile(rf"(?P<scheme>[A-Za-z][\w+.-]*)://{_LOGIN}(?P<host>{_HOST}(?:[,;]{_HOST})*)(?P<rest>[/?]\S*)?")
_POSTGRES_URL = re.compile(  # libpq: "Connection URIs"
    rf"postgres(?:ql)?://{_LOGIN}{_HOST}(?:,{_HOST})*(?:/(?:{_CHARACTER}|/)*)?"
    rf"(?:\?(?:[a-zA-Z0-9_]+=(?:[^\s@?#%&=]|\?|%[0-9A-Fa-f]{{2}})*(?:&|$))*)?"
)
_POSTGRES_PAIR = re.compile(  # libpq: "Keyword/Value Connection Strings"
    r"\s*([a-z0-9_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?)(?:\s+|$)"
)


def require_url(url: str, schemes: tuple[str, ...] = (), *, path: bool = True) -> None:
    """Check a URL.

    Args:
        url: the URL, which may contain a user and password.
        schemes: the schemes that are allowed; any if there are none.
        path: whether the path and the query may contain an `@`. Even then they may not after a colon or another `@`, where it
            may be the end of a password.

    Raises:
        ValueError: it is not such a URL; the text has no part of it.
    """
    found = _URL.fullmatch(url)
    ambiguous = found and "@" in (found["rest"] or "") and (not path or re.search("[:@].*@", url.partition("://")[2]))
    other = found and schemes and (found["scheme"].lower() not in schemes or not found["host"])
    if not found or ambiguous or other or "#" in url:
        begins = f" that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}" if schemes else ""
        raise ValueError(f"must be a URL{begins}, {ENCODED}")


def require_url_or_path(value: str) -> None:
    """Check an http(s) URL; a path is refused if it may be a URL whose beginning is missing or wrong.

    Raises:
        ValueError: as `require_url`.
    """
    if re.match(r"https?:", value, re.IGNORECASE) or ("://" not in value and re.match(r"(?://|[^/]*:).*@", value)):
        require_url(value, ("http", "https"))


def require_git_host(url: str) -> None:
    """Check the address of a repository to which links lead.

    Raises:
        ValueError: it is not at GitHub or GitLab, or has a user or token.
    """
    if not re.match(r"https://[^/@]*(github|gitlab)[^/@]*/[^/@]+/", url):
        raise ValueError(
            "must be an address at GitHub or GitLab without user or token, https://github.com/you/taxi_assets"
        )


def require_postgres_address(address: str) -> None:
    """Check an address of Postgres, a URL or `name=value` pairs, without libpq, which costs more than 100 ms to import.

    Raises:
        ValueError: libpq would not accept it, or would parse it differently than it was meant; the text has no part of it.
    """
    if "://" in address.partition("=")[0] or "=" not in address:
        valid = _POSTGRES_URL.fullmatch(address) is not None
    else:
        pairs = list(_POSTGRES_PAIR.finditer(address))
        values = {pair[1]: pair[2] for pair in pairs}
        whole = "".join(pair[0] for pair in pairs) == address  # nothing is between them
        valid = whole and len(values) == len(pairs) and "://" not in values.get("dbname", "")
    if not valid:
        raise ValueError(
            f"must be postgresql://user:password@host:5432/database, {ENCODED}, or name=value pairs separated by spaces, with "
            "a value that contains spaces in single quotes"
        )
