"""What is wrong with a line that is no fact, in words: the field, what stands there, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from dailyread.settings import allowed, choices, item_type, nearest
from metering.facts import FACT_TYPES

_PATH = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_NAMED = re.compile(r"^Object (contains unknown|missing required) field `(.*)`$")
_BY_TYPE = ("Expected ", "Invalid ", "Integer value out of range", "Number out of range", "Object ")
_KINDS: dict[str, type[msgspec.Struct]] = {str(kind.__struct_config__.tag): kind for kind in FACT_TYPES}
SHOWN = 60  # characters of a value


def mistake(line: bytes, error: Exception) -> str:
    """The sentence for an error that decoding the line as a fact has raised."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return text
    found = _PATH.search(text)
    path = [name or int(number) for name, number in _STEP.findall(found[1])] if found else []
    said = text[: found.start()] if found else text
    if not said.startswith(_BY_TYPE):  # a sentence of the fact's own checks
        return said
    try:
        return _by_type(said, msgspec.json.decode(line), path)
    except (LookupError, StopIteration, TypeError, ValueError, RecursionError):
        return text


def _by_type(said: str, value: Any, path: Sequence[str | int]) -> str:
    kind = _KINDS.get(str(value.get("fact"))) if isinstance(value, dict) else None
    if kind is None:
        return _no_kind(value)
    named = _NAMED.match(said)
    if named and named[1] == "contains unknown":
        known = [field.encode_name for field in msgspec.structs.fields(_struct(_type_at(kind, path)))]
        return f"{_name([*path, named[2]])}: no field of {value['fact']}; {nearest(named[2], known)}"
    if named:
        whole = [*path, named[2]]
        return f"{_name(whole)}: missing; allowed: {allowed(_type_at(kind, whole))}"
    for step in path:
        value = value[step]
    return f"{_name(path)}: found {_shown(value)}; allowed: {allowed(_type_at(kind, path))}"


def _no_kind(value: Any) -> str:
    if not isinstance(value, dict):
        return f"found {_shown(value)}; allowed: an object with `fact`"
    found = f"found {_shown(value['fact'])}" if "fact" in value else "missing"
    return f"fact: {found}; {nearest(str(value.get('fact')), list(_KINDS))}"


def _type_at(kind: Any, path: Sequence[str | int]) -> Any:
    """The type of what stands at a path in a fact of this kind."""
    for step in path:
        if isinstance(step, int):
            kind = next(item for choice in choices(kind) if (item := item_type(choice)) is not None)
            continue
        kind = next(field.type for field in msgspec.structs.fields(_struct(kind)) if field.encode_name == step)
    return kind


def _struct(kind: Any) -> type[msgspec.Struct]:
    return next(choice for choice in choices(kind) if isinstance(choice, type) and issubclass(choice, msgspec.Struct))


def _name(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
