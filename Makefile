# Everything that a person or CI runs here. `make` alone lists it.
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help run test test-fast lint format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install-run install-test
install-run:
	@.ci/install debian nginx=nginx curl=curl
	@.ci/install venv .venv requirements/proxy.lock requirements/test.lock
install-test:
	@.ci/install debian nginx=nginx curl=curl make=make rsync=rsync jq=jq gcc=gcc dpkg-source=dpkg-dev strace=strace unshare=util-linux
	@.ci/install venv .venv requirements/test.lock

run: install-run ## the main job on this machine: examples/, nginx, a stand-in model
	@$(PY) examples/run.py

test: install-test ## every test (builds a Kubernetes API server once, about 5 minutes)
	@$(PY) -m pytest -n 2

test-fast: install-test ## without the API server, within a minute
	@$(PY) -m pytest -n 2 -m "not apiserver"

lint: install-test ## ruff, mypy, import-linter
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports --no-logo

format: install-test ## let ruff mend what it can
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

bench: install-test ## the figures of the README
	@$(PY) -m bench

lock: install-test ## pin the newest versions that pyproject.toml allows
	@.venv/bin/python -m pip install -q uv
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements/proxy.lock
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group test --group lint -o requirements/test.lock
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group build -o requirements/build.lock

clean: ## remove what was built here (not the API server's cache)
	rm -rf .venv .run build dist .pytest_cache .mypy_cache .ruff_cache
