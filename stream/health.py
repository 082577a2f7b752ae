"""What a worker says about itself: `/health` for people and probes, `/metrics` for Prometheus."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Protocol

import msgspec

from stream.metrics import exposition

State = Literal["starting", "recovering", "running", "kafka_away", "stalled", "halted", "poisoned"]


class Notify(Protocol):
    """Whoever started the worker, and is told how it is: systemd."""

    def ready(self) -> None:
        """It does its work from now on."""

    def alive(self) -> None:
        """It still does. A worker of whom this is not heard is to be started again."""

    def stopping(self) -> None:
        """It was told to end."""


class PartitionHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: frames before `position` are done, `lag` are not; `halted` says why nothing goes on there.
    `dead_past_cap`: of this hour's facts and frames that could not be used, those for which there was no dead letter left."""

    position: int
    lag: int | None
    halted: str | None = None
    stalled: bool = False
    dead_past_cap: int = 0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, as `/health` shows it. `partitions` by number; `rules`: the digest of those it works by; `relay`: it relays
    broadcast facts and publishes ticks."""

    state: State
    group: str
    instance: str
    partitions: dict[int, PartitionHealth] = {}
    rules: str = ""
    relay: bool = False
    relay_halted: str | None = None
    relay_dead_past_cap: int = 0

    @property
    def well(self) -> bool:
        """Whether nobody needs to look."""
        return self.state not in ("kafka_away", "stalled", "halted", "poisoned")


class HealthServer:
    """Serves `/health` and `/metrics` at (host, port) in a thread of its own; OSError where the port is taken."""

    def __init__(self, address: tuple[str, int], health: Callable[[], Health]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(self, health)

            def log_message(self, *_: object) -> None:
                """Requests are not logged."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

        server = Server(address, Handler)
        threading.Thread(target=server.serve_forever, name="health", daemon=True).start()


def _answer(request: BaseHTTPRequestHandler, health: Callable[[], Health]) -> None:
    path = request.path.partition("?")[0]
    if path == "/health":
        now = health()
        _send(request, 200 if now.well else 503, "application/json", msgspec.json.encode(now) + b"\n")
    elif path == "/metrics":
        _send(request, 200, "text/plain; version=0.0.4; charset=utf-8", exposition())
    else:
        _send(request, 404, "text/plain", b"/health or /metrics\n")


def _send(request: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
