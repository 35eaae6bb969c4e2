"""An address with a password is refused if it parses differently than it was meant; no part of it is printed or in Dagster."""

import dagster as dg
import psycopg.conninfo
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap  # what a code server sends to the UI

from taxi_assets.core.errors import PermanentError
from taxi_assets.definitions import build_defs
from taxi_assets.publisher.published import host, redact
from taxi_assets.settings import load_settings

MAIL = {"alert_email": "me@example.com"}
CELERY = {"executor": "celery", "postgres_url": "postgresql://db/trips"}
SETTINGS = {
    "postgres_url": ("postgresql://{}@127.0.0.1:5432/trips", {}),
    "source": ("https://{}@127.0.0.1:8080/{{month}}.csv", {}),
    "zones": ("https://{}@127.0.0.1:8080/zones.csv", {}),
    "alert_webhook": ("https://{}@127.0.0.1/hook", {}),
    "smtp_url": ("smtp://{}@127.0.0.1:587", MAIL),
    "celery_broker": ("redis://{}@127.0.0.1:6379/0", CELERY),
    "celery_backend": ("redis://{}@127.0.0.1:6379/0", {"celery_broker": "redis://127.0.0.1", **CELERY}),
}


def set_all(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setenv(f"TAXI_{name.upper()}", value)


def refusal(monkeypatch, **values) -> str:
    set_all(monkeypatch, **values)
    with pytest.raises(PermanentError) as error:
        load_settings()
    return str(error.value)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    "login",
    ["u:Mark@Er", "u:Mark@9/Er#1", "u:9/MarkEr", "u:Mark?Er", "u:Mark#Er", "u:Mark Er", "u:Mark%Er", "u:[MarkEr",
     "Mark/Er:1", "u:Mark\tEr", "u:9/Mark?x=Er"],
)  # fmt: skip
def test_a_password_that_is_not_percent_encoded_is_refused_in_every_address(monkeypatch, name, login):
    template, others = SETTINGS[name]
    sentence = refusal(monkeypatch, **others, **{name: template.format(login)})
    assert f"TAXI_{name.upper()} must be" in sentence
    assert "percent-encoded" in sentence
    assert "Mark" not in sentence
    assert "Er" not in sentence.replace("Error", "")
    assert "\n" not in sentence


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("login", ["u:MarkEr", "u:%40%2F%3F%23%25%20", ":MarkEr", "MarkEr", "u:a:b;c!$&'()*+,=~-._"])
def test_a_percent_encoded_password_is_accepted_in_every_address(monkeypatch, name, login):
    template, others = SETTINGS[name]
    set_all(monkeypatch, **others, **{name: template.format(login)})
    assert "MarkEr" not in repr(load_settings())


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("postgresql://127.0.0.1/trips", {"host": "127.0.0.1", "dbname": "trips"}),
        ("postgres://u:p%40ss@db:5432/trips", {"user": "u", "password": "p@ss", "host": "db", "port": "5432"}),
        ("postgresql://u:p@[2001:db8::1]:5432/trips", {"host": "2001:db8::1", "port": "5432"}),
        ("postgresql://u:p@h1:1,h2:2/trips", {"host": "h1,h2", "port": "1,2"}),
        ("postgresql://u:p@%2Fvar%2Frun%2Fpostgresql/trips", {"host": "/var/run/postgresql"}),
        ("postgresql:///trips?host=/var/run/postgresql&user=u&password=p%40ss", {"password": "p@ss"}),
        ("postgresql://u:p@db/trips?sslmode=verify-full&sslrootcert=/etc/ca.pem", {"sslrootcert": "/etc/ca.pem"}),
        ("postgresql://u:p@db?connect_timeout=3", {"host": "db", "connect_timeout": "3"}),
        ("postgresql:///?service=trips", {"service": "trips"}),
        ("host=127.0.0.1 port=5432 user=u password=p@s/s#? dbname=trips", {"password": "p@s/s#?", "host": "127.0.0.1"}),
        (r"host = db  password = 'it\'s a secret'", {"password": "it's a secret"}),
        (r"password=it's\ me host=/var/run/postgresql", {"password": "it's me", "host": "/var/run/postgresql"}),
    ],
)
def test_addresses_that_libpq_parses_as_they_are_meant_are_accepted(monkeypatch, address, parsed):
    assert parsed.items() <= psycopg.conninfo.conninfo_to_dict(address).items()
    set_all(monkeypatch, postgres_url=address)
    assert load_settings().postgres_url.get_secret_value() == address


