"""The reference facts of a Supply Meter Point as its state has them, and beside them what a usual Day looks at, so that it need
not unpack the facts."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from metering.facts import BypassUsed, EquipmentFault, MeterFitted, MeterRemoved, Registered
from metering.meters import Index


class Registration(NamedTuple):
    """What a registration says of a Day."""

    users: tuple[str, ...]
    ldz: str
    annual_quantity_kwh: Decimal
    equipment: str


class Told(msgspec.Struct, array_like=True):
    """The facts that a usual Day need not look at: the registrations by their Gas Day, the others in the order of receipt."""

    registrations: list[Registered] = []
    fitted: list[MeterFitted] = []
    removed: list[MeterRemoved] = []


class InForce(msgspec.Struct, array_like=True, frozen=True):
    """What a state has of them beside, and what a usual Day looks at. `current` lacks its register, which has `register`."""

    registered: int | None
    last_from: int
    last: Registration | None
    known_us: int | None
    ldzs: frozenset[str]
    bypasses: list[BypassUsed]
    faults: list[EquipmentFault]
    steady_from: int
    current: tuple[int, str, int, int, Index] | None
    register: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[InForce, msgspec.Raw]).decode
_decode_told = msgspec.msgpack.Decoder(Told).decode


def pack(in_force: InForce, told: Told | msgspec.Raw) -> bytes:
    """Both as a part of a state."""
    return _encode((in_force, told))


def unpack(packed: bytes | msgspec.Raw) -> tuple[InForce, msgspec.Raw]:
    """What was packed, the facts as they stand there. Raises msgspec.MsgspecError where it is something else."""
    return _decode(packed)


def unpack_told(packed: msgspec.Raw) -> Told:
    """The facts."""
    return _decode_told(packed)
