"""The two ways in which messages (APDUs) reach a meter, as the client has them: an HDLC link (IEC 62056-46) with window 1,
and the wrapper over TCP (IEC 62056-47). Bytes in, events out; no port, no clock.

Both have the same methods. `open`, `send`, `close` and `repeat` give bytes to write; `receive_data` takes what came in;
`next_event` gives one event, or NEED_DATA, or raises a `RemoteError`, after which the next event can be asked for. A `Say` is
to be written at once, and is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeAlias

from collectors.dlms_base import NEED_DATA, LocalError, Malformed, NeedData, TooLong, WrongAnswer
from collectors.dlms_hdlc import (
    DISC,
    DM,
    FRMR,
    INFORMATION_DEFAULT,
    POLL,
    RNR,
    RR,
    SNRM,
    UA,
    UI,
    Address,
    Frame,
    FrameReader,
    Parameters,
    decode_parameters,
    information_control,
)  # fmt: skip

LLC_COMMAND, LLC_RESPONSE = b"\xe6\xe6\x00", b"\xe6\xe7\x00"
MESSAGE_OCTETS_MAX = 0x10000
SAID_AGAIN_MAX = 5
WRAPPER_VERSION = 1
WRAPPER_HEADER_OCTETS = 8


@dataclass(frozen=True, slots=True)
class Opened:
    """The meter is there, and takes messages of any length."""


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message from the meter."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pushed:
    """A message that the meter sends of itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Say:
    """Bytes that the link has to write now."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The meter has closed the link, or had none with us."""


LinkEvent: TypeAlias = Opened | Message | Pushed | Say | Closed


class Link(Protocol):
    """What a session needs of either."""

    def open(self) -> bytes:
        """What to write first; empty where there is nothing to open."""

    def send(self, message: bytes) -> bytes:
        """What to write, so that the meter gets the message."""

    def repeat(self) -> bytes:
        """What to write when no answer came; empty where a repetition cannot help."""

    def close(self) -> bytes:
        """What to write at the end."""

    def receive_data(self, data: bytes) -> None:
        """Take what came in."""

    def silence(self) -> bool:
        """Nothing came: what is not whole will never be. True where there is something behind it, to ask `next_event` for."""

    def next_event(self) -> LinkEvent | NeedData:
        """The next event. Raises RemoteError."""


class LinkState(Enum):
    """Where an HDLC link stands."""

    CLOSED = auto()
    OPENING = auto()  # SNRM sent
    IDLE = auto()  # our turn
    SENDING = auto()  # a segment sent, not the last; the meter has to say that it is ready for more
    WAITING = auto()  # all sent: an answer has to come
    CLOSING = auto()  # DISC sent


class HdlcLink:
    """One link of a client with one meter. `information`: octets that we send and take in one frame at most; None to ask
    for nothing, so that the default of 128 holds."""

    def __init__(self, client: int, server: Address, information: int | None = None) -> None:
        self.state = LinkState.CLOSED
        self._me, self._meter = Address(client), server
        self._wanted = None if information is None else Parameters(information, information)
        self._segment_octets = INFORMATION_DEFAULT
        self._reader = FrameReader()
        self._sent = self._expected = 0  # V(S), the number of the frame that is out, and V(R)
        self._segments: list[bytes] = []  # the first is out, and not acknowledged
        self._received = b""
        self._last = b""
        self._said_again = 0

    def open(self) -> bytes:
        """SNRM."""
        self.state = LinkState.OPENING
        self._sent = self._expected = 0
        self._segments, self._received = [], b""
        self._reader.clear()
        return self._say(SNRM | POLL, self._wanted.encode() if self._wanted else b"")

    def send(self, message: bytes) -> bytes:
        """The first or only I-frame of the message. LocalError where it is not our turn."""
        if self.state is not LinkState.IDLE:
            raise LocalError(f"a message in state {self.state.name}")
        whole = LLC_COMMAND + message
        size = self._segment_octets
        self._segments = [whole[n : n + size] for n in range(0, len(whole), size)]
        self._received, self._said_again = b"", 0
        self._reader.clear()  # what came before we spoke is no answer
        return self._say_segment()

    def repeat(self) -> bytes:
        """After silence or noise: RR, which has the meter say its last frame again, or what it waits for."""
        if self.state in (LinkState.SENDING, LinkState.WAITING):
            return self._frame(RR | POLL | self._expected << 5)
        return self._last

    def close(self) -> bytes:
        """DISC."""
        if self.state is LinkState.CLOSED:
            return b""
        self.state = LinkState.CLOSING
        return self._say(DISC | POLL)

    def receive_data(self, data: bytes) -> None:
        """As `Link.receive_data`."""
        self._reader.receive_data(data)

    def silence(self) -> bool:
        """As `Link.silence`."""
        return self._reader.skip_partial()

    def next_event(self) -> LinkEvent | NeedData:
        """As `Link.next_event`. Frames of other stations, our own echo, and frames that were there before are passed over."""
        while True:
            frame = self._reader.next_frame()
            if isinstance(frame, NeedData):
                return NEED_DATA
            if (frame.destination, frame.source) != (self._me, self._meter):
                continue
            event = self._heard_information(frame) if frame.is_information else self._heard_other(frame)
            if event is not None:
                return event

    def _heard_other(self, frame: Frame) -> LinkEvent | None:
        match frame.kind:
            case k if k == UA and self.state is LinkState.OPENING:
                theirs = decode_parameters(frame.information)
                ours = INFORMATION_DEFAULT if self._wanted is None else self._wanted.transmit
                self._segment_octets = min(theirs.receive, ours)
                self.state = LinkState.IDLE
                return Opened()
            case k if (k == UA and self.state is LinkState.CLOSING) or k == DM:
                self.state = LinkState.CLOSED
                return Closed()
            case k if k == RR and self.state in (LinkState.SENDING, LinkState.WAITING):
                return self._heard_ready(frame.expects)
            case k if k == RNR:
                return None  # it is busy; `repeat` asks again
            case k if k == UI:
                return Pushed(_without_llc(frame.information))
            case k if k == FRMR:
                raise Malformed("the meter rejects our frame")
        return None  # of an exchange that is over

    def _heard_ready(self, expects: int) -> LinkEvent | None:
        if expects == self._sent and self._segments:  # our frame was lost
            self._said_again += 1
            if self._said_again > SAID_AGAIN_MAX:
                raise Malformed(f"the meter has asked {SAID_AGAIN_MAX} times for the same frame")
            return Say(self._say_segment())
        if expects == (self._sent + 1) & 7 and self.state is LinkState.SENDING:
            self._acknowledged()
            return Say(self._say_segment())
        return None  # it has all of it, and its answer is not ready

    def _heard_information(self, frame: Frame) -> LinkEvent | None:
        if self.state is not LinkState.WAITING or frame.sent != self._expected:
            return None  # said again, or late
        if self._segments:
            if frame.expects != (self._sent + 1) & 7:
                raise WrongAnswer("an answer that does not acknowledge our question")
            self._acknowledged()
        if len(self._received) + len(frame.information) > MESSAGE_OCTETS_MAX:
            self.state = LinkState.IDLE
            raise TooLong(f"a message of more than {MESSAGE_OCTETS_MAX} octets")
        self._expected = (self._expected + 1) & 7
        self._received += frame.information
        if frame.segmented:
            return Say(self._frame(RR | POLL | self._expected << 5)) if frame.polls else None
        self.state = LinkState.IDLE
        return Message(_without_llc(self._received))

    def _acknowledged(self) -> None:
        self._sent = (self._sent + 1) & 7
        self._said_again = 0
        del self._segments[0]

    def _say_segment(self) -> bytes:
        is_last = len(self._segments) == 1
        self.state = LinkState.WAITING if is_last else LinkState.SENDING
        return self._say(information_control(self._sent, self._expected), self._segments[0], not is_last)

    def _say(self, control: int, information: bytes = b"", segmented: bool = False) -> bytes:
        self._last = self._frame(control, information, segmented)
        return self._last

    def _frame(self, control: int, information: bytes = b"", segmented: bool = False) -> bytes:
        return Frame(self._meter, self._me, control, information, segmented).encode()


