"""Serves simulated meters by DLMS/COSEM: over TCP in wrappers or in HDLC frames, as a serial converter hands them on, and
in HDLC frames on a pseudo-terminal.

    side = DlmsSide(meter, DlmsAccess(), clock.now, "its name")
    port = await DlmsServer(side).listen()              # tcp://127.0.0.1:PORT, device 1, a map with link = "wrapper"
    port = await DlmsServer(side, Address(1, 17, 2)).listen()      # device 1/17, link = "hdlc"
    pty = DlmsPty(side, Address(1, 17, 2)); pty.start()            # serial:PATH, the same

A meter that opens by mode E is the simulator of IEC 62056-21 with `Make(hdlc=DlmsServer(side, address).hears())`; one that
pushes is in `dlms_pusher.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from collectors.dlms_base import NeedData, RemoteError
from collectors.dlms_hdlc import Address
from collectors.dlms_link import WrapperReader, wrapped
from simulators.dlms_hdlc_side import HdlcSide
from simulators.dlms_side import DlmsSide
from simulators.pty_line import PtyLine


class DlmsServer:
    """Serves one meter on a TCP port of its own, in wrappers or, where `hdlc` has its address, in HDLC frames."""

    def __init__(self, side: DlmsSide, hdlc: Address | None = None, wrapper_port: int = 1) -> None:
        self._side, self._hdlc, self._wrapper_port = side, hdlc, wrapper_port
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and say on which port."""
        self._server = await asyncio.start_server(self._talk, host, port)
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def close(self) -> None:
        """Hang up."""
        if self._server is not None:
            self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hears = self.hears()
        if (task := asyncio.current_task()) is not None:
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
        try:
            while data := await reader.read(4096):
                writer.write(self._spoilt(hears(data)))
                await writer.drain()
        except (OSError, RemoteError):
            pass
        finally:
            self._side.disconnected()
            writer.close()

    def _spoilt(self, said: bytes) -> bytes:
        if not said:
            return said
        match self._side.meter.spoils_answer():
            case "wrong_check":
                return said[:-2] + bytes([said[-2] ^ 0x01]) + said[-1:] if self._hdlc is not None else b"\xff" + said[1:]
            case "short":
                return said[: len(said) // 2]
            case _:
                return said

    def hears(self) -> Callable[[bytes], bytes]:
        """The meter's end of one connection: bytes in, bytes out."""
        if self._hdlc is not None:
            return HdlcSide(self._hdlc, self._side.hears, self._side.disconnected).hears
        return self._wrapper_hears()

    def _wrapper_hears(self) -> Callable[[bytes], bytes]:
        messages = WrapperReader()

        def hears(data: bytes) -> bytes:
            messages.receive_data(data)
            said = b""
            while not isinstance(found := messages.next_message(), NeedData):
                answer = self._side.hears(found.message, found.source) if found.destination == self._wrapper_port else b""
                said += wrapped(found.destination, found.source, answer) if answer else b""
            return said

        return hears


class DlmsPty(PtyLine):
    """Serves one meter on a pseudo-terminal of its own, in HDLC frames; `path` is what a collector opens. `link`: a path to
    make a symbolic link to it at."""

    def __init__(self, side: DlmsSide, hdlc: Address, link: Path | None = None) -> None:
        self._hears = DlmsServer(side, hdlc).hears()
        super().__init__(link)

    def _hear(self) -> None:
        """A frame is less than a pseudo-terminal takes at a time, and the next comes only when it was heard."""
        os.write(self._master, self._hears(os.read(self._master, 4096)))
