"""Connections to Postgres, and the translation of its errors into actionable messages.

No message contains a password: it is removed from libpq's texts, and an invalid URL is not repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from taxi_assets.core.errors import PermanentError, TaxiError, TransientError
from taxi_assets.core.failures import report_retry

RETRY_AFTER = (0.25, 0.5, 1.0, 2.0)
"""Seconds between attempts to connect; longer waits are the run's, which retries the step."""

_OPTIONS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",  # seconds; a load balancer forgets a silent connection after some minutes
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds until unacknowledged data is an error
    "application_name": "taxi_assets",
    "client_encoding": "utf8",  # in a SQL_ASCII database psycopg would read text as bytes
}
"""Used where the address does not say otherwise."""

_LASTING = {
    "password authentication failed": "check the user and password in TAXI_POSTGRES_URL",
    "no password supplied": "add the password to TAXI_POSTGRES_URL",
    "no pg_hba.conf entry": "let the server accept this user from this machine (or use TLS: ?sslmode=require)",
    "root certificate file": "name the server's certificate authority: &sslrootcert=FILE in TAXI_POSTGRES_URL",
    "does not exist": "create it, or correct TAXI_POSTGRES_URL",
    "permission denied for database": "grant CONNECT on it, or correct TAXI_POSTGRES_URL",
    "for connection option": "correct TAXI_POSTGRES_URL",
    "invalid sslmode value": "correct TAXI_POSTGRES_URL",
    "does not support SSL": "enable TLS on the server, or remove sslmode from TAXI_POSTGRES_URL",
    "certificate verify failed": "name the server's certificate authority: &sslrootcert=FILE in TAXI_POSTGRES_URL",
    "does not match host name": "use the host name of its certificate in TAXI_POSTGRES_URL",
}
"""Permanent connection errors (libpq reports them as text without a code), and what to do."""


class Server:
    """A server and database that can be connected to; `address` is called at every attempt (it may start the server)."""

    def __init__(self, address: Callable[[], str], statement_timeout: float) -> None:
        self._address, self._statement_timeout = address, statement_timeout
        self.name = "Postgres"
        """`host:port, database name`, known once an address was read."""

    @contextmanager
    def connected(self, what: str) -> Generator[psycopg.Connection]:
        """A connection in autocommit mode, closed at the end; Postgres errors become the package's, about `what` (a month).

        Raises:
            TransientError: the server cannot be reached or went away.
            PermanentError: the server refused the connection or the statement.
        """
        try:
            with self._connect(what) as connection:
                yield connection
        except psycopg.Error as error:
            raise self._explained(what, error) from error

    @contextmanager
    def transaction(self, what: str) -> Generator[psycopg.Cursor]:
        """A transaction on a new connection: committed when the block ends, rolled back when it raises."""
        with self.connected(what) as connection, connection.transaction(), connection.cursor() as cursor:
            self.limit(cursor)
            yield cursor

    def limit(self, cursor: psycopg.Cursor) -> None:
        """Limit the time of a statement in this transaction only: behind a pooler, the connection is another client's next."""
        timeout = sql.Literal(round(self._statement_timeout * 1000))
        # a query would fix the isolation level
        cursor.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(timeout))

    def _connect(self, what: str) -> psycopg.Connection:
        for attempt, wait in enumerate((*RETRY_AFTER, None), 1):
            parameters = self._parameters()
            try:
                connection = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
            except psycopg.OperationalError as error:
                text = _scrubbed(error, parameters)
                for lasting, remedy in _LASTING.items():
                    if lasting in text:
                        raise PermanentError(
                            f"{what}: {self.name} refuses the connection ({text}): {remedy}."
                        ) from None
                if wait is None:
                    raise TransientError(
                        f"{what}: {self.name} cannot be reached ({text}); start it or correct TAXI_POSTGRES_URL, then "
                        "run it again."
                    ) from None
                report_retry(f"{what}: {self.name} cannot be reached ({text})", attempt + 1, len(RETRY_AFTER) + 1, wait)
                time.sleep(wait)
            else:
                connection.add_notice_handler(lambda _: None)
                return connection
        raise AssertionError("unreachable")

    def _parameters(self) -> dict[str, Any]:
        try:
            parameters = {**_OPTIONS, **conninfo_to_dict(self._address())}
        except psycopg.ProgrammingError:
            raise PermanentError(
                "TAXI_POSTGRES_URL is not an address of Postgres: write postgresql://user:password@host:5432/database, "
                "with special characters of the password percent-encoded."
            ) from None
        host, port = parameters.get("host", "localhost"), parameters.get("port", 5432)
        self.name = f"Postgres on {host}:{port}, database {parameters.get('dbname') or parameters.get('user', '')}"
        return parameters

    def _explained(self, what: str, error: psycopg.Error) -> TaxiError:
        if isinstance(error, (errors.DiskFull, errors.OutOfMemory)):
            kind, remedy = PermanentError, "free some on the server, then run it again"
        elif isinstance(error, errors.InsufficientPrivilege):
            kind = PermanentError
            remedy = (
                "use a user who may create there and owns the tables, or name another schema in TAXI_POSTGRES_SCHEMA"
            )
        elif isinstance(error, errors.ReadOnlySqlTransaction):
            kind, remedy = PermanentError, "name the primary server in TAXI_POSTGRES_URL"
        elif isinstance(error, (errors.OperationalError, errors.InterfaceError, errors.InternalError)):
            kind, remedy = TransientError, "the month is complete, in the old or the new version; run it again"
        else:
            kind, remedy = PermanentError, "the month is unchanged; fix the cause, then run it again"
        message = error.diag.message_primary or str(error).strip().partition("\n")[0]
        return kind(f"{what}: {self.name} says: {message.rstrip('.')}; {remedy}.")


def _scrubbed(error: Exception, parameters: dict[str, Any]) -> str:
    """The message of libpq in one line, without the password."""
    lines: Iterator[str] = (line.strip() for line in str(error).splitlines())
    text = " ".join(line for line in lines if line).replace("connection failed: ", "").rstrip(".")
    for secret in ("password", "sslpassword"):
        if parameters.get(secret):
            text = text.replace(str(parameters[secret]), "***")
    return text
