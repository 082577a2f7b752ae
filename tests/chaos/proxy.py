"""A TCP proxy between two of the processes, which spoils what passes as it is told.

It runs in a thread of its own, with an event loop for all proxies; its methods may be called from any other thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

CHUNK_BYTES = 64 * 1024


class Network:
    """The thread and the loop in which proxies run; `close` ends them all."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def link(self, port: int, to: int) -> Link:
        """A proxy that listens on a port of loopback and connects to another one. OSError where the port is not free."""
        link = Link(self._loop, to)
        asyncio.run_coroutine_threadsafe(link.listen(port), self._loop).result(10)
        self._links.append(link)
        return link

    def close(self) -> None:
        """End all connections, and listen no more."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        for link in self._links:
            link.end()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Link:
    """One proxy. What it does to a connection holds from then on for those that there are and for new ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop, to: int) -> None:
        self._loop, self._to = loop, to
        self._delay_s = 0.0
        self._is_cut = self._loses_answers = False
        self._flows = asyncio.Event()  # to be waited for in the loop only
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self, port: int) -> None:
        """Begin; for `Network`."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)

    def end(self) -> None:
        """Listen no more, and end every connection; for `Network`."""
        self._server.close()
        self._end_all()

    def cut(self) -> None:
        """Every connection ends at once, and so does every new one."""
        self._set(is_cut=True)

    def silence(self) -> None:
        """Nothing passes either way, and nothing ends: what is sent waits, and passes when it is mended."""
        self._set(flows=False)

    def lose_answers(self) -> None:
        """Who connects is heard, and hears nothing; when it is mended these connections end."""
        self._set(loses_answers=True)

    def delay(self, seconds: float) -> None:
        """What passes comes so much later, each way."""
        self._set(delay_s=seconds)

    def mend(self) -> None:
        """All passes again, at once."""
        self._set()

    def _set(self, *, is_cut: bool = False, loses_answers: bool = False, flows: bool = True, delay_s: float = 0.0) -> None:
        def change() -> None:
            if is_cut or self._loses_answers:
                self._end_all()
            self._is_cut, self._loses_answers, self._delay_s = is_cut, loses_answers, delay_s
            (self._flows.set if flows else self._flows.clear)()

        self._loop.call_soon_threadsafe(change)

    def _end_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, back_writer}
        self._open |= ends
        if self._is_cut:
            self._end_all()
        there = asyncio.create_task(self._pump(reader, back_writer, lambda: False))
        back = asyncio.create_task(self._pump(back_reader, writer, lambda: self._loses_answers))
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for task in (there, back):
            task.cancel()
        for each in ends:
            each.transport.abort()
        self._open -= ends

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: Callable[[], bool]) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._flows.wait()
                if not loses():
                    writer.write(data)
                    await writer.drain()
