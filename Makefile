# Two commands do everything on a machine with Python 3.11+ and make: `make up` and `make test`.

# The first Python that is new enough and can make virtual environments: a name on PATH alone may be neither.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	{ echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest

# Tests are divided among processes, three a core: many wait most of the time. `make test PARALLEL=` runs them in one.
PARALLEL ?= --numprocesses auto --dist worksteal

# Runs pip and shows that it works: the seconds so far, at a terminal, and how many it took.
define install
	echo "$(2) ..."; began=$$(date +%s); \
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(1) & pip=$$!; \
	trap "kill $$pip 2>/dev/null; exit 130" INT TERM; \
	while [ -t 1 ] && kill -0 $$pip 2>/dev/null; do printf '\r  %s s ' $$(($$(date +%s) - began)); sleep 1; done; \
	wait $$pip || exit 1; \
	if [ -t 1 ]; then printf '\r'; fi; echo "  $$(($$(date +%s) - began)) s"
endef

.PHONY: up page test test-quick test-postgresql test-timescale test-lowest coverage lint bench soak clean help \
	k3s-up k3s-status k3s-down k3s-image k3s-token \
	k3s-postgres-up k3s-loki-up k3s-grafana-up k3s-alloy-up k3s-gateway-up

help:  ## Show what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

up: $(VENV)/installed  ## Run the whole hub on this machine; options of `obs-hub up` by ARGS="..."
	@$(BIN)/obs-hub up $(ARGS)

page: $(VENV)/installed  ## Make the published page in site/, of its content alone; SITE_URL=https://... where it will be
	@$(BIN)/obs-hub page build --without-hub --output site --site-url "$(SITE_URL)" --repository "$(REPOSITORY)" $(ARGS)

test: $(VENV)/installed-dev  ## Run every default test
	@$(BIN)/pytest $(PARALLEL) $(ARGS)

test-quick: $(VENV)/installed-dev  ## Run the unit tests, with fewer examples of each property
	@HYPOTHESIS_PROFILE=quick $(BIN)/pytest $(PARALLEL) tests/unit $(ARGS)

test-postgresql: $(VENV)/installed-dev  ## Run those of the store on another version of PostgreSQL: DSN=postgresql://...
	@test -n "$(DSN)" || { \
		echo "Name a server, as a user who may make databases: make test-postgresql DSN=postgresql://..." >&2; exit 1; }
	@OBSHUB_TEST_POSTGRESQL_DSN="$(DSN)" $(BIN)/pytest $(PARALLEL) -k "not timescale" tests/integration/store \
		--ignore tests/integration/store/test_poolers.py $(ARGS)

test-timescale: $(VENV)/installed-dev  ## Run those of the store on a server with TimescaleDB: DSN=postgresql://...
	@test -n "$(DSN)" || { \
		echo "Name a server with TimescaleDB, as a user who may make databases: make test-timescale DSN=postgresql://..." >&2; exit 1; }
	@OBSHUB_TEST_TIMESCALE_DSN="$(DSN)" $(BIN)/pytest $(PARALLEL) -k timescale tests/integration tests/hostile tests/faults $(ARGS)

test-lowest: $(LOWEST)/installed  ## Run the unit tests with the lowest versions that pyproject.toml allows
	@HYPOTHESIS_PROFILE=quick $(LOWEST)/bin/pytest $(PARALLEL) tests/unit $(ARGS)

coverage: $(VENV)/installed-dev  ## Measure which lines and branches the default tests run, in all processes
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS); ended=$$?; \
	$(BIN)/coverage combine -q && $(BIN)/coverage report --skip-covered --skip-empty && exit $$ended

lint: $(VENV)/installed-dev  ## Check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/installed-dev  ## Measure the gateway against bare COPY
	@$(BIN)/python -m tests.bench --regimes $(ARGS)
	@$(BIN)/python -m tests.bench.capacity --write

soak: $(VENV)/installed-dev  ## Try faults and arbitrary requests for about an hour
	TMPDIR=$${TMPDIR:-/var/tmp} OBSHUB_TEST_FAULT_ROUNDS=20 HYPOTHESIS_PROFILE=soak $(BIN)/pytest --timeout 3600 \
		tests/faults tests/unit/spool tests/integration/store/test_lossless.py

clean:  ## Remove what the commands above installed; says what stays
	rm -rf $(VENV) $(LOWEST) .coverage .coverage.* .grimp_cache .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis site
	@echo "What hubs stored stays: $${OBSHUB_DATA_DIR:-$${XDG_STATE_HOME:-$$HOME/.local/state}/obs-hub}, and root's /var/lib/obs-hub."
	@echo "How to remove that, too, and what root's hub made: docs/configuration.md, Removing everything."

# On any Kubernetes that kubectl reaches; docs/kubernetes.md. PROFILE="small homelab", VALUES=mine.yaml, IMAGE=host/obs-hub:1
k3s-up:  ## Run the whole hub on Kubernetes, Grafana on port 30000 of its nodes
	@charts/k3s.sh up

k3s-postgres-up:  ## Only this part, and what is up already; likewise the next four
	@charts/k3s.sh up postgres

k3s-loki-up:
	@charts/k3s.sh up loki

k3s-grafana-up:
	@charts/k3s.sh up grafana

k3s-alloy-up:
	@charts/k3s.sh up alloy

k3s-gateway-up:
	@charts/k3s.sh up gateway

k3s-status:  ## Show what runs there, and where it is reached
	@charts/k3s.sh status

k3s-down:  ## Take the hub away from there; volumes and passwords stay, unless DATA=delete
	@charts/k3s.sh down

k3s-image:  ## Build the image, and give it to the k3s of this machine
	@charts/k3s.sh image

k3s-token: $(VENV)/installed  ## Make a token for who sends: NAME=nas, SCOPE=ingest
	@OBS_HUB=$(BIN)/obs-hub charts/k3s.sh token "$(NAME)" $(SCOPE)

$(VENV)/python:
	@test -n "$(PYTHON)" || { \
		echo "Python 3.11 or newer is needed, with its module venv (on Debian and Ubuntu: apt install python3-venv)." >&2; \
		echo "If it is not on PATH, name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml constraints.txt
	@$(call install,-e .,Installing into $(VENV))
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(call install,-e '.[dev]',Installing what tests need into $(VENV))
	@touch $@

$(LOWEST)/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, with its module venv." >&2; exit 1; }
	@echo "Installing the lowest versions into $(LOWEST) ..."
	@$(PYTHON) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt uv
	@$(LOWEST)/bin/uv pip compile -q --resolution lowest-direct pyproject.toml -o $(LOWEST)/lowest.txt
	@$(LOWEST)/bin/uv pip install -q --python $(LOWEST)/bin/python -c $(LOWEST)/lowest.txt -e '.[test]'
	@touch $@
