"""The compose file: its services' settings are ours, nothing is open to other machines, and no password has a default."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dailyread.cli import COMMANDS
from dailyread.config import KINDS, StreamConfig
from dailyread.settings import load

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "dailyread-stream"}


@pytest.mark.parametrize("name", OURS)
def test_configuration_from_the_environment_is_complete(name: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token")
    image = {"DAILYREAD_STATE_DIR": "/var/lib/dailyread"}  # which the container file sets
    environ = image | {
        key: value.replace("/run/secrets/influx-token", str(token)) for key, value in OURS[name]["environment"].items()
    }
    config = load(StreamConfig, None, environ, KINDS)
    assert config.kafka.bootstrap_servers == ("kafka:9092",)
    assert (config.influx is not None) == (name == "store")


def test_our_services_are_commands_of_ours() -> None:
    assert {name: service["command"][0] for name, service in OURS.items()} == {
        "topics": "topics", "stream": "stream", "store": "store"
    }  # fmt: skip
    assert {service["command"][0] for service in OURS.values()} <= COMMANDS.keys()


def test_container_file_sets_the_state_folder_and_is_not_root() -> None:
    text = (ROOT / OURS["stream"]["build"]["dockerfile"]).read_text()
    final = text.rpartition("\nFROM ")[2]
    assert "DAILYREAD_STATE_DIR=/var/lib/dailyread" in final
    assert "\nUSER 10001:10001\n" in final


def test_container_file_copies_every_package() -> None:
    """A package that is missing there is missing in the image, which installs without complaint."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    text = (ROOT / OURS["stream"]["build"]["dockerfile"]).read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert all(f"\nCOPY {name} {name}\n" in text and f"!{name}" in ignored for name in packages)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_files(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if any(word in variable for word in ("PASSWORD", "TOKEN", "SECRET")):
            assert value.startswith("/run/secrets/"), variable
            assert value.removeprefix("/run/secrets/") in SERVICES[name]["secrets"]


def test_volumes_that_hold_data_are_declared() -> None:
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert {name for name in used if not name.startswith(".")} == set(compose["volumes"])


def test_make_secrets_makes_every_secret_once(tmp_path: Path) -> None:
    script = shutil.copy(COMPOSE / "make-secrets.sh", tmp_path)
    wanted = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["secrets"]
    made = []
    for _ in range(2):
        subprocess.run([script], check=True, capture_output=True, env=os.environ)
        made.append({name: (tmp_path / place["file"]).read_text() for name, place in wanted.items()})
    assert made[0] == made[1]
    assert all(len(secret) >= 40 and secret.isprintable() and " " not in secret for secret in made[0].values())
    assert len(set(made[0].values())) == len(wanted)
