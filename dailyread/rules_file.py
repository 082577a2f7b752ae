"""The rules that a configuration names, or the defaults where it names none."""

from __future__ import annotations

import sys
from pathlib import Path

from metering.rules import Rules, load


def rules_or_exit(path: Path | None) -> Rules:
    """The rules of a file; a mistake in it is printed and ends the program with exit code 2."""
    try:
        return Rules() if path is None else load(path.read_bytes())
    except (OSError, ValueError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def name_of(path: Path | None) -> str:
    """What to call the rules of that file."""
    return "the default rules" if path is None else str(path)
