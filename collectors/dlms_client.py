"""A client's association with one meter: messages in, events out; below it are the links, above it a session.

What may be said and heard in which state is `TABLE`, as in the other protocols. `send` gives the message that says it; `heard`
takes a whole message and gives an event, or raises a `RemoteError` and stays as it was. A `Say` is to be sent on: the next
block of a long answer, or our proof of identity. An answer with another invoke-id is the answer to another question.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from collectors.dlms_acse import (
    AARE,
    RLRE,
    WANTED,
    Aarq,
    Conformance,
    InitiateRequest,
    InitiateResponse,
    Mechanism,
    decode_aare,
    decode_initiate_response,
    release_request,
    service_error,
)
from collectors.dlms_base import LocalError, Malformed, NotAuthentic, Refused, TooLong, WrongAnswer
from collectors.dlms_data import Data, decode, octet_string
from collectors.dlms_link import Say
from collectors.dlms_objects import ASSOCIATION, ASSOCIATION_NAME, PROVE
from collectors.dlms_security import KEY_OCTETS, Ciphering
from collectors.dlms_xdlms import (
    DATA_NOTIFICATION,
    EXCEPTION_RESPONSE,
    AccessError,
    ActionRequest,
    ActionResponse,
    DataNotification,
    ExceptionResponse,
    GetRequest,
    GetRequestList,
    GetRequestNext,
    GetResponse,
    GetResponseBlock,
    GetResponseList,
    Member,
    Result,
    SetRequest,
    SetResponse,
    Wanted,
    access_error,
    decode_message,
    decode_results,
)

ANSWER_OCTETS_MAX = 1024 * 1024
CHALLENGE_OCTETS, CHALLENGE_OCTETS_MIN, CHALLENGE_OCTETS_MAX = 16, 8, 64
PROOF_WANTED = 14  # diagnostic of an AARE: authentication required
RESULTS = {1: "rejected for good", 2: "rejected for now"}
DIAGNOSTICS = {
    1: "no reason given", 2: "application context not supported", 11: "mechanism not known", 12: "mechanism missing",
    13: "authentication failed", 14: "authentication required",
}  # fmt: skip


# What we say.


@dataclass(frozen=True, slots=True)
class Associate:
    """Ask for the association."""


@dataclass(frozen=True, slots=True)
class Get:
    """Read these attributes, in one request."""

    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """Write one attribute."""

    attribute: Member
    data: Data


@dataclass(frozen=True, slots=True)
class Release:
    """The association is over."""


# What we hear.


@dataclass(frozen=True, slots=True)
class Associated:
    """The meter serves us, and, with HLS, has proved who it is."""

    conformance: int


@dataclass(frozen=True, slots=True)
class Got:
    """The values, in the order of the question."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """The attribute has the value."""


@dataclass(frozen=True, slots=True)
class Released:
    """The meter agrees that it is over."""


Said: TypeAlias = Associate | Get | Set | Release
Heard: TypeAlias = Associated | Got | Written | Released | DataNotification


class State(Enum):
    """Where an association stands."""

    IDLE = auto()
    ASKED = auto()  # AARQ sent
    PROVING = auto()  # our proof sent, the meter's awaited
    READY = auto()
    GETTING = auto()
    SETTING = auto()
    RELEASING = auto()


TABLE: dict[State, dict[type[Said] | type[Heard], State]] = {
    State.IDLE: {Associate: State.ASKED},
    State.ASKED: {Associated: State.READY},
    State.PROVING: {Associated: State.READY},
    State.READY: {Get: State.GETTING, Set: State.SETTING, Release: State.RELEASING},
    State.GETTING: {Got: State.READY},
    State.SETTING: {Written: State.READY},
    State.RELEASING: {Released: State.IDLE},
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """How we show who we are. `password`: of low level security. HLS by GMAC needs `ciphering`, as ciphered messages do."""

    mechanism: Mechanism = Mechanism.NONE
    password: bytes = field(default=b"", repr=False)

    @property
    def is_high(self) -> bool:
        """Whether both sides prove themselves."""
        return self.mechanism is Mechanism.GMAC


class Association:
    """One association. `challenge`: what the meter has to prove itself with; None: made by chance."""

    def __init__(
        self,
        credentials: Credentials = Credentials(),
        ciphering: Ciphering | None = None,
        challenge: bytes | None = None,
    ) -> None:
        if credentials.is_high and ciphering is None:
            raise LocalError("authentication by GMAC needs keys")
        self.state = State.IDLE
        self.conformance = 0
        self._credentials, self._ciphering = credentials, ciphering
        self._challenge = secrets.token_bytes(CHALLENGE_OCTETS) if challenge is None else challenge
        self._invoke_id = 0
        self._count = 0  # of the attributes asked for
        self._in_list = False
        self._blocks = bytearray()
        self._next_block = 1
        self._message_octets_max = 0  # the longest that the meter takes; 0: any

    @property
    def password(self) -> bytes:
        """What must not be shown; empty where there is none."""
        return self._credentials.password

    def send(self, said: Said) -> bytes:
        """The message that says it; LocalError where that may not be said now, or is too long for this meter."""
        following = TABLE[self.state].get(type(said))
        if following is None:
            raise LocalError(f"{type(said).__name__} in state {self.state.name}")
        message = self._message(said)
        if 0 < self._message_octets_max < len(message):
            raise LocalError(f"a message of {len(message)} octets; the meter takes {self._message_octets_max}")
        self.state = following
        return message

    def _message(self, said: Said) -> bytes:
        match said:
            case Associate():
                return self._aarq()
            case Get(wanted):
                return self._get(wanted)
            case Set(attribute, data):
                self._turn()
                return self._protected(SetRequest(self._invoke_id, Wanted(attribute), data).encode())
            case Release():
                return self._release()

    def _aarq(self) -> bytes:
        ciphering = self._ciphering
        initiate = InitiateRequest(WANTED).encode()
        if ciphering is not None:
            key = b"" if ciphering.dedicated is None else ciphering.dedicated.encryption
            offered = WANTED | (Conformance.GENERAL_PROTECTION if ciphering.general else 0)
            initiate = ciphering.protect_initiate(InitiateRequest(offered, dedicated_key=key).encode())
        credentials = self._credentials
        return Aarq(
            mechanism=credentials.mechanism,
            ciphered=ciphering is not None,
            title=b"" if ciphering is None else ciphering.title,
            authentication=self._challenge if credentials.is_high else credentials.password,
            information=initiate,
        ).encode()

    def _get(self, wanted: tuple[Wanted, ...]) -> bytes:
        if not wanted:
            raise LocalError("nothing to read")
        self._turn()
        self._count, self._in_list = len(wanted), len(wanted) > 1
        if self._in_list and not self.conformance & Conformance.MULTIPLE_REFERENCES:
            raise LocalError("this meter gives one attribute at a time")
        self._blocks, self._next_block = bytearray(), 1
        request = GetRequestList(self._invoke_id, wanted) if self._in_list else GetRequest(self._invoke_id, wanted[0])
        return self._protected(request.encode())

    def _release(self) -> bytes:
        """With ciphering the initiate request goes along, as some meters want it to be shown once more who asks."""
        if self._ciphering is None:
            return release_request()
        return release_request(self._ciphering.protect_initiate(InitiateRequest(WANTED).encode()))

    def _turn(self) -> None:
        self._invoke_id = (self._invoke_id + 1) & 0x0F

    def _protected(self, message: bytes) -> bytes:
        return message if self._ciphering is None else self._ciphering.protect(message, with_dedicated=True)

    # What comes in.

    def heard(self, message: bytes) -> Heard | Say:
        """The event that a whole message is. Raises RemoteError; Refused says that the meter will not."""
        if message[:1] == bytes([AARE]):
            return self._step(State.ASKED, lambda: self._heard_aare(message))
        if message[:1] == bytes([RLRE]):
            return self._step(State.RELEASING, Released)
        answer = decode_message(self._unprotected(message))
        if isinstance(answer, DataNotification):
            return answer
        if isinstance(answer, ExceptionResponse):
            self.state = State.READY if self.state in (State.GETTING, State.SETTING) else State.IDLE
            raise Refused(str(answer))
        if getattr(answer, "invoke_id", None) != self._invoke_id:
            raise WrongAnswer("the answer to another question")
        match answer:
            case GetResponse() | GetResponseBlock() | GetResponseList():
                return self._step(State.GETTING, lambda: self._heard_value(answer))
            case SetResponse(_, code):
                return self._step(State.SETTING, lambda: self._heard_written(code))
            case ActionResponse():
                return self._step(State.PROVING, lambda: self._heard_proof(answer))
        raise Malformed(f"a {type(answer).__name__} from a meter")

    def _step(self, state: State, event: Callable[[], Heard | Say]) -> Heard | Say:
        if self.state is not state:
            raise WrongAnswer(f"not an answer in state {self.state.name}")
        found = event()
        if not isinstance(found, Say):
            self.state = TABLE[self.state][type(found)]
        return found

    def _unprotected(self, message: bytes) -> bytes:
        """What is said in the clear where it should not be: only that the meter will not."""
        if self._ciphering is None or message[:1] == bytes([EXCEPTION_RESPONSE]):
            return message
        if message[:1] == bytes([DATA_NOTIFICATION]):
            raise NotAuthentic("a notification that is not protected")
        return self._ciphering.unprotect(message)

    def _heard_aare(self, message: bytes) -> Heard | Say:
        aare = decode_aare(message)
        ciphering = self._ciphering
        if ciphering is not None and aare.title:
            ciphering.peer_title = aare.title
        if aare.result != 0:
            self.state = State.IDLE
            why = DIAGNOSTICS.get(aare.diagnostic, f"diagnostic {aare.diagnostic}")
            raise Refused(f"{RESULTS.get(aare.result, f'result {aare.result}')}: {why}{self._error_in(aare.information)}")
        if aare.ciphered != (ciphering is not None):
            raise Malformed("another application context than was asked for")
        agreed = self._agreed(aare.information)
        if not self._credentials.is_high:
            if aare.diagnostic == PROOF_WANTED:
                self.state = State.IDLE
                raise Refused("the meter wants high level security")
            return self._agree(agreed)
        if aare.diagnostic != PROOF_WANTED or aare.mechanism != Mechanism.GMAC:
            raise NotAuthentic("the meter does not ask for a proof, and so would give none")
        self._agree(agreed)
        return self._prove(aare.challenge)

    def _agreed(self, information: bytes) -> InitiateResponse:
        if self._ciphering is not None:
            information = self._ciphering.unprotect(information)
        return decode_initiate_response(information)

    def _agree(self, agreed: InitiateResponse) -> Associated:
        self.conformance = agreed.conformance
        self._message_octets_max = agreed.message_octets_max
        return Associated(agreed.conformance)

    def _error_in(self, information: bytes) -> str:
        said = service_error(information)
        return "" if said is None else f" ({said})"

    def _prove(self, challenge: bytes) -> Say:
        assert self._ciphering is not None  # `is_high` has been checked against it
        if not CHALLENGE_OCTETS_MIN <= len(challenge) <= CHALLENGE_OCTETS_MAX or challenge == self._challenge:
            raise NotAuthentic(f"a challenge of {len(challenge)} octets, or our own")
        self._turn()
        proof = octet_string(self._ciphering.proof(challenge))
        method = Member(ASSOCIATION, ASSOCIATION_NAME, PROVE)
        self.state = State.PROVING
        return Say(self._protected(ActionRequest(self._invoke_id, method, proof).encode()))

    def _heard_proof(self, answer: ActionResponse) -> Associated:
        if answer.code != 0 or not isinstance(answer.result, Data):
            self.state = State.IDLE
            raise Refused(f"authentication failed: {access_error(answer.code)}")
        assert self._ciphering is not None
        self._ciphering.proves(answer.result.octets, self._challenge)
        return Associated(self.conformance)

    def _heard_value(self, answer: GetResponse | GetResponseBlock | GetResponseList) -> Got | Say:
        match answer:
            case GetResponse(_, result) if not self._in_list:
                return Got((result,))
            case GetResponseList(_, results) if self._in_list:
                return self._got(results)
            case GetResponseBlock():
                return self._heard_block(answer)
        raise WrongAnswer("a list for one attribute, or one for a list")

    def _heard_block(self, answer: GetResponseBlock) -> Got | Say:
        if isinstance(answer.content, AccessError):
            return Got((answer.content,) * self._count)
        if answer.block != self._next_block:
            raise WrongAnswer(f"block {answer.block}, waiting for {self._next_block}")
        if len(self._blocks) + len(answer.content) > ANSWER_OCTETS_MAX:
            raise TooLong(f"an answer of more than {ANSWER_OCTETS_MAX} octets")
        if not answer.content and not answer.last:
            raise Malformed("a block of nothing")
        self._blocks += answer.content
        self._next_block += 1
        if not answer.last:
            return Say(self._protected(GetRequestNext(self._invoke_id, answer.block).encode()))
        whole = bytes(self._blocks)
        return self._got(decode_results(whole)) if self._in_list else Got((decode(whole),))

    def _got(self, results: tuple[Result, ...]) -> Got:
        if len(results) != self._count:
            raise Malformed(f"{len(results)} values for {self._count} attributes")
        return Got(results)

    def _heard_written(self, code: int) -> Written:
        if code:
            self.state = State.READY
            raise Refused(access_error(code))
        return Written()


def dedicated_key() -> bytes:
    """A key for one association."""
    return secrets.token_bytes(KEY_OCTETS)
