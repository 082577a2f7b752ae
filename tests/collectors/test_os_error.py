"""Reasons of the system, as a person is told them: no numbers, and none that it does not know."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import serial

from collectors.os_error import in_words


def refused_by_asyncio() -> None:
    asyncio.run(asyncio.wait_for(asyncio.open_connection("127.0.0.1", 1), 10))


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda: Path("/dev/there-is-none").read_bytes(), "No such file or directory"),
        (lambda: serial.Serial("/dev/there-is-none"), "No such file or directory"),
        (lambda: serial.Serial(__file__), "the line cannot be set up: Inappropriate ioctl for device"),
        (lambda: socket.create_connection(("127.0.0.1", 1), 10), "Connection refused"),
        (refused_by_asyncio, "Connection refused"),
    ],
)
def test_a_reason_is_in_words(work: Callable[[], object], said: str) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        work()
    assert in_words(caught.value) == said


def test_a_name_that_is_not_known_has_a_number_of_its_own() -> None:
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo("meter.invalid", 502)
    assert in_words(caught.value) == caught.value.strerror


def test_what_has_no_number_says_what_it_says() -> None:
    assert in_words(OSError("it is no serial line")) == "it is no serial line"
    assert in_words(TimeoutError()) == "TimeoutError"
