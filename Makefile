# Everything that a person or CI runs here. `make` alone lists it, but for the install-... that the others begin with.
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help run run-stand-in test test-fast lint format bench bench-bodies soak lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install-run install-test golden
install-run:
	@.ci/install debian nginx=nginx curl=curl
	@.ci/install venv .venv requirements/proxy.lock requirements/test.lock
install-test:
	@.ci/install debian nginx=nginx curl=curl make=make rsync=rsync jq=jq gcc=gcc dpkg-source=dpkg-dev strace=strace unshare=util-linux
	@.ci/install venv .venv requirements/test.lock

.PHONY: install-serving test-serving lint-serving inference-zip demo-clean bench-serving
install-serving:
	@.ci/install debian nginx=nginx
	@.ci/install serving .venv-serving requirements/serving-test.lock

run: install-run install-serving ## the main job on this machine: a small model, Ray Serve, nginx, rayproxy; with your model: make run BASE_MODEL=... CHECKPOINT=...
	@$(PY) examples/run.py $(if $(BASE_MODEL),--base-model "$(BASE_MODEL)") $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)")

run-stand-in: install-run ## the same with a stand-in for the model: no torch, no Ray, there at once
	@$(PY) examples/run.py --stand-in

# Before the tests, which would wait for it with both cores busy.
.PHONY: api-server
api-server: install-test ## what the tests' Kubernetes API server is, built once (with Go about 5 minutes)
	@$(PY) -m tests.support.apiserver

test: test-serving api-server ## every test that this machine can run
	@$(PY) -m pytest -n 2

test-serving: install-serving ## the model server's tests, in an environment of their own
	@.venv-serving/bin/python -m pytest tests/serving -n 2

.PHONY: test-models
test-models: install-serving ## the model server beside transformers and PEFT: architectures, adapters, tokenizers, published layouts, broken files
	@.venv-serving/bin/python -m pytest tests/serving/models -n 2 -m models

lint-serving: install-serving install-test ## mypy on the model server, its benchmark and tools, where their packages are; its layers
	@MYPYPATH=tools .venv-serving/bin/mypy serving/llmserving serving/inference.py bench/serving tools
	@PYTHONPATH=serving .venv/bin/lint-imports --no-logo --config serving/.importlinter

inference-zip: ## build/inference-HASH.zip: the working_dir of a RayService
	@python3 tools/inference_zip.py

# syft at one version, checked against Go's checksum database: some 3 minutes of a processor the first time.
SYFT := github.com/anchore/syft/cmd/syft@v1.57.1
.PHONY: sbom
sbom: ## build/sbom.spdx.json: what packages are in an image (wants Docker and Go): make sbom IMAGE=rayproxy:0.1.0
	@[ -n "$(IMAGE)" ] || { echo "sbom: name an image: make sbom IMAGE=rayproxy:0.1.0" >&2; exit 2; }
	@command -v go > /dev/null || { echo "sbom: Go builds syft, and there is no go on the PATH" >&2; exit 2; }
	@mkdir -p build && trap 'rm -f build/image.tar' EXIT && docker save --output build/image.tar "$(IMAGE)" && \
		go run $(SYFT) scan --quiet docker-archive:build/image.tar --source-name "$(IMAGE)" --output spdx-json=build/sbom.spdx.json
	@python3 -c 'import json; print("build/sbom.spdx.json:", len(json.load(open("build/sbom.spdx.json"))["packages"]), "packages")'

.PHONY: model-context
model-context: ## check a model, and build/model, the build context of Dockerfile.model: make model-context BASE_MODEL=... CHECKPOINT=...
	@python3 tools/model_context.py --base-model "$(BASE_MODEL)" --checkpoint "$(CHECKPOINT)"

demo-clean: ## remove what the demo made: its model, state and zips
	rm -rf .run build/inference-*.zip

.PHONY: install-e2e test-e2e test-cluster screenshot
install-e2e: install-test
	@.ci/install debian dockerd=docker.io debootstrap=debootstrap chromium=chromium chromedriver=chromium-driver jq=jq promtool=prometheus

test-e2e: install-e2e api-server ## the images in containers, and the page in Chromium (starts a Docker engine where none runs)
	@tests/support/with-engine.sh $(PY) -m pytest tests/e2e

