"""One request over HTTP(S): made with time limits, its failure said in words, its secrets kept out of them.

What is worth another try is raised as `Again`, what is not as `PermanentError`. Trying again is in `download`; what an
answer means for a month is in `source`.
"""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import unquote, urlsplit

import requests
from requests import exceptions as failures
from requests.auth import HTTPBasicAuth
from urllib3 import exceptions as causes

from taxi_assets.core.errors import PermanentError
from taxi_assets.publisher.offer import Published, host, redact

PIECE_BYTES = 1 << 20
"""Most that is read from the network at a time."""

RETRIED = {408, 425, 429, *range(500, 600)} - {501, 505}
"""Statuses that say "not now" (RFC 9110, RFC 6585)."""


class Again(Exception):
    """A fault that another attempt may not meet: `trouble` in words, and how many seconds the server asked to wait."""

    def __init__(self, trouble: str, after: float = 0.0):
        super().__init__(trouble)
        self.trouble, self.after = trouble, after


def without_credentials(address: str) -> tuple[str, HTTPBasicAuth | None]:
    """The address that is asked, and the user and password that stood in it.

    Raises:
        PermanentError: it is not an http(s) address.
    """
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # a wrong port raises
    except ValueError:
        valid = False
    if not valid:
        raise PermanentError(
            f"{redact(address)} is not an http(s) address; check TAXI_SOURCE (special characters in a password are "
            "written as %XX)."
        )
    credentials, at, netloc = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    login = HTTPBasicAuth(unquote(user).encode(), unquote(password).encode()) if at else None
    return parts._replace(netloc=netloc).geturl(), login


class Web:
    """A session of requests. `connect_seconds` and `read_seconds` limit each wait, not the whole answer."""

    def __init__(self, connect_seconds: float, read_seconds: float):
        try:
            release = version("taxi-assets")
        except PackageNotFoundError:  # run from a source tree
            release = "0"
        self._timeout = (connect_seconds, read_seconds)
        self._session = requests.Session()
        self._session.max_redirects = 5
        # identity: a length and a range speak of the file itself, and a .csv.gz is not unpacked behind our back
        self._session.headers.update({"User-Agent": f"taxi-assets/{release}", "Accept-Encoding": "identity"})

    def ask(self, method: str, address: str, headers: dict[str, str] | None = None) -> requests.Response:
        """The answer, its body still to be read; redirects are followed within http(s). Close it after use.

        Raises:
            Again: no answer, or one that says "not now".
            PermanentError: another attempt would fail the same way (certificate, address, redirects).
        """
        bare, credentials = without_credentials(address)
        trouble: Exception
        try:
            answer = self._session.request(
                method,
                bare,
                headers=headers,
                auth=credentials,
                stream=True,
                allow_redirects=True,
                timeout=self._timeout,
            )
        except (failures.RequestException, causes.HTTPError, UnicodeError) as error:
            trouble = _in_words(error, address)
        else:
            if answer.status_code not in RETRIED:
                return answer
            answer.close()
            trouble = Again(f"{host(address)} answers {answer.status_code} {answer.reason}", retry_after(answer))
        raise trouble  # outside `except`: the library's own error would carry the address with its secrets along

    def pieces(self, answer: requests.Response, address: str) -> Iterator[bytes]:
        """The body as it comes in, never unpacked; a piece is what the network has just now, so a slow one is noticed.

        Raises:
            Again: the connection broke, or nothing came for `read_seconds`.
        """
        while True:
            trouble: Exception | None = None
            try:
                piece = answer.raw.read1(PIECE_BYTES, decode_content=False)
            except (causes.HTTPError, OSError) as error:
                trouble = _in_words(error, address)
            if trouble:
                raise trouble
            if not piece:
                return
            yield piece


def published(address: str, answer: requests.Response) -> Published:
    """What the headers of a 200 or 206 say of the whole file."""
    headers = answer.headers
    part_of = headers.get("Content-Range", "").rpartition("/")[2]
    size = part_of if answer.status_code == 206 else headers.get("Content-Length", "")
    modified = _date(headers.get("Last-Modified", ""))
    return Published(redact(address), headers.get("ETag") or None, int(size) if size.isdigit() else None, modified)


def packed(answer: requests.Response) -> str:
    """The Content-Encoding that the server put on although it was asked not to, or nothing."""
    return answer.headers.get("Content-Encoding", "").strip().lower().replace("identity", "")


def retry_after(answer: requests.Response) -> float:
    """Seconds that a Retry-After asks to wait, given as a number or as a date; 0 without one."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    moment = _date(text)
    return max(0.0, (moment - dt.datetime.now(dt.UTC)).total_seconds()) if moment else 0.0


def _date(text: str) -> dt.datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


_PERMANENT = {
    "shows a certificate that is not trusted here: check the clock, and REQUESTS_CA_BUNDLE if a proxy signs": (
        ssl.SSLCertVerificationError,
    ),
    "sends from one address to another without end: check TAXI_SOURCE": (failures.TooManyRedirects,),
    "sends on to an address that is not http(s): check TAXI_SOURCE": (failures.InvalidSchema, failures.MissingSchema),
    "cannot be asked, for the address is not valid: check TAXI_SOURCE": (
        failures.InvalidURL,
        failures.InvalidHeader,
        causes.LocationParseError,
        UnicodeError,
    ),
}
_TRANSIENT = {
    "cannot be found (no such name, or no network): check the network and TAXI_SOURCE": (causes.NameResolutionError,),
    "refuses the connection: no server listens there": (ConnectionRefusedError,),
    "does not take the connection in time": (failures.ConnectTimeout, causes.ConnectTimeoutError),
    "sends nothing for too long": (failures.Timeout, causes.TimeoutError, TimeoutError),
    "cannot be reached through the proxy: check HTTPS_PROXY": (failures.ProxyError, causes.ProxyError),
    "broke off in the middle": (
        ssl.SSLEOFError,
        ConnectionResetError,
        ConnectionAbortedError,
        BrokenPipeError,
        causes.IncompleteRead,
        causes.ProtocolError,
    ),
}
_PLAIN_TLS = "does not speak TLS as expected: check whether TAXI_SOURCE should say http or https"
"""What a failed request is called, by what is found among its causes; the first that fits counts."""


def _in_words(error: BaseException, address: str) -> Exception:
    """What to raise for a failed request; never the library's own text, which holds the address with its query."""
    chain = list(_causes(error))
    for table, make in ((_PERMANENT, PermanentError), (_TRANSIENT, Again)):
        for words, types in table.items():
            if any(isinstance(cause, types) for cause in chain):
                return make(f"{host(address)} {words}")
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return PermanentError(f"{host(address)} {_PLAIN_TLS}")
    return Again(f"{host(address)} cannot be reached ({type(chain[-1]).__name__})")


def _causes(error: object) -> Iterator[BaseException]:
    """The error and those it was made from: requests keeps them as arguments, urllib3 as `reason` and as causes."""
    seen: list[object] = [error]
    for item in seen:
        if isinstance(item, BaseException):
            yield item
            inner = (*item.args, getattr(item, "reason", None), item.__cause__, item.__context__)
            seen += [new for new in inner if isinstance(new, BaseException) and not any(new is old for old in seen)]
