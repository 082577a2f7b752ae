# The project's commands. `make demo` needs Python 3.11+ and make; `make test` also gets Kafka and InfluxDB.

VENV := .venv
PY := $(VENV)/bin/python

.PHONY: help demo test coverage lint services fuzz chaos bench schema clauses

help:
	@echo "make demo      run the simulated sites through the whole system, here and now"
	@echo "make test      lint, types, unit and integration tests (gets what they need)"
	@echo "make coverage  the tests again, slower, with the lines and branches that none of them meets"
	@echo "make lint      ruff and mypy only"
	@echo "make services  get what the tests run on: Kafka, InfluxDB, a browser"
	@echo "make fuzz      look for octets that a decoder stumbles over, a minute each (SECONDS=60)"
	@echo "make chaos     kill, pause, cut off and fill everything at random instants, and see that nothing is lost (ROUNDS=10 SEED=1)"
	@echo "make bench     measure speed and memory"
	@echo "make clauses   write docs/clauses.md, which test shows which clause, anew"
	@echo "make schema    write the JSON Schema of the facts and ledger records anew"

demo: $(VENV)/demo.stamp
	$(VENV)/bin/dailyread demo

test: lint services
	$(PY) -m pytest -n 3 --dist loadfile --durations=20
	$(PY) -m tests.compiled pytest -n 3 --dist loadfile tests/metering tests/stream \
		tests/integration/stream/test_worker_refusals.py tests/integration/stream/test_other_rules.py

coverage: services
	$(PY) -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy -p tests.integration.services

services: $(VENV)/dev.stamp
	scripts/need.sh cc=gcc java=openjdk-17-jre-headless mvn=maven go=golang-go systemd-analyze=systemd openssl=openssl chromium=chromium mosquitto_passwd=mosquitto strace=strace mbpoll=mbpoll shellcheck=shellcheck
	$(PY) -m tests.integration.services install

# The installation is editable: only a change of what it depends on asks for another one.
$(VENV)/demo.stamp: pyproject.toml
	scripts/venv.sh $(VENV)
	$(PY) -m pip install -qq -e '.[gateway,report,stream]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml
	scripts/venv.sh $(VENV)
	$(PY) -m pip install -qq -e '.[dev]'
	touch $@ $(VENV)/demo.stamp

SECONDS := 60
fuzz: $(VENV)/dev.stamp
	$(PY) -m pip install -qq -e '.[fuzz]'
	nice $(PY) -m fuzz --seconds $(SECONDS)

ROUNDS := 10
SEED := 1
chaos: services
	nice $(PY) -m tests.chaos --rounds $(ROUNDS) --seed $(SEED)

bench: services
	$(PY) -m benchmarks.engine
	$(PY) -m benchmarks.engine --compiled
	$(PY) -m benchmarks.collector
	$(PY) -m benchmarks.lines share
	$(PY) -m benchmarks.lines isolation
	$(PY) -m benchmarks.replay --stages
	$(PY) -m benchmarks.nation
	$(PY) -m benchmarks.growth
	$(PY) -m benchmarks.recovery
	$(PY) -m tests.integration.services with $(PY) -m benchmarks.publishing
	$(PY) -m tests.integration.services with $(PY) -m benchmarks.influx_writer
	$(PY) -m pip install -qq -e '.[dev,rivals]'
	$(PY) -m tests.integration.services with $(PY) -m benchmarks.stream
	$(PY) -m tests.integration.services with $(PY) -m benchmarks.pressure

schema: $(VENV)/dev.stamp
	$(PY) scripts/schema.py

clauses: $(VENV)/dev.stamp
	$(PY) scripts/clauses.py
