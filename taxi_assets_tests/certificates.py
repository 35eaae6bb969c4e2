"""Certificates for servers of tests."""

import shutil
import subprocess
from pathlib import Path

import pytest


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """An untrusted, self-signed certificate."""
    if not shutil.which("openssl"):
        pytest.skip("a certificate of one's own needs openssl")
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *subject,
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
