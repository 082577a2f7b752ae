"""Settings from a TOML file and the environment; all mistakes at once, with file, key, what was found, what is allowed.

A configuration is a tree of `Table` Structs. Every leaf can come from the environment: `kafka.bootstrap_servers` is
`DAILYREAD_KAFKA__BOOTSTRAP_SERVERS`; lists are separated by commas, lists of tables are JSON. A `Secret` never stands
in the file: it comes from the environment, or from a file named by the setting of the same name with `_file`. Values
that could be secrets are never printed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

PREFIX = "DAILYREAD_"
# Variables of this prefix that are no settings: where the configuration is.
NOT_SETTINGS = frozenset({"DAILYREAD_CONFIG"})


class ConfigError(ValueError):
    """The configuration cannot be used; `mistakes` says why, a line each, without any secret."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class Secret:
    """A password or token: shows itself nowhere but in `reveal()`. `file`: where it is read anew, for it may change."""

    __slots__ = ("_file", "_last", "_value")

    def __init__(self, value: str, file: Path | None = None) -> None:
        self._value = self._last = value
        self._file = file

    def reveal(self) -> str:
        """The secret itself as it is now, for handing it to a client library; where its file cannot be read, as it was."""
        if self._file is not None:
            with suppress(OSError, UnicodeDecodeError):
                self._last = self._file.read_text("utf-8").strip() or self._last
        return self._last

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class NameOrFile(str):
    """The name of something that comes with the project, or the path of a `.toml` file of one's own."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table of settings. `mistakes` checks what no type can say, and yields (field, what is wrong and allowed)."""

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the values together; nothing where they fit."""
        return iter(())


T = TypeVar("T", bound=Table)


def load(kind: type[T], path: Path | None, environ: Mapping[str, str], other_kinds: Sequence[type[Table]] = ()) -> T:
    """The configuration in `path` (None: environment alone), overridden by `environ`; ConfigError with all mistakes.

    A variable with our prefix that no setting of `kind` or `other_kinds` has is a mistake.
    """
    reader = _Reader(str(path) if path else "environment", path.resolve().parent if path else Path.cwd(), environ)
    table = read_toml(path) if path else {}
    found = reader.table(kind, table, ())
    reader.unknown_variables((kind, *other_kinds))
    if found is None or reader.mistakes:
        raise ConfigError(reader.mistakes)
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables, unchecked; ConfigError where it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text, at byte {error.start}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error


def variable(path: Sequence[str]) -> str:
    """The name of the environment variable for a setting."""
    return PREFIX + "__".join(path).upper()


def settings(kind: type[Table], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every leaf setting of a kind of configuration, as (path, type)."""
    for field in msgspec.structs.fields(kind):
        inner = _table_type(field.type)
        if inner is not None:
            yield from settings(inner, (*path, field.encode_name))
            continue
        yield (*path, field.encode_name), field.type
        if _is_secret(field.type):
            yield (*path, field.encode_name + "_file"), str


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint with the known word that is most like this one; else all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else "allowed: " + ", ".join(f"`{name}`" for name in sorted(known))