.PHONY: install-pages test-pages
install-pages: install-test
	@.ci/install debian chromium=chromium chromedriver=chromium-driver
	@.ci/install venv .venv-pages requirements/pages.lock
test-pages: install-pages ## pages of FastAPI, Gradio and Streamlit in Chromium, through the front end and the proxy
	@$(PY) -m pytest tests/pages

WHOLE :=
test-cluster: install-e2e ## deploy/ and a model as real pods, with KubeRay's operator (builds a cluster once, about 30 minutes); WHOLE=1: all scenarios, the plain script beside
	@.ci/install debian ip=iproute2 iptables=iptables ipset=ipset containerd=containerd /usr/lib/cni/ptp=containernetworking-plugins redis-server=redis-server
	@$(PY) -m tests.support.cluster
	@tests/support/with-engine.sh $(PY) -m pytest tests/cluster $(if $(WHOLE),--whole --script)

.PHONY: install-lint-deploy lint-deploy
install-lint-deploy: install-test
	@.ci/install venv .venv-deploy requirements/lint-deploy.lock
lint-deploy: install-lint-deploy ## hadolint, checkov and gixy on the images, deploy/ and the rendered configuration
	@tests/support/lint-deploy.sh .venv

screenshot: install-e2e ## docs/screenshot.png, from the page's test
	@RAYPROXY_TEST_PICTURE=$(CURDIR)/docs/screenshot.png $(PY) -m pytest tests/e2e/test_page.py

test-fast: install-test ## the quick ones, within a minute: no API server, model server, browser or image
	@$(PY) -m pytest -n 4 -m "not apiserver and not slow" --ignore=tests/e2e --ignore=tests/cluster --ignore=tests/pages

lint: install-test ## ruff, mypy, import-linter
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports --no-logo

format: install-test ## let ruff mend what it can
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

bench: install-test ## the figures of docs/development.md
	@$(PY) -m bench

soak: install-test ## changes and faults for twenty minutes: is what is served always right, does the daemon grow
	@$(PY) -m bench.soak

.PHONY: churn
churn: install-test ## objects with ever new names for ten minutes, and 1,000 of 1.4 MB: does the daemon stay small
	@$(PY) -m bench.churn

.PHONY: endpoints
endpoints: install-test ## the endpoints of 500 services change each second for ten minutes: no reload, no growth, new routes as quick
	@$(PY) -m bench.endpoints

.PHONY: fuzz
FUZZED := tests/unit/test_hostile_objects.py tests/unit/test_listing.py tests/unit/test_slices.py tests/unit/test_manifests.py \
	tests/unit/test_hostile_revisions.py tests/unit/test_replicas.py tests/unit/test_names.py tests/differential/test_differential.py
TIMES := 20
fuzz: install-test ## objects, lists, manifests, requests, answers and revisions as nobody should send them, TIMES=20 as many as in a test run
	@RAYPROXY_TEST_TIMES=$(TIMES) $(PY) -m pytest -n 2 --timeout 7200 $(FUZZED)

.PHONY: fuzz-serving
MINUTES := 10
fuzz-serving: install-serving ## callers who send the model server anything, with a neighbour who must be answered: MINUTES=10
	@.venv-serving/bin/python tests/serving/fuzz.py --minutes $(MINUTES)

bench-serving: install-serving ## the model server's figures, beside other ways to serve (about 10 minutes)
	@.venv-serving/bin/python -m bench.serving

bench-bodies: install-test install-serving ## callers who send slowly: with request bodies gathered, and streamed
	@$(PY) -m bench.bodies

lock: install-test ## pin the newest versions that pyproject.toml allows
	@.venv/bin/python -m pip install -q uv
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements/proxy.lock
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group test --group lint -o requirements/test.lock
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group build -o requirements/build.lock
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group lint-deploy -o requirements/lint-deploy.lock
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group pages -o requirements/pages.lock
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --overrides requirements/serving.overrides --group serving -o requirements/serving.lock
	@.venv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --overrides requirements/serving.overrides --group serving-test -o requirements/serving-test.lock

golden: install-test ## write anew what is made by commands: the golden files, parts of docs/
	@$(PY) tests/golden/update.py
	@$(PY) -m tests.differential.golden

clean: ## remove what was built here (not the API server's cache)
	rm -rf .venv .venv-deploy .venv-pages .venv-serving .run build dist .pytest_cache .mypy_cache .ruff_cache