def _without_llc(message: bytes) -> bytes:
    if not message.startswith(LLC_RESPONSE):
        raise Malformed("a message without the LLC header E6 E7 00")
    return message[len(LLC_RESPONSE) :]


def wrapped(source: int, destination: int, message: bytes) -> bytes:
    """A message with its wrapper header. LocalError where it is too long."""
    if len(message) > 0xFFFF:
        raise LocalError(f"a message of {len(message)} octets; allowed: 65535")
    return b"".join(part.to_bytes(2, "big") for part in (WRAPPER_VERSION, source, destination, len(message))) + message


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What came in one wrapper: the ports, and the message."""

    source: int
    destination: int
    message: bytes


class WrapperReader:
    """Messages out of a stream. After an error nothing more can be read: where the next begins is not known."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Take what came in, in pieces of any size."""
        self._buffer += data

    def next_message(self) -> Wrapped | NeedData:
        """The next message. Raises Malformed."""
        if not self._buffer:
            return NEED_DATA
        version, source, destination, count = (int.from_bytes(self._buffer[n : n + 2], "big") for n in (0, 2, 4, 6))
        if self._buffer[0] != 0 or (len(self._buffer) > 1 and version != WRAPPER_VERSION):
            self._buffer.clear()
            raise Malformed("wrapper version other than 1")
        if len(self._buffer) < WRAPPER_HEADER_OCTETS or len(self._buffer) < WRAPPER_HEADER_OCTETS + count:
            return NEED_DATA
        message = bytes(self._buffer[WRAPPER_HEADER_OCTETS : WRAPPER_HEADER_OCTETS + count])
        del self._buffer[: WRAPPER_HEADER_OCTETS + count]
        return Wrapped(source, destination, message)


class WrapperLink:
    """Messages with a meter over one TCP connection. `client` and `server` are the wrapper's ports: the addresses of both."""

    def __init__(self, client: int, server: int) -> None:
        self._client, self._server = client, server
        self._reader = WrapperReader()

    def open(self) -> bytes:
        """Nothing: the connection is the link."""
        return b""

    def send(self, message: bytes) -> bytes:
        """As `Link.send`."""
        return wrapped(self._client, self._server, message)

    def repeat(self) -> bytes:
        """Nothing: TCP has repeated it already."""
        return b""

    def close(self) -> bytes:
        """Nothing."""
        return b""

    def receive_data(self, data: bytes) -> None:
        """As `Link.receive_data`."""
        self._reader.receive_data(data)

    def silence(self) -> bool:
        """As `Link.silence`: where a message ends is known."""
        return False

    def next_event(self) -> LinkEvent | NeedData:
        """As `Link.next_event`."""
        found = self._reader.next_message()
        if isinstance(found, NeedData):
            return NEED_DATA
        if (found.source, found.destination) != (self._server, self._client):
            raise WrongAnswer(f"a message from port {found.source} to {found.destination}")
        return Message(found.message)