@pytest.mark.parametrize(
    "address",
    [
        "host=db password=Mark Er",
        "host=db password='Mark'Er'",
        "host=db password=Mark host=Er",
        "host=db dbname=postgresql://u:MarkEr@db/trips",
        "MarkEr",
        "mysql://u:MarkEr@db/trips",
        "postgresql+psycopg://u:MarkEr@db/trips",
        "postgresql://u:MarkEr/trips",
        "postgresql://db:MarkEr/trips",
        "postgresql://db/trips?password=Mark@Er",
        "postgresql://db/trips?password=Mark#Er",
        "postgresql://db/trips?password=Mark&Er",
        "postgresql://db?user=Mark@Er",
        "postgresql://db/trips#MarkEr",
    ],
)
def test_other_postgres_addresses_that_hide_a_password_in_the_wrong_place_are_refused(monkeypatch, address):
    sentence = refusal(monkeypatch, postgres_url=address)
    assert "TAXI_POSTGRES_URL must be postgresql://user:password@host:5432/database" in sentence
    assert "Mark" not in sentence


@pytest.mark.parametrize(
    "source",
    [
        "u:MarkEr@host/{month}.csv",
        "//u:MarkEr@host/{month}.csv",
        "https:/u:MarkEr@host/{month}.csv",
        "u:MarkEr@host/x",
        "https://host/{month}.csv#token=MarkEr",
        "https://u:Mark/Er@host/x",
        "https://host:x/MarkEr/{month}.csv",
    ],
)
def test_a_source_that_would_be_taken_for_a_path_or_another_host_is_refused(monkeypatch, source):
    sentence = refusal(monkeypatch, source=source)
    assert "TAXI_SOURCE must be" in sentence
    assert "Mark" not in sentence


@pytest.mark.parametrize(
    "source",
    [
        "https://cdn.example.com/gh/owner/trips@main/{kind}_{month}.parquet",
        "http://127.0.0.1:8080/{month}.csv?token=a/b",
        "https://[::1]:8443/{month}.csv",
        "HTTPS://{kind}.example.com/{month}.csv",
        "data/{month}@home.csv",
        "/data/a:b/{month}.csv",
        "file:///data/{month}.csv",
    ],
)
def test_other_sources_are_accepted(monkeypatch, source):
    set_all(monkeypatch, source=source)
    assert load_settings().source == source


@pytest.mark.parametrize(
    "broker",
    ["redis://:p@h1:1;redis://:p@h2:2", "amqp://u:p@host//", "redis+socket:///run/redis.sock", "sqs://key:secret@",
     "rediss://host:6379/0?ssl_ca_certs=/etc/ca.pem"],
)  # fmt: skip
def test_the_addresses_of_celery_are_accepted(monkeypatch, broker):
    set_all(monkeypatch, celery_broker=broker)
    assert load_settings().celery_broker.get_secret_value() == broker


@pytest.mark.parametrize(
    ("address", "shown", "server"),
    [
        ("https://u:MarkEr@host:1/a.csv", "https://***@host:1/a.csv", "host:1"),
        ("https://MarkEr@host/a.csv?token=MarkEr", "https://***@host/a.csv?***", "host"),
        ("https://host/a.csv?token=Mark@Er", "https://host/a.csv?***", "host"),
        ("https://host/a.csv#token=MarkEr", "https://host/a.csv?***", "host"),
        ("https://cdn/trips@main/a.csv", "https://cdn/trips@main/a.csv", "cdn"),
        ("/data/a@b.csv", "/data/a@b.csv", ""),
    ],
)
def test_an_address_is_shown_without_its_secrets(address, shown, server):
    assert redact(address) == shown
    assert host(address) == server


def test_no_secret_is_in_the_snapshot_that_the_ui_shows(monkeypatch):
    set_all(
        monkeypatch,
        source="https://u:MarkEr@host/{month}.csv?token=MarkEr",
        postgres_url="postgresql://u:MarkEr@127.0.0.1:5432/trips",
        smtp_url="smtp://u:MarkEr@host",
        alert_webhook="https://host/MarkEr",
        **MAIL,
    )
    defs = build_defs()
    shown = dg.serialize_value(RepositorySnap.from_def(defs.get_repository_def()))
    assert '"publisher"' in shown
    assert "MarkEr" not in shown
