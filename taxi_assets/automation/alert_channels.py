"""The channels of alerts: a webhook that accepts Slack's JSON, and email.

No message contains an address of a channel: the URL of a webhook is a secret, and that of a mail server contains one.
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from taxi_assets.settings import Settings

TIMEOUT_SECONDS = 10.0


class Refused(Exception):
    """A channel refused a message; the text contains no secret."""


@dataclass(frozen=True)
class Message:
    """An alert: `failure`, `warning` or `recovery`, a title of one line, the details, and the URL of a page in the UI."""

    kind: str
    title: str
    details: str
    link: str

    def __str__(self) -> str:
        return f"{self.title}. {self.details} {self.link}"


def channels(settings: Settings) -> list[str]:
    """Return the names of the configured channels."""
    return [name for name, on in (("webhook", settings.alert_webhook), ("email", settings.smtp_url)) if on]


def deliver(channel: str, message: Message, settings: Settings) -> str | None:
    """Send a message to a channel; return why it failed, without the address, or None."""
    try:
        (_post if channel == "webhook" else _email)(message, settings)
    except Exception as error:  # noqa: BLE001 - no error of a channel may stop the sensor
        reason = str(error) if isinstance(error, Refused) else type(error).__name__  # which cannot hold a secret
        variable = "TAXI_ALERT_WEBHOOK" if channel == "webhook" else "TAXI_SMTP_URL"
        return f"The alert could not be delivered by {channel} ({reason}); it will be retried. Check {variable}."
    return None


def _post(message: Message, settings: Settings) -> None:
    """Post Slack's JSON, `{"text": ...}`, which other chat services accept as well."""
    import requests  # not needed to load the definitions

    assert settings.alert_webhook is not None
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    sign = {"failure": ":red_circle:", "warning": ":warning:", "recovery": ":large_green_circle:"}[message.kind]
    title, details = message.title.translate(escape), message.details.translate(escape)
    text = f"{sign} *{title}*\n{details}\n<{message.link}|Open in Dagster>"
    url = settings.alert_webhook.get_secret_value()
    response = requests.post(url, json={"text": text}, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    if not response.ok:
        raise Refused(f"HTTP status {response.status_code}")


def _email(message: Message, settings: Settings) -> None:
    """Send a plain-text email: smtps:// uses TLS from the start, smtp:// uses STARTTLS if the server offers it."""
    assert settings.smtp_url is not None
    assert settings.alert_email is not None
    server = urlsplit(settings.smtp_url.get_secret_value())
    host, context = server.hostname or "localhost", ssl.create_default_context()
    user, password = unquote(server.username or ""), unquote(server.password or "")
    recipients = [address.strip() for address in settings.alert_email.split(",")]
    email = EmailMessage()
    email["Subject"] = f"[taxi_assets] {message.title}"[:200].replace("\n", " ")
    email["From"] = user if "@" in user else recipients[0]
    email["To"] = ", ".join(recipients)
    email.set_content(f"{message.title}\n\n{message.details}\n\n{message.link}\n")
    encrypted = server.scheme == "smtps"
    if encrypted:
        client = smtplib.SMTP_SSL(host, server.port or 465, timeout=TIMEOUT_SECONDS, context=context)
    else:
        client = smtplib.SMTP(host, server.port or 587, timeout=TIMEOUT_SECONDS)
    with client:
        client.ehlo()
        if not encrypted and client.has_extn("starttls"):
            client.starttls(context=context)
            client.ehlo()
            encrypted = True
        if user and password:
            if not encrypted and host not in ("localhost", "127.0.0.1", "::1"):
                raise Refused("the server offers no encryption; the password is not sent unencrypted")
            client.login(user, password)
        client.send_message(email)
