"""A Mosquitto broker of a test's own, on a free loopback port, that keeps its sessions on disk."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class Mosquitto:
    """`with Mosquitto(folder) as broker`; `extra` are lines of its configuration. It may be killed and started again."""

    def __init__(self, folder: Path, extra: str = "allow_anonymous true") -> None:
        if MOSQUITTO is None:
            pytest.fail("there is no MQTT broker: install Debian's package `mosquitto`")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\n{extra}\nuser root\n"
            f"persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
            "max_queued_messages 0\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(MOSQUITTO), "-c", str(self._folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        pytest.fail(f"mosquitto does not listen: {(self._folder / 'log').read_text()}")

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
