"""Where alerts go: a webhook that takes Slack's JSON, and mail. What is told is `alerts`' business.

No address is ever shown: a webhook's is its password, and so is what stands before the @ of a mail server's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxi_assets.settings import Settings

if TYPE_CHECKING:
    import smtplib

SECONDS = 10.0
"""How long a channel is given."""


@dataclass(frozen=True)
class Message:
    """An alert: `failure`, `warning` or `recovery`, a title of one line, the sentence, and the address of the run."""

    kind: str
    title: str
    sentence: str
    link: str

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.title}. {self.sentence} {self.link}"


def channels(settings: Settings) -> list[str]:
    """The channels that are set."""
    return [name for name, on in (("webhook", settings.alert_webhook), ("email", settings.smtp_url)) if on]


def deliver(channel: str, message: Message, settings: Settings) -> str | None:
    """Hand a message to a channel; what stood in the way, in a sentence without the address, or None."""
    try:
        {"webhook": _post, "email": _mail}[channel](message, settings)
    except Exception as error:  # noqa: BLE001 - whatever a channel does, months go on
        variable = {"webhook": "TAXI_ALERT_WEBHOOK", "email": "TAXI_SMTP_URL"}[channel]
        return (
            f"The alert could not be delivered by {channel} ({_harmless(error)}); it will be offered again. "
            f"Check {variable}."
        )
    return None


def _post(message: Message, settings: Settings) -> None:
    """Post Slack's JSON: `{"text": ...}`, which other chats' webhooks take as well."""
    import requests

    assert settings.alert_webhook is not None
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    sign = {"failure": ":red_circle:", "warning": ":warning:", "recovery": ":large_green_circle:"}[message.kind]
    title, sentence = message.title.translate(escape), message.sentence.translate(escape)
    text = f"{sign} *{title}*\n{sentence}\n<{message.link}|Open the run>"
    answer = requests.post(
        settings.alert_webhook.get_secret_value(), json={"text": text}, timeout=SECONDS, allow_redirects=False
    )
    if not answer.ok:
        raise _Refused(f"it answered {answer.status_code}")


def _mail(message: Message, settings: Settings) -> None:
    """Send a plain mail; smtps:// is encrypted from the start, smtp:// as soon as the server offers it."""
    import smtplib
    import ssl
    from email.message import EmailMessage
    from urllib.parse import unquote, urlsplit

    assert settings.smtp_url is not None
    assert settings.alert_email is not None
    server = urlsplit(settings.smtp_url.get_secret_value())
    host = server.hostname or "localhost"
    user, password = unquote(server.username or ""), unquote(server.password or "")
    to = [address.strip() for address in settings.alert_email.split(",")]
    mail = EmailMessage()
    mail["Subject"] = f"[taxi_assets] {message.title}"[:200].replace("\n", " ")
    mail["From"] = user if "@" in user else to[0]
    mail["To"] = ", ".join(to)
    mail.set_content(f"{message.title}\n\n{message.sentence}\n\n{message.link}\n")
    client: smtplib.SMTP
    if server.scheme == "smtps":
        client = smtplib.SMTP_SSL(host, server.port or 465, timeout=SECONDS, context=ssl.create_default_context())
    else:
        client = smtplib.SMTP(host, server.port or 587, timeout=SECONDS)
    with client:
        client.ehlo()
        encrypted = server.scheme == "smtps"
        if not encrypted and client.has_extn("starttls"):
            client.starttls(context=ssl.create_default_context())
            client.ehlo()
            encrypted = True
        if user and password:
            if not encrypted and host not in ("localhost", "127.0.0.1", "::1"):
                raise _Refused("the server offers no encryption, and the password is not sent in the open")
            client.login(user, password)
        client.send_message(mail)


class _Refused(Exception):
    """Said by us, so without secrets."""


def _harmless(error: Exception) -> str:
    """What is safe to tell of an error: our own words, or its class."""
    return str(error) if isinstance(error, _Refused) else type(error).__name__
