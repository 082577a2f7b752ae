"""The dashboard reads only what the store writes, and never what a void or a null has left behind."""

from __future__ import annotations

import re

import pytest
import yaml

from storage.influx_schema import MEASUREMENTS, NULLS, READING, VOID
from tests.deploy.dashboard import DEPLOY, Query, dashboard, queries

QUERIES = {query.title: query for query in queries()}
PROVISIONING = DEPLOY / "grafana" / "provisioning"
every_query = pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())


def test_every_measurement_of_the_ledger_is_shown() -> None:
    assert {query.measurement for query in QUERIES.values()} == set(MEASUREMENTS)


@every_query
def test_fields_and_tags_exist_in_the_stores_schema(query: Query) -> None:
    measurement = MEASUREMENTS[query.measurement]
    known = {"meter_point", VOID, NULLS, READING, *measurement.tags, *(field.name for field in measurement.fields)}
    assert query.read <= known


@pytest.mark.parametrize("query", [query for query in QUERIES.values() if not query.title.startswith("variable")])
def test_voids_are_left_out(query: Query) -> None:
    assert "filter(fn: (r) => not r.void" in query.flux


@every_query
def test_fields_that_can_be_null_are_asked_about_in_nulls(query: Query) -> None:
    nullable = {field.name for field in MEASUREMENTS[query.measurement].fields if field.nullable}
    asked = set(re.findall(r'containsStr\(v: r\.nulls, substr: ",(\w+),"\)', query.flux))
    assert query.read & nullable == asked


def test_panels_have_their_own_numbers_and_places() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_data_source_is_the_provisioned_one() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "influxdb.yaml").read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in dashboard()["panels"]}
    assert used == {source["uid"]}
    assert source["jsonData"]["version"] == "Flux"
    assert source["secureJsonData"]["token"].startswith("$__file{")


def test_provider_and_compose_agree_on_the_folder() -> None:
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "dailyread.yaml").read_text())["providers"]
    volumes = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in volumes
