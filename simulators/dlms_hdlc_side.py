"""The meter's end of an HDLC link (IEC 62056-46): bytes in, bytes out. It takes the codec of frames from the collectors, and
nothing of what the client's end decides by."""

from __future__ import annotations

from collections.abc import Callable

from collectors.dlms_base import NeedData, RemoteError
from collectors.dlms_hdlc import (
    DISC,
    DM,
    INFORMATION_DEFAULT,
    POLL,
    RR,
    SNRM,
    UA,
    Address,
    Frame,
    FrameReader,
    Parameters,
    decode_parameters,
    information_control,
)  # fmt: skip

RESPONSE = b"\xe6\xe7\x00"


class HdlcSide:
    """One link with one client at a time. `answer` is given a message and the client's address."""

    def __init__(
        self,
        address: Address,
        answer: Callable[[bytes, int], bytes],
        disconnected: Callable[[], None],
        information_max: int = 512,
    ) -> None:
        self._address, self._answer, self._disconnected = address, answer, disconnected
        self._information_max = information_max
        self._reader = FrameReader()
        self._client: Address | None = None
        self._size = INFORMATION_DEFAULT
        self._sent = self._expected = 0
        self._question = b""
        self._segments: list[bytes] = []  # the first is out

    def hears(self, data: bytes) -> bytes:
        """What the meter says to these bytes. What is no sound frame for it gets no answer."""
        self._reader.receive_data(data)
        said = b""
        while True:
            try:
                frame = self._reader.next_frame()
            except RemoteError:
                continue
            if isinstance(frame, NeedData):
                return said
            if frame.destination == self._address:
                said += self._hear(frame)

    def _hear(self, frame: Frame) -> bytes:
        if frame.kind == SNRM:
            return self._open(frame)
        if self._client != frame.source:
            return Frame(frame.source, self._address, DM | POLL).encode()
        if frame.kind == DISC:
            self._client = None
            self._disconnected()
            return Frame(frame.source, self._address, UA | POLL).encode()
        if frame.kind == RR:
            return self._ready(frame)
        return self._information(frame) if frame.is_information else b""

    def _open(self, frame: Frame) -> bytes:
        self._client = frame.source
        self._sent = self._expected = 0
        self._question, self._segments = b"", []
        self._disconnected()
        if not frame.information:
            self._size = INFORMATION_DEFAULT
            return Frame(frame.source, self._address, UA | POLL).encode()
        asked = decode_parameters(frame.information)
        self._size = min(asked.receive, self._information_max)
        agreed = Parameters(self._size, min(asked.transmit, self._information_max))
        return Frame(frame.source, self._address, UA | POLL, agreed.encode()).encode()

    def _ready(self, frame: Frame) -> bytes:
        """The client wants the next segment, or has not heard the last."""
        if self._segments and frame.expects == (self._sent + 1) & 7:
            self._sent = (self._sent + 1) & 7
            del self._segments[0]
        return self._say() if self._segments else self._supervise()

    def _information(self, frame: Frame) -> bytes:
        if frame.sent != self._expected:
            return self._supervise()
        if self._segments:  # which the client's question acknowledges
            self._sent = (self._sent + len(self._segments)) & 7
            self._segments = []
        self._expected = (self._expected + 1) & 7
        self._question += frame.information
        if frame.segmented:
            return self._supervise()
        question, self._question = self._question[3:], b""
        answer = self._answer(question, frame.source.upper)
        if not answer:
            return b""
        whole = RESPONSE + answer
        self._segments = [whole[n : n + self._size] for n in range(0, len(whole), self._size)]
        return self._say()

    def _say(self) -> bytes:
        assert self._client is not None
        control = information_control(self._sent, self._expected)
        return Frame(self._client, self._address, control, self._segments[0], len(self._segments) > 1).encode()

    def _supervise(self) -> bytes:
        assert self._client is not None
        return Frame(self._client, self._address, RR | POLL | self._expected << 5).encode()
