"""The Days that are held of a meter point, by their ordinal. A frame usually has to do with a few of those that a state keeps,
so a Day that comes from a state is unpacked when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

import msgspec

from metering.book import Book

T = TypeVar("T")

_decode = msgspec.msgpack.Decoder(Book).decode


class Books(MutableMapping[int, Book]):
    """Books by Day. `packed` has the bytes of those that come from a state, and may gain others that are here."""

    __slots__ = ("_books", "_packed")

    def __init__(self, packed: dict[int, bytes]) -> None:
        self._books: dict[int, Book] = {}
        self._packed = packed

    def get(self, day: int, default: T | None = None) -> Book | T | None:  # type: ignore[override]
        book = self._books.get(day)
        if book is None:
            packed = self._packed.get(day)
            if packed is None:
                return default
            book = self._books[day] = _decode(packed)
        return book

    def __getitem__(self, day: int) -> Book:
        book = self.get(day)
        if book is None:
            raise KeyError(day)
        return book

    def __setitem__(self, day: int, book: Book) -> None:
        self._books[day] = book

    def __delitem__(self, day: int) -> None:
        if self._books.pop(day, None) is None and day not in self._packed:
            raise KeyError(day)
        self._packed.pop(day, None)

    def __contains__(self, day: object) -> bool:
        return day in self._packed or day in self._books

    def __iter__(self) -> Iterator[int]:
        yield from self._packed
        yield from [day for day in self._books if day not in self._packed]

    def __len__(self) -> int:
        return len(self._packed.keys() | self._books.keys())
