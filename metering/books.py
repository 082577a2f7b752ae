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
    """Books by Day. `packed` has the bytes of those that come from a state, and may gain others."""

    __slots__ = ("_books", "_packed")

    def __init__(self, packed: dict[int, bytes]) -> None:
        self._books: dict[int, Book | None] = dict.fromkeys(packed)
        self._packed = packed

    def get(self, day: int, default: T | None = None) -> Book | T | None:  # type: ignore[override]
        book = self._books.get(day)
        if book is None and day in self._books:
            book = self._books[day] = _decode(self._packed[day])
        return default if book is None else book

    def __getitem__(self, day: int) -> Book:
        book = self.get(day)
        if book is None:
            raise KeyError(day)
        return book

    def __setitem__(self, day: int, book: Book) -> None:
        self._books[day] = book

    def __delitem__(self, day: int) -> None:
        del self._books[day]

    def __contains__(self, day: object) -> bool:
        return day in self._books

    def __iter__(self) -> Iterator[int]:
        return iter(self._books)

    def __len__(self) -> int:
        return len(self._books)