class _Reader:
    """Reads tables into Structs, and gathers the mistakes."""

    def __init__(self, source: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.source = source
        self.folder = folder
        self.environ = environ
        self.mistakes: list[str] = []

    def table(self, kind: type[T], values: dict[str, Any], path: tuple[str, ...], numbered: bool = False) -> T | None:
        """The table as its Struct; None after a mistake in it. `numbered`: in a list, so not in the environment."""
        before = len(self.mistakes)
        fields = msgspec.structs.fields(kind)
        self._unknown_keys(fields, values, path)
        found: dict[str, Any] = {}
        for field in fields:
            here = (*path, field.encode_name)
            value = self._field(field.type, values, here, numbered)
            if value is not msgspec.UNSET:
                found[field.name] = value
            elif field.required and (inner := _table_type(field.type)) is not None:
                found[field.name] = self.table(inner, {}, here, numbered)
            elif field.required:
                self._say(here, "missing", "allowed: " + allowed(field.type))
        if len(self.mistakes) > before:
            return None
        made = kind(**found)
        for name, what in made.mistakes():
            self._say((*path, name), what, "")
        return made if len(self.mistakes) == before else None

    def unknown_variables(self, kinds: Sequence[type[Table]]) -> None:
        """Adds a mistake for each variable with our prefix that names no setting."""
        known = {variable(path) for kind in kinds for path, _ in settings(kind)} | NOT_SETTINGS
        for name in sorted(self.environ):
            if name.startswith(PREFIX) and name not in known:
                close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
                hint = f"did you mean {close[0]}?" if close else "no setting has this name"
                self.mistakes.append(f"environment: {name}: unknown variable; {hint}")

    def _unknown_keys(self, fields: Sequence[msgspec.structs.FieldInfo], values: dict[str, Any], path: tuple[str, ...]) -> None:
        known = {field.encode_name for field in fields}
        known |= {field.encode_name + "_file" for field in fields if _is_secret(field.type)}
        for key in values:
            if key not in known:
                self._say((*path, key), "unknown key", nearest(key, sorted(known)))

    def _field(self, kind: Any, values: dict[str, Any], path: tuple[str, ...], numbered: bool) -> Any:
        if _is_secret(kind):
            return self._secret(values, path, numbered)
        inner = _table_type(kind)
        if inner is not None:
            return self._inner(inner, values, path, numbered)
        name = variable(path)
        if not numbered and name in self.environ:
            return self._from_environment(kind, name, path)
        if path[-1] not in values:
            return msgspec.UNSET
        return self._value(kind, values[path[-1]], path, "")

    def _inner(self, kind: type[Table], values: dict[str, Any], path: tuple[str, ...], numbered: bool) -> Any:
        value = values.get(path[-1], msgspec.UNSET)
        in_environment = not numbered and any(variable(leaf) in self.environ for leaf, _ in settings(kind, path))
        if value is msgspec.UNSET and not in_environment:
            return msgspec.UNSET
        value = {} if value is msgspec.UNSET else value
        if not isinstance(value, dict):
            self._say(path, f"found {_shown(value)}", f"allowed: a table, `[{'.'.join(path)}]`")
            return None
        return self.table(kind, value, path, numbered)

    def _from_environment(self, kind: Any, name: str, path: tuple[str, ...]) -> Any:
        text = self.environ[name]
        item = item_type(kind)
        if item is None:
            return self._value(kind, text, path, name)
        if _table_type(item) is None:
            return self._value(kind, [part.strip() for part in text.split(",") if part.strip()], path, name)
        try:
            return self._value(kind, msgspec.json.decode(text), path, name)
        except msgspec.DecodeError as error:
            self._say(path, f"not JSON ({error})", "allowed: a JSON list of tables", name)
            return None

    def _value(self, kind: Any, value: Any, path: tuple[str, ...], name: str) -> Any:
        item = item_type(kind)
        table = _table_type(item) if item is not None else None
        if table is not None:
            return self._tables(table, value, path, name)
        if item is not None and isinstance(value, list) and value:
            return tuple(self._leaf(item, entry, path, name, number) for number, entry in enumerate(value, start=1))
        return self._leaf(kind, value, path, name)

    def _leaf(self, kind: Any, value: Any, path: tuple[str, ...], name: str, number: int | None = None) -> Any:
        try:
            return msgspec.convert(value, kind, strict=not name, dec_hook=self._in_folder)
        except (msgspec.ValidationError, ValueError):
            here = path if number is None else (*path[:-1], f"{path[-1]}[{number}]")
            self._say(here, f"found {_shown(value)}", "allowed: " + allowed(kind), name)
            return None

    def _tables(self, kind: type[Table], value: Any, path: tuple[str, ...], name: str) -> Any:
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self._say(path, f"found {_shown(value)}", f"allowed: tables, each `[[{'.'.join(path)}]]`", name)
            return None
        return tuple(
            self.table(kind, entry, (*path[:-1], f"{path[-1]}[{number}]"), numbered=True)
            for number, entry in enumerate(value, start=1)
        )

    def _in_folder(self, kind: type, value: Any) -> Any:
        """A path is relative to the configuration's folder."""
        if isinstance(value, str) and value:
            path = self.folder / Path(value).expanduser()
            if kind is Path:
                return path
            if kind is NameOrFile:
                return NameOrFile(path if value.endswith(".toml") else value)
        raise ValueError("not a path")

    def _secret(self, values: dict[str, Any], path: tuple[str, ...], numbered: bool) -> Any:
        key, file_path = path[-1], (*path[:-1], path[-1] + "_file")
        name, file_name = variable(path), variable(file_path)
        allowed_text = f"allowed: {name} in the environment, or `{file_path[-1]}` naming a file that holds it"
        if key in values:
            self._say(path, "a secret stands in the file (not shown here)", allowed_text)
            return None
        direct = None if numbered else self.environ.get(name)
        in_file = (None if numbered else self.environ.get(file_name)) or values.get(file_path[-1])
        if direct is not None and in_file is not None:
            self._say(path, f"given twice, in {name} and in a file", "allowed: one of the two")
            return None
        if direct is not None:
            return Secret(direct)
        return msgspec.UNSET if in_file is None else self._secret_file(in_file, file_path)

    def _secret_file(self, named: Any, path: tuple[str, ...]) -> Secret | None:
        # What stands here may be the secret itself, put in the wrong place: it is not shown.
        try:
            file = self.folder / Path(named).expanduser()
            text = file.read_text("utf-8").strip()
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not the path of a text file"
            self._say(path, f"the file that it names cannot be read: {reason}", "allowed: the path of a file")
            return None
        if not text:
            self._say(path, "the file that it names is empty", "allowed: a file that holds the secret")
            return None
        return Secret(text, file)

    def _say(self, path: Sequence[str], found: str, hint: str, name: str = "") -> None:
        where = f"environment: {name}" if name else f"{self.source}: {'.'.join(path)}"
        self.mistakes.append(f"{where}: {found}" + (f"; {hint}" if hint else ""))


def allowed(kind: Any) -> str:
    """In words, what values a leaf setting takes."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return allowed(arguments[0]) + _bounds(arguments[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(allowed(choice) for choice in arguments if choice is not type(None))
    if origin is Literal:
        return ", ".join(_shown(choice) for choice in arguments)
    if origin is tuple:
        return "a list of " + allowed(arguments[0])
    if isinstance(kind, type) and issubclass(kind, Table):
        return "tables"
    words = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        Decimal: 'a decimal number, such as "11.628"',
        date: "a date, such as 2026-01-31",
        datetime: "an instant, such as 2026-01-31T05:00:00Z",
        Path: "a path",
        NameOrFile: "a name, or the path of a .toml file",
        Secret: "a secret",
    }
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _bounds(notes: Sequence[Any]) -> str:
    words = ""
    for note in notes:
        if not isinstance(note, msgspec.Meta):
            continue
        if note.ge is not None:
            words += f", {note.ge} or more"
        if note.gt is not None:
            words += f", above {note.gt}"
        if note.le is not None:
            words += f", at most {note.le}"
        if note.lt is not None:
            words += f", below {note.lt}"
        if note.min_length is not None:
            words += ", not empty" if note.min_length == 1 else f", at least {note.min_length} long"
        if note.max_length is not None:
            words += f", at most {note.max_length} long"
        if note.description:
            words += f", {note.description}"
    return words


def choices(kind: Any) -> tuple[Any, ...]:
    """What a type may be, but for null."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(choice for choice in get_args(kind) if choice is not type(None))
    return (kind,)


def _table_type(kind: Any) -> type[Table] | None:
    for choice in choices(kind):
        if isinstance(choice, type) and issubclass(choice, Table):
            return choice
    return None


def item_type(kind: Any) -> Any:
    """The type of what stands in a list; None where the type is no list."""
    if get_origin(kind) is Annotated:
        return item_type(get_args(kind)[0])
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def _is_secret(kind: Any) -> bool:
    return Secret in choices(kind)


def _shown(value: Any) -> str:
    """A value as it stood, short; where text looks like it carries a password, only that it is text."""
    if isinstance(value, str):
        if "@" in value or len(value) > 80:
            return f"text of {len(value)} characters"
        return f'"{value}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return str(value)


def environment() -> Mapping[str, str]:
    """This process's environment."""
    return os.environ
