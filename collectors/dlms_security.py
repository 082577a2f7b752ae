"""Ciphering of security suite 0 (IEC 62056-5-3, 5): AES-128-GCM with tags of twelve octets, over xDLMS messages.

A message that should be protected and is not, whose tag does not hold, or whose invocation counter was there before, is never
used. What a meter sends must be authenticated; encryption alone proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from collectors.dlms_base import Cursor, LocalError, Malformed, NotAuthentic, octets

KEY_OCTETS, TITLE_OCTETS, TAG_OCTETS = 16, 8, 12
COUNTER_MAX = 0xFFFF_FFFF
GENERAL_GLOBAL, GENERAL_DEDICATED = 0xDB, 0xDC
# Plain tag -> tags of the same message ciphered with the global and with the dedicated key.
GLOBAL = {
    0x01: 0x21, 0x08: 0x28, 0x0E: 0x2E,
    0xC0: 0xC8, 0xC1: 0xC9, 0xC3: 0xCB, 0xC4: 0xCC, 0xC5: 0xCD, 0xC7: 0xCF,
}  # fmt: skip
DEDICATED = {0xC0: 0xD0, 0xC1: 0xD1, 0xC3: 0xD3, 0xC4: 0xD4, 0xC5: 0xD5, 0xC7: 0xD7}
_PLAIN_GLOBAL = {ciphered: plain for plain, ciphered in GLOBAL.items()}
_PLAIN_DEDICATED = {ciphered: plain for plain, ciphered in DEDICATED.items()}


class Control(IntFlag):
    """The security control octet's upper bits; the lower four are the suite."""

    AUTHENTICATED = 0x10
    ENCRYPTED = 0x20


BOTH = Control.AUTHENTICATED | Control.ENCRYPTED


@dataclass(frozen=True, slots=True)
class Keys:
    """The global unicast key and the authentication key, 16 octets each."""

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name, key in (("encryption", self.encryption), ("authentication", self.authentication)):
            if len(key) != KEY_OCTETS:
                raise LocalError(f"the {name} key has {len(key)} octets; allowed: {KEY_OCTETS}")


def seal(control: int, title: bytes, counter: int, keys: Keys, text: bytes) -> bytes:
    """Control octet, invocation counter, text (encrypted where the control says so), tag."""
    encryptor = Cipher(AES(keys.encryption), GCM(_nonce(title, counter))).encryptor()
    encrypts = bool(control & Control.ENCRYPTED)
    if control & Control.AUTHENTICATED:
        encryptor.authenticate_additional_data(bytes([control]) + keys.authentication + (b"" if encrypts else text))
    body = encryptor.update(text) if encrypts else text
    encryptor.finalize()
    tag = encryptor.tag[:TAG_OCTETS] if control & Control.AUTHENTICATED else b""
    return bytes([control]) + counter.to_bytes(4, "big") + body + tag


def unseal(sealed: bytes, title: bytes, keys: Keys, wanted: int = BOTH) -> tuple[int, bytes]:
    """The invocation counter, and the text whose tag holds. Raises NotAuthentic, Malformed.

    `wanted`: the protection that there must be at least; authentication always.
    """
    cursor = Cursor(sealed)
    control, counter = cursor.unsigned(), cursor.unsigned(4)
    if control & ~BOTH:
        raise Malformed(f"security control {control:#04x}; known: suite 0, unicast key, not compressed")
    if (wanted | Control.AUTHENTICATED) & ~control:
        raise NotAuthentic(f"security control {control:#04x}: less protection than was agreed")
    body, tag = cursor.take(max(0, cursor.left - TAG_OCTETS)), cursor.take(TAG_OCTETS)
    encrypts = bool(control & Control.ENCRYPTED)
    decryptor = Cipher(AES(keys.encryption), GCM(_nonce(title, counter), tag, TAG_OCTETS)).decryptor()
    decryptor.authenticate_additional_data(bytes([control]) + keys.authentication + (b"" if encrypts else body))
    text = decryptor.update(body) if encrypts else body
    try:
        decryptor.finalize()
    except InvalidTag:
        raise NotAuthentic("the authentication tag does not hold") from None
    return counter, text


def general_parts(message: bytes) -> tuple[bytes, bytes]:
    """The sender's system title and what is sealed, of a message ciphered with the global key in its general form. Raises
    Malformed."""
    cursor = Cursor(message)
    if (tag := cursor.unsigned()) != GENERAL_GLOBAL:
        raise Malformed(f"message {tag:#04x}, not ciphered with the global key in the general form")
    title, sealed = cursor.octets(), cursor.octets()
    cursor.end("a ciphered message")
    return title, sealed


