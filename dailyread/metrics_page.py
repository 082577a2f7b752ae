"""Serves `/metrics` for Prometheus from a thread of its own."""

from __future__ import annotations

import argparse
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def add_metrics_argument(parser: argparse.ArgumentParser) -> None:
    """The argument `--metrics HOST:PORT`, the same for every command that has it."""
    parser.add_argument(
        "--metrics", metavar="HOST:PORT", type=_host_and_port, help="serve /metrics for Prometheus there (default: nowhere)"
    )


def serve_metrics(address: tuple[str, int], exposition: Callable[[], bytes]) -> ThreadingHTTPServer:
    """Answers at (host, port) until the process ends; OSError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/metrics"
            body = exposition() if found else b"/metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are not logged."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    server = Server(address, Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f'"{text}"; allowed: host:port, as 127.0.0.1:9465')
    return host.strip("[]"), int(port)
