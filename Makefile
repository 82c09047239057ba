# Each target makes its environment when it is missing: a small one without PyTorch for `make demo` and
# `make serve`, the whole for others.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := .venv-demo
# Where `make serve` finds certify: whichever is there, and else the small one, since the whole is 7 GB.
SERVED := $(if $(wildcard $(STAMP)),$(VENV),$(DEMO))

# Threads that wait must not spin: with shared cores, spinning made two threads ten times slower than one.
export OMP_WAIT_POLICY := PASSIVE

# Least coverage of lines and branches outside service/core, whose own is 100. What runs in other processes (a served
# gateway, Triton's stubs) is not counted. Raise it when it is beaten; never lower it.
COVERAGE := 93

.PHONY: help demo demo-photo serve triton test test-first test-second test-images lint format lock bench bench-gpu bench-triton soak train clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt install.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python install.py --editable dev
	@touch $@

# pip and setuptools have done their work then, and are 25 MB.
$(DEMO)/.installed: pyproject.toml constraints.txt install.py
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python install.py --small --editable cpu
	$(DEMO)/bin/python -m pip uninstall --quiet --yes setuptools pip
	@touch $@

demo: $(DEMO)/.installed ## start the service, certify ten digits and ten pieces of clothing over HTTP, stop it
	$(DEMO)/bin/python -m benchmarks.demo

demo-photo: $(STAMP) ## five photographs certified over HTTP; what the classifier saw goes to demo-out/photo.png
	$(BIN)/python -m benchmarks.photo_demo

serve: $(SERVED)/.installed ## serve the digits bundle on http://127.0.0.1:8000
	$(SERVED)/bin/certify serve

triton: $(STAMP) ## a real Triton server for the digits bundle on 127.0.0.1:8001, no container
	$(BIN)/certify triton

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Three parts at once, since most tests wait: for a server, a child process, a deadline. Of models some go into each of
# the last two. deploy has a process of its own: Helm's engine, in Go, and the networks' libraries end each other in one.
# images are built by a target of their own.
FIRST := $(addprefix tests/, answering/ backends/ benchmarks/ certificates/ cli/ core/ http/ research/ service/)
THIRD := $(addprefix tests/, remote/ models/classifiers/ models/train/ test_light_service.py test_wheel.py)
SECOND := $(filter-out $(FIRST) $(THIRD) tests/deploy/ tests/images/ tests/cases/ tests/golden/ tests/typing/ %__pycache__/, $(wildcard tests/*/ tests/test_*.py))

test: lint ## everything: lint, types, unit, statistics, HTTP against a real process, a real Triton; coverage
	rm -f .coverage .coverage.*
	$(MAKE) --no-print-directory --keep-going --jobs=3 test-first test-second test-third
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include="service/core/*" --show-missing --fail-under=100
	$(BIN)/coverage report --omit="service/core/*" --skip-covered --fail-under=$(COVERAGE)

test-first test-second test-third: export COVERAGE_FILE = .coverage.$@
test-first: $(STAMP)
	$(BIN)/python -m pytest -q --cov --cov-report= $(FIRST)
test-second: $(STAMP)
	$(BIN)/python -m pytest -q --cov --cov-report= $(addprefix --ignore=, $(filter tests/models/%, $(THIRD))) $(SECOND)
test-third: $(STAMP)
	$(BIN)/python -m pytest -q --cov --cov-report= tests/deploy/
	$(BIN)/python -m pytest -q --cov --cov-append --cov-report= $(THIRD)

test-images: $(STAMP) ## the gateway's images built and run for real; as root, with buildah, runc and debootstrap
	$(BIN)/python -m pytest -q tests/images/

format: $(STAMP) ## rewrite the sources as ruff would have them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## constraints.txt anew from pyproject.toml, for Python 3.11 to 3.13 on any platform; needs uv; ARGS=--upgrade
	uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	    --custom-compile-command "make lock" --output-file constraints.txt $(ARGS)

# ARGS: more of its options, e.g. make bench ARGS="--data DIR --write"
bench: $(STAMP) ## this machine against the reference loop and its own peaks; tables, JSON and a chart (ten minutes)
	$(BIN)/python -m benchmarks.run --json benchmarks/out/bench.json --chart benchmarks/out/bench.png $(ARGS)

bench-gpu: $(STAMP) ## what a CUDA device makes of a bundle: samples, share of its peak, answers (five minutes)
	$(BIN)/python -m benchmarks.gpu --json benchmarks/out/gpu.json $(ARGS)

bench-triton: $(STAMP) ## requests in one execute(), fairness and cost of a real Triton server
	$(BIN)/python -m benchmarks.triton

soak: $(STAMP) ## half an hour of mixed load on a real Triton server: does anything grow?
	$(BIN)/python -m benchmarks.soak

train: $(STAMP) ## retrain the digits bundles from nothing (under 30 minutes on 2 cores)
	$(BIN)/python -m benchmarks.digits digits --train

clean: ## remove the environment and caches
	rm -rf $(VENV) $(DEMO) .triton .mypy_cache .ruff_cache .pytest_cache *.egg-info
