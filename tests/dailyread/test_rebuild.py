"""`dailyread rebuild state`: removes what a stopped worker can make again, and nothing else, and nothing in use."""

import subprocess
import sys
from pathlib import Path

import pytest

from dailyread.cli import main
from dailyread.rebuild_request import asked_us
from metering.rules import Rules, load
from metering.rules_digest import digest
from storage.fact_store import fact_store_path
from storage.fact_store_rocksdb import RocksFactStore
from stream.state_file import state_file_path

HOLD = """
import sys
from pathlib import Path
from stream.state_file import StateFile
file = StateFile(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
file.close()
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "stream.toml"
    path.write_text('state_dir = "state"\n[kafka]\nbootstrap_servers = ["127.0.0.1:1"]\n')
    return path


def test_state_and_facts_go_once_no_worker_holds_them(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = config.parent / "state"
    RocksFactStore(fact_store_path(state, 3)).close()
    (state / "ledger-index.sqlite").write_text("the writer's")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state_file_path(state, 3))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "held\n"
        assert main(["rebuild", "state", "--config", str(config)]) == 1
        assert "in use by another process; stop `dailyread stream` first" in capsys.readouterr().err
        assert fact_store_path(state, 3).exists()
        worker.communicate("")
    assert main(["rebuild", "state", "--config", str(config)]) == 0
    assert sorted(path.name for path in state.iterdir()) == ["ledger-index.sqlite", "rebuild.json"]
    assert main(["rebuild", "state", "--config", str(config)]) == 0
    assert "no state of a worker here" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["store"], ["rebuild", "influx"]])
def test_without_influxdb_in_the_configuration(config: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--config", str(config)])
    assert ended.value.code == 2
    assert "influx: missing; allowed: a table `[influx]`" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["9465", "host:", "127.0.0.1:0", "127.0.0.1:x"])
def test_a_wrong_address_for_metrics(config: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["store", "--config", str(config), "--metrics", address])
    assert ended.value.code == 2
    assert "allowed: host:port" in capsys.readouterr().err


def test_it_asks_for_states_of_the_rules_that_are_configured_then(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = config.parent / "state"
    assert asked_us(state, digest(Rules())) == 0
    assert main(["rebuild", "state", "--config", str(config)]) == 0
    asked = asked_us(state, digest(Rules()))
    assert asked > 0
    assert f"made anew by the default rules ({digest(Rules()).hex()})" in capsys.readouterr().out
    rules = config.parent / "rules.toml"
    rules.write_text("close_out_days = 4\n")
    config.write_text(f'rules = "{rules}"\n{config.read_text()}')
    assert asked_us(state, digest(load(rules.read_bytes()))) == 0, "it was asked for under others"
    assert main(["check", str(config)]) == 0
    assert f"its rules: {rules} ({digest(load(rules.read_bytes())).hex()})" in capsys.readouterr().out
    assert main(["rebuild", "state", "--config", str(config)]) == 0
    assert asked_us(state, digest(load(rules.read_bytes()))) > asked
    assert asked_us(state, digest(Rules())) == 0


@pytest.mark.parametrize("text", ["", "{}", '{"rules": 7}', '{"rules": "RULES", "asked_at": "2026-01-01T00:00:00"}'])
def test_a_request_that_is_none_is_as_if_nobody_had_asked(tmp_path: Path, text: str) -> None:
    (tmp_path / "rebuild.json").write_text(text.replace("RULES", digest(Rules()).hex()))
    assert asked_us(tmp_path, digest(Rules())) == 0


def test_rules_that_are_wrong_ask_for_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(f'rules = "nowhere.toml"\n{config.read_text()}')
    with pytest.raises(SystemExit) as ended:
        main(["rebuild", "state", "--config", str(config)])
    assert ended.value.code == 2
    assert "nowhere.toml" in capsys.readouterr().err
    assert not (config.parent / "state").exists()
