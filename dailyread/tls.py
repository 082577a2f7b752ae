"""TLS for our clients: the broker is verified, and we show a certificate where there is one."""

from __future__ import annotations

import ssl
from pathlib import Path

from dailyread.settings import Secret


def client_context(
    ca_file: Path | None, certificate_file: Path | None = None, key_file: Path | None = None, key_password: Secret | None = None
) -> ssl.SSLContext:
    """A context that verifies who answers, by `ca_file` or the system's certificates. OSError where a file cannot be used."""
    context = ssl.create_default_context(cafile=ca_file)
    if certificate_file is not None:
        # Without a password given, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate_file, key_file, key_password.reveal() if key_password else "")
    return context
