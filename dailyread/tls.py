"""TLS for our clients: the broker is verified, and we show a certificate where there is one.

Certificates are replaced while programs run, so what a client of a service keeps is a context that reads its files anew for
every connection that it makes.
"""

from __future__ import annotations

import logging
import socket
import ssl
from pathlib import Path
from typing import Any

from dailyread.settings import Secret

log = logging.getLogger(__name__)


def client_context(
    ca_file: Path | None, certificate_file: Path | None = None, key_file: Path | None = None, key_password: Secret | None = None
) -> ssl.SSLContext:
    """A context that verifies who answers, by `ca_file` or the system's certificates. OSError where a file cannot be used."""
    context = ssl.create_default_context(cafile=ca_file)
    if certificate_file is not None:
        # Without a password given, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate_file, key_file, key_password.reveal() if key_password else "")
    return context


class FreshContext(ssl.SSLContext):
    """As `client_context`, with the files as they are when a connection is made.

    Where they cannot be used at that moment (a certificate is there already, and its key is not yet), those of before count.
    """

    _last: ssl.SSLContext
    _files: tuple[Any, ...]

    @classmethod
    def of(cls, *files: Any) -> FreshContext:
        """For the arguments of `client_context`. OSError where a file cannot be used now."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._files, context._last = files, client_context(*files)
        return context

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **keywords: Any) -> ssl.SSLSocket:
        """As `ssl.SSLContext.wrap_socket`."""
        try:
            self._last = client_context(*self._files)
        except OSError as error:
            log.warning("TLS: the certificates' files cannot be used as they are now (%s); as before", error)
        return self._last.wrap_socket(sock, *arguments, **keywords)
