"""What systemd hears, on a real datagram socket in its place."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dailyread.sdnotify import BEAT_S, Notifier


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens as systemd's, and its name for $NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@dailyread-{unique}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.setblocking(False)
        yield listener, name


def heard(listener: socket.socket) -> list[str]:
    messages = []
    try:
        while True:
            messages.append(listener.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_systemd_hears_each_state(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd
    notify = Notifier({"NOTIFY_SOCKET": name})
    notify.ready()
    notify.alive()
    notify.stopping()
    assert heard(listener) == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_alive_is_said_once_a_beat_however_often_it_is_called(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd
    now = [100.0]
    notify = Notifier({"NOTIFY_SOCKET": name}, monotonic=lambda: now[0])
    for _ in range(5):
        notify.alive()
    now[0] += BEAT_S
    notify.alive()
    assert heard(listener) == ["WATCHDOG=1", "WATCHDOG=1"]


def test_beat_speaks_until_it_is_cancelled(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd

    async def run() -> None:
        task = asyncio.create_task(Notifier({"NOTIFY_SOCKET": name}).beat())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert heard(listener) == ["WATCHDOG=1"]


def test_without_systemd_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notify = Notifier(environ)
        notify.ready()
        notify.alive()
        notify.stopping()
