"""Certificates and passwords that change while a program runs: what is there when a connection is made counts."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dailyread.settings import Secret
from dailyread.tls import FreshContext


def make_certificate(folder: Path, name: str) -> Path:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    outputs = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
    subprocess.run([*command.split(), *outputs], check=True, capture_output=True)
    return folder / f"{name}.pem"


@contextmanager
def serving(certificate: Path) -> Iterator[int]:
    """A server with that certificate, which says `hello`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.sendall(b"hello")
            except ssl.SSLError:  # who called does not trust us
                continue
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def hears_hello(context: ssl.SSLContext, port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                return secure.recv(5) == b"hello"
        except ssl.SSLCertVerificationError:
            return False


def test_a_connection_is_made_with_the_certificates_that_are_there_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = (make_certificate(tmp_path, name) for name in ("one", "two"))
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(one.read_bytes())
    context = FreshContext.of(trusted)
    with serving(one) as first, serving(two) as second:
        assert (hears_hello(context, first), hears_hello(context, second)) == (True, False)
        trusted.write_text("half of a certif")
        assert (hears_hello(context, first), hears_hello(context, second)) == (True, False)  # as before
        assert "cannot be used as they are now" in caplog.text
        trusted.write_bytes(two.read_bytes())
        assert (hears_hello(context, first), hears_hello(context, second)) == (False, True)


def test_files_that_cannot_be_used_at_the_start_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        FreshContext.of(tmp_path / "none.pem")


def test_a_secret_of_a_file_is_what_the_file_holds_now(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("one\n")
    secret = Secret("one", file)
    assert secret.reveal() == "one"
    file.write_text("two\n")
    assert secret.reveal() == "two"
    file.write_text("")  # being written
    assert secret.reveal() == "two"
    file.unlink()
    assert secret.reveal() == "two"
    assert "two" not in repr(secret)
