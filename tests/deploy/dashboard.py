"""Reads the Grafana dashboard: its panels' queries, and what they take from the ledger's measurements."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "daily-reads.json"


@dataclass(frozen=True)
class Query:
    """One Flux query, the title of its panel, and the columns that the panel gives names to."""

    title: str
    flux: str
    columns: frozenset[str]

    @property
    def measurement(self) -> str:
        found = re.findall(r'r\._measurement == "(\w+)"', self.flux)
        assert len(found) == 1, f"{self.title}: one measurement a query"
        return str(found[0])

    @property
    def read(self) -> set[str]:
        """The fields and tags that it reads, those that it only asks about in `nulls` too."""
        return set(re.findall(r"\br\.([a-z]\w*)", self.flux)) | set(re.findall(r'substr: ",(\w+),"', self.flux))


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def queries() -> list[Query]:
    """The panels' queries, and that of the list of meter points."""
    found = dashboard()
    panels = [_of_panel(panel, target) for panel in found["panels"] for target in panel["targets"]]
    variables = [Query(f"variable {one['name']}", one["query"], frozenset()) for one in found["templating"]["list"]]
    return panels + variables


def _of_panel(panel: dict[str, Any], target: dict[str, Any]) -> Query:
    columns = [name for step in panel.get("transformations", ()) for name in step["options"]["renameByName"]]
    return Query(panel["title"], target["query"], frozenset(columns))
