"""Tell systemd how a service is: ready, alive, stopping (sd_notify(3)). Without systemd every call does nothing.

For the commands that run for long (`collect`, `stream`, `store`), whose units are `Type=notify` with a watchdog:

    notify = Notifier()
    notify.ready()                    # once: configuration read, files open, the work begins. A server that is away does
                                      # not matter: waiting for it is part of the work
    while working:
        notify.alive()                # from the loop that does the work, as often as it likes, at least every 10 s;
        ...                           # with asyncio also `asyncio.create_task(notify.beat())` where one loop does all
    notify.stopping()                 # when SIGTERM came

A process that does not say that it is alive for WatchdogSec is killed and started again. So `alive` belongs where work gets
stuck, never into a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

BEAT_S = 10.0  # units have a WatchdogSec of several of these


class Notifier:
    """The way to systemd, by the socket in $NOTIFY_SOCKET. Notifying never fails: the work matters more."""

    def __init__(self, environ: Mapping[str, str] = os.environ, monotonic: Callable[[], float] = time.monotonic) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # An @ stands for the zero byte of an abstract socket.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._monotonic = monotonic
        self._alive_at_s = float("-inf")

    def ready(self) -> None:
        """The service does its work from now on."""
        self._send("READY=1")

    def alive(self) -> None:
        """The service still works; sent at most every `BEAT_S`."""
        now_s = self._monotonic()
        if now_s - self._alive_at_s >= BEAT_S:
            self._alive_at_s = now_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The service has been told to end, and finishes what it has begun."""
        self._send("STOPPING=1")

    async def beat(self) -> None:
        """Say `alive` for as long as this event loop turns; ends by cancellation."""
        while True:
            self.alive()
            await asyncio.sleep(BEAT_S)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto(message.encode(), self._address)
        except OSError:
            pass
