"""`dailyread rebuild state`: removes what a stopped worker can make again, and nothing else, and nothing in use."""

import subprocess
import sys
from pathlib import Path

import pytest

from dailyread.cli import main
from storage.fact_store import SqliteFactStore, fact_store_path

HOLD = """
import sys
from rocksdict import Rdict
database = Rdict(sys.argv[1])
database["key"] = 1
print("held", flush=True)
sys.stdin.read()
database.close()
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "stream.toml"
    path.write_text('state_dir = "state"\n[kafka]\nbootstrap_servers = ["127.0.0.1:1"]\n')
    return path


def test_state_and_facts_go_once_no_worker_holds_them(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = config.parent / "state"
    SqliteFactStore(fact_store_path(state, 3)).close()
    (state / "ledger-index.sqlite").write_text("the writer's")
    table = state / "v1" / "tables" / "states-3.db"
    table.parent.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(table)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
