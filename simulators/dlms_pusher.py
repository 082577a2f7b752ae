"""A simulated meter that pushes by DLMS/COSEM: DataNotification in wrappers, over a TCP connection of its own.

What it pushes are its logical device name, its clock, and rows of its log (`LAYOUT`). With keys it ciphers, and says who it is
by its system title.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from collectors.dlms_base import NeedData
from collectors.dlms_link import WrapperReader, wrapped
from collectors.dlms_security import Ciphering, Keys
from collectors.dlms_xdlms import CONFIRMED_NOTIFICATION, DataNotification, NotificationConfirm, decode_message
from simulators.dlms_side import TITLE, DlmsSide

SERVER_PORT, COLLECTOR_PORT = 1, 0x66
LAYOUT = 'objects = ["0-0:42.0.0", "0-0:1.0.0", "7-0:99.99.2"]'  # as a DLMS map's table `push` has it


class DlmsPusher:
    """One meter, which pushes to a listener at `host:port`."""

    def __init__(
        self, side: DlmsSide, host: str, port: int, *, keys: Keys | None = None, title: bytes = TITLE, confirmed: bool = True
    ) -> None:
        self._side, self._host, self._port = side, host, port
        self._ciphering = None if keys is None else Ciphering(title, keys, 1, general=True)
        self._flags = CONFIRMED_NOTIFICATION if confirmed else 0
        self._invoke_id = 0

    def notification(self, first: datetime, last: datetime) -> bytes:
        """The next message, with the rows in [first, last]."""
        self._invoke_id += 1
        message = DataNotification(self._invoke_id, None, self._side.pushed(first, last), self._flags).encode()
        return message if self._ciphering is None else self._ciphering.protect(message)

    async def push(self, first: datetime, last: datetime, timeout_s: float = 5.0) -> bool:
        """Push the rows in [first, last]; whether it was confirmed within `timeout_s`. Raises OSError."""
        return await self.send(self.notification(first, last), timeout_s)

    async def send(self, message: bytes, timeout_s: float = 5.0) -> bool:
        """Push these octets, whatever they are; whether the last notification was confirmed. Raises OSError."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        answers = WrapperReader()
        try:
            writer.write(wrapped(SERVER_PORT, COLLECTOR_PORT, message))
            async with asyncio.timeout(timeout_s):
                while data := await reader.read(4096):
                    answers.receive_data(data)
                    if not isinstance(found := answers.next_message(), NeedData):
                        return decode_message(found.message) == NotificationConfirm(self._invoke_id, self._flags)
        except TimeoutError:
            pass
        finally:
            writer.close()
        return False
