"""Write the JSON Schema of the facts and of the ledger's records, a line of JSON Lines each, from their types.

    python scripts/schema.py [FOLDER]         (default: schema/ of the project)

What a schema cannot say (that a Gas Day lies in a certain range, that one of two fields is given) the types still check.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from metering.facts import AnyFact
from metering.ledger import AnyRecord, Performance

FOLDER = Path(__file__).parents[1] / "schema"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
LINES: dict[str, tuple[str, Any]] = {
    "fact.schema.json": ("A fact: what somebody told us, with the instant at which it was received", AnyFact),
    "record.schema.json": (
        "A record of the ledger: what a Day's volume is, how it was found, what was reconciled",
        AnyRecord | Performance,
    ),
}


def documents() -> dict[str, str]:
    """Each file's name and text."""
    return {name: _text(title, kind) for name, (title, kind) in LINES.items()}


def _text(title: str, kind: Any) -> str:
    schema = {"$schema": DIALECT, "title": title} | msgspec.json.schema(kind)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def main(folder: Path) -> None:
    """Write the files into the folder."""
    folder.mkdir(exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
