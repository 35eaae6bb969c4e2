"""One HTTP(S) request: time limits, redirects, and failures as errors that contain no secrets.

Retries are in `download`; what a response means for a month is in `source`.
"""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version

import requests
from requests import exceptions as http
from requests.auth import HTTPBasicAuth
from urllib3 import exceptions as transport

from taxi_assets.core.errors import PermanentError
from taxi_assets.publisher.published import Published, host, redact, split_credentials

CHUNK_BYTES = 1 << 20
"""Maximum number of bytes read from the network at a time."""

RETRYABLE_STATUSES = {408, 425, 429, *range(500, 600)} - {501, 505}
"""Statuses of a temporary failure (RFC 9110, RFC 6585)."""


class RetryableError(Exception):
    """A failed attempt after which another may succeed; `retry_after` is the wait that the server requests, in seconds."""

    def __init__(self, cause: str, remedy: str = "run it again later", retry_after: float = 0.0):
        super().__init__(cause)
        self.remedy, self.retry_after = remedy, retry_after


class HttpClient:
    """A session of requests. `connect_seconds` and `read_seconds` limit each wait, not the whole response."""

    def __init__(self, connect_seconds: float, read_seconds: float):
        try:
            release = version("taxi-assets")
        except PackageNotFoundError:  # run from a source tree
            release = "0"
        self._timeout = (connect_seconds, read_seconds)
        self._session = requests.Session()
        self._session.max_redirects = 5
        # identity: lengths and ranges then count bytes of the file itself, and a .csv.gz is not decompressed in transit
        self._session.headers.update({"User-Agent": f"taxi-assets/{release}", "Accept-Encoding": "identity"})

    def request(self, method: str, address: str, headers: dict[str, str] | None = None) -> requests.Response:
        """Send a request and return the response with its body unread; the caller closes it.

        Redirects are followed within http(s). Errors do not name a month; `download` adds it.

        Raises:
            RetryableError: there was no response, or one with a retryable status.
            PermanentError: another attempt would fail the same way (certificate, address, redirects).
        """
        bare, credentials = split_credentials(address)
        login = HTTPBasicAuth(*credentials) if credentials else None
        try:
            response = self._session.request(
                method, bare, headers=headers, auth=login, stream=True, timeout=self._timeout
            )
        except (http.RequestException, transport.HTTPError, UnicodeError) as error:
            raise _translate(error, address) from None  # the library's error contains the address with its secrets
        if response.status_code in RETRYABLE_STATUSES:
            response.close()
            cause = f"{host(address)} answers {response.status_code} {response.reason}"
            raise RetryableError(cause, retry_after=retry_after(response))
        return response


def chunks(response: requests.Response, address: str) -> Iterator[bytes]:
    """Yield the body as the network delivers it, never decompressed.

    Raises:
        RetryableError: the connection broke, or nothing was received for `read_seconds`.
    """
    try:
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            yield chunk
    except (transport.HTTPError, OSError) as error:
        raise _translate(error, address) from None


def describe(response: requests.Response, address: str) -> Published:
    """Return the description of the whole file in the headers of a 200 or 206."""
    headers = response.headers
    total = headers.get("Content-Range", "").rpartition("/")[2]
    size = total if response.status_code == 206 else headers.get("Content-Length", "")
    modified = _date(headers.get("Last-Modified", ""))
    return Published(redact(address), headers.get("ETag") or None, int(size) if size.isdigit() else None, modified)


def retry_after(response: requests.Response) -> float:
    """Return the seconds that a Retry-After header requests, as a number or as a date; 0 without one."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    date = _date(text)
    return max(0.0, (date - dt.datetime.now(dt.UTC)).total_seconds()) if date else 0.0


def _date(text: str) -> dt.datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date.replace(tzinfo=dt.UTC) if date.tzinfo is None else date.astimezone(dt.UTC)


PERMANENT, RETRYABLE = False, True
FAILURES = (
    (PERMANENT, "presents a certificate that is not trusted", "check the clock, and REQUESTS_CA_BUNDLE if a proxy signs",
     (ssl.SSLCertVerificationError,)),
    (PERMANENT, "redirects too many times", "check TAXI_SOURCE", (http.TooManyRedirects,)),
    (PERMANENT, "redirects to an address that is not http(s)", "check TAXI_SOURCE",
     (http.InvalidSchema, http.MissingSchema)),
    (PERMANENT, "cannot be requested because the address is not valid", "check TAXI_SOURCE",
     (http.InvalidURL, http.InvalidHeader, transport.LocationParseError, UnicodeError)),
    (RETRYABLE, "cannot be resolved: no such host, or no network", "check the network and TAXI_SOURCE",
     (transport.NameResolutionError,)),
    (RETRYABLE, "refuses the connection", "check that the server is running", (ConnectionRefusedError,)),
    (RETRYABLE, "did not respond in time", "run it again later",
     (http.Timeout, transport.TimeoutError, TimeoutError)),
    (RETRYABLE, "cannot be reached through the proxy", "check HTTPS_PROXY", (http.ProxyError, transport.ProxyError)),
    (RETRYABLE, "closed the connection too early", "run it again later",
     (ssl.SSLEOFError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError, transport.IncompleteRead,
      transport.ProtocolError)),
    (PERMANENT, "does not speak TLS as expected", "check whether TAXI_SOURCE should start with http or https",
     (ssl.SSLError,)),
)  # fmt: skip
"""Whether it is retried, cause, remedy and exception types of a failed request; the first row that matches applies."""


def _translate(error: BaseException, address: str) -> PermanentError | RetryableError:
    """Return the error to raise for a failed request; never the library's text, which contains the address."""
    errors = list(_causes(error))
    for retryable, cause, remedy, types in FAILURES:
        if any(isinstance(each, types) for each in errors):
            cause = f"{host(address)} {cause}"
            return RetryableError(cause, remedy) if retryable else PermanentError(f"{cause}; {remedy}.")
    return RetryableError(f"{host(address)} cannot be reached ({type(errors[-1]).__name__})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what caused it: requests keeps causes in `args`, urllib3 in `reason` and as exception causes."""
    errors = [error]
    for each in errors:
        yield each
        causes = (*each.args, getattr(each, "reason", None), each.__cause__, each.__context__)
        errors += [new for new in causes if isinstance(new, BaseException) and not any(new is old for old in errors)]