def _nonce(title: bytes, counter: int) -> bytes:
    if len(title) != TITLE_OCTETS:
        raise LocalError(f"a system title of {len(title)} octets; allowed: {TITLE_OCTETS}")
    if not 0 <= counter <= COUNTER_MAX:
        raise LocalError("the invocation counter is used up: the key must be changed")
    return title + counter.to_bytes(4, "big")


class Ciphering:
    """One side's protection of an association. `counter`: the invocation counter that is used next, with the global key.

    `dedicated`: the key of this association alone, where there is one; its counters begin at 0.
    """

    def __init__(
        self, title: bytes, keys: Keys, counter: int = 0, *, control: Control = BOTH, general: bool = False,
        dedicated: bytes | None = None,
    ) -> None:  # fmt: skip
        self.title, self.peer_title = title, b""
        self.keys, self.control, self.general = keys, control, general
        self.counter = counter
        self.dedicated = None if dedicated is None else Keys(dedicated, keys.authentication)
        self._dedicated_counter = 0
        self.heard_counter = -1  # the peer's last counter, for each key
        self._heard_with_dedicated = -1

    def protect(self, message: bytes, with_dedicated: bool = False) -> bytes:
        """The message, ciphered. LocalError where it is of a kind that cannot be."""
        uses_dedicated = with_dedicated and self.dedicated is not None
        sealed = self._sealed(message, uses_dedicated)
        if self.general:
            return bytes([GENERAL_DEDICATED if uses_dedicated else GENERAL_GLOBAL]) + octets(self.title) + octets(sealed)
        tag = (DEDICATED if uses_dedicated else GLOBAL).get(message[0])
        if tag is None:
            raise LocalError(f"no ciphered form of message {message[0]:#04x}")
        return bytes([tag]) + octets(sealed)

    def protect_initiate(self, message: bytes) -> bytes:
        """An initiate message, which goes within an association message: its own form, always with the global key."""
        return bytes([GLOBAL[message[0]]]) + octets(self._sealed(message, False))

    def _sealed(self, message: bytes, uses_dedicated: bool) -> bytes:
        if uses_dedicated and self.dedicated is not None:
            self._dedicated_counter += 1
            return seal(self.control, self.title, self._dedicated_counter - 1, self.dedicated, message)
        self.counter += 1
        return seal(self.control, self.title, self.counter - 1, self.keys, message)

    def unprotect(self, message: bytes) -> bytes:
        """The message that is in a ciphered one. Raises NotAuthentic, Malformed."""
        cursor = Cursor(message)
        tag = cursor.unsigned()
        uses_dedicated = tag == GENERAL_DEDICATED or tag in _PLAIN_DEDICATED
        title = cursor.octets() if tag in (GENERAL_GLOBAL, GENERAL_DEDICATED) else b""
        expected = _PLAIN_DEDICATED.get(tag, _PLAIN_GLOBAL.get(tag))
        if expected is None and not title:
            raise NotAuthentic(f"message {tag:#04x} is not protected")
        if title and self.peer_title and title != self.peer_title:
            raise NotAuthentic(f"system title {title.hex()}, the meter's is {self.peer_title.hex()}")
        sealed = cursor.octets()
        cursor.end("a ciphered message")
        text = self._unsealed(sealed, title or self.peer_title, uses_dedicated)
        if not text or (expected is not None and text[0] != expected):
            raise NotAuthentic(f"another message than tag {tag:#04x} says")
        return text

    def _unsealed(self, sealed: bytes, title: bytes, uses_dedicated: bool) -> bytes:
        if len(title) != TITLE_OCTETS:
            raise NotAuthentic(f"a system title of {len(title)} octets")
        keys = self.dedicated if uses_dedicated else self.keys
        if keys is None:
            raise NotAuthentic("ciphered with a dedicated key, and none was agreed")
        counter, text = unseal(sealed, title, keys, self.control)
        last = self._heard_with_dedicated if uses_dedicated else self.heard_counter
        if counter <= last:
            raise NotAuthentic(f"invocation counter {counter} after {last}: an old message")
        if uses_dedicated:
            self._heard_with_dedicated = counter
        else:
            self.heard_counter = counter
        return text

    def proof(self, challenge: bytes) -> bytes:
        """HLS mechanism 5: what proves to the peer that we know the keys."""
        self.counter += 1
        head = seal(Control.AUTHENTICATED, self.title, self.counter - 1, self.keys, challenge)
        return head[:5] + head[-TAG_OCTETS:]

    def proves(self, proof: bytes, challenge: bytes) -> None:
        """NotAuthentic unless the peer has proved that it knows the keys."""
        if len(proof) != 5 + TAG_OCTETS or proof[0] != Control.AUTHENTICATED:
            raise NotAuthentic("what the meter answers to our challenge is no GMAC")
        unseal(proof[:5] + challenge + proof[5:], self.peer_title, self.keys, Control.AUTHENTICATED)
