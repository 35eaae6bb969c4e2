"""A webhook and a mail server on this machine that record what they receive."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Webhook:
    """What was posted; `answer` is the status it answers with."""

    url: str = ""
    answer: int = 200
    posted: list[dict] = field(default_factory=list)


@contextlib.contextmanager
def webhook() -> Generator[Webhook, None, None]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            if hook.answer == 200:
                hook.posted.append(json.loads(body))
            self.send_response(hook.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with _served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        hook.url = f"http://127.0.0.1:{port}/services/T000/s3cret"
        yield hook


@dataclass
class MailServer:
    """The mails that were accepted, and the logins."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)


@contextlib.contextmanager
def mail_server() -> Generator[MailServer, None, None]:
    """A server with enough of SMTP for one email per connection: EHLO, AUTH PLAIN, MAIL, RCPT, DATA, QUIT."""
    server = MailServer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 ready")
            while line := self.rfile.readline().strip().decode():
                verb = line.split(" ")[0].upper()
                if verb == "EHLO":
                    self.say("250-here")
                    self.say("250 AUTH PLAIN")
                elif verb == "AUTH":
                    server.logins.append(line)
                    self.say("235 welcome")
                elif verb == "DATA":
                    self.say("354 go on")
                    body = b""
                    while (part := self.rfile.readline()) != b".\r\n":
                        body += part
                    server.mails.append(message_from_bytes(body, policy=policy.default))
                    self.say("250 taken")
                elif verb == "QUIT":
                    return self.say("221 bye")
                else:
                    self.say("250 ok")
            return None

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with _served(Server(("127.0.0.1", 0), Handler)) as port:
        server.port = port
        yield server


@contextlib.contextmanager
def _served(server: socketserver.TCPServer) -> Generator[int, None, None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
