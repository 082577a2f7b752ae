"""The proxy spoils what passes as it is told, and passes everything when it is mended."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from tests.chaos.proxy import Link, Network
from tests.integration.cluster import wait_for
from tests.integration.services import free_port
from tests.patience import patient


@pytest.fixture
def echo() -> Iterator[tuple[int, list[bytes]]]:
    """A server that says again what it hears, and what it has heard."""
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            while data := connection.recv(1000):
                heard.append(data)
                connection.sendall(data)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1], heard


@pytest.fixture
def link(echo: tuple[int, list[bytes]]) -> Iterator[tuple[Link, int]]:
    network, port = Network(), free_port()
    yield network.link(port, echo[0]), port
    network.close()


def connected(port: int, timeout_s: float = 10.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=patient(timeout_s))


def said(client: socket.socket, words: bytes) -> bytes:
    """What is answered; empty where the connection has ended."""
    try:
        client.sendall(words)
        return client.recv(1000)
    except ConnectionError:
        return b""


def test_all_passes_at_first(link: tuple[Link, int]) -> None:
    with connected(link[1]) as client:
        assert said(client, b"hello") == b"hello"


def test_cut_ends_what_there_is_and_what_comes_until_it_is_mended(link: tuple[Link, int]) -> None:
    proxy, port = link
    with connected(port) as client:
        assert said(client, b"hello") == b"hello"
        proxy.cut()
        assert said(client, b"hello") == b""
        with connected(port) as another:
            assert said(another, b"hello") == b""
        proxy.mend()
        with connected(port) as another:
            assert said(another, b"hello") == b"hello"


def test_what_is_sent_in_silence_comes_when_it_is_mended(link: tuple[Link, int], echo: tuple[int, list[bytes]]) -> None:
    proxy, port = link
    with connected(port) as client:
        assert said(client, b"hello") == b"hello"
        proxy.silence()
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            said(client, b"are you there")
        assert echo[1] == [b"hello"]
        proxy.mend()
        client.settimeout(patient(10))
        assert client.recv(1000) == b"are you there"


def test_whose_answers_are_lost_is_heard(link: tuple[Link, int], echo: tuple[int, list[bytes]]) -> None:
    proxy, port = link
    with connected(port, timeout_s=0.1) as client:
        proxy.lose_answers()
        with pytest.raises(TimeoutError):
            said(client, b"hello")
        wait_for(lambda: echo[1] == [b"hello"], "it is heard")
        proxy.mend()
        client.settimeout(patient(10))
        assert said(client, b"hello") == b""


def test_what_is_delayed_comes_late(link: tuple[Link, int]) -> None:
    proxy, port = link
    with connected(port) as client:
        proxy.delay(0.1)
        began_s = time.monotonic()
        assert said(client, b"hello") == b"hello"
        assert time.monotonic() - began_s >= 0.2
