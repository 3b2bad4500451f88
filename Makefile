# Everything that is done to this tree. `make help` lists it.
#
# Each Python has its own environment, .venv/3.X, made once; pip runs again when what it installed has
# changed, and compiles the recorder in place. tools/pythons.py finds the interpreters.

VERSIONS      ?= 3.11 3.12 3.13
PYTHON3       ?= python3
TRUTH_MINUTES ?= 5
CHAOS_SECONDS ?= 60
SEQUENCES     ?= 100
ARGS          ?=

PYTHONS  = MAKE='$(MAKE)' $(PYTHON3) tools/pythons.py
BUILT_OF = pyproject.toml setup.py $(wildcard src/pykcov/*.c src/pykcov/*.h)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SECONDARY:
.PHONY: help venv test truth chaos kernel-test kernel-test-x86 bench lint format docs demo clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "test, truth, chaos, kernel-test, bench, lint, docs and demo also run on one Python: make test-3.11 ARGS='-k mmap'"

venv: ## an environment for every Python of VERSIONS that the machine has
	@+$(PYTHONS) each venv $(VERSIONS)

test: ## the suite on every Python of VERSIONS that the machine has
	@+$(PYTHONS) each test $(VERSIONS)

truth: ## generated programs against their exact traces, TRUTH_MINUTES on each Python
	@+$(PYTHONS) each truth $(VERSIONS)

chaos: ## a storm of processes that are killed, CHAOS_SECONDS on each Python
	@+$(PYTHONS) each chaos $(VERSIONS)

kernel-test: ## the kernel's own device, in a small Linux that is built once and runs as a program
	@+$(PYTHONS) newest kernel-test $(VERSIONS)

kernel-test-x86: ## the same in a PC with two processors that qemu emulates
	@+$(PYTHONS) newest kernel-test-x86 $(VERSIONS)

bench: ## the costs, side by side, on each Python
	@+$(PYTHONS) each bench $(VERSIONS)

lint: ## ruff check, ruff format --check, mypy --strict
	@+$(PYTHONS) newest lint $(VERSIONS)

docs: ## run the examples of the documentation, resolve its links
	@+$(PYTHONS) newest docs $(VERSIONS)

demo: ## one request's lines out of a busy server
	@+$(PYTHONS) newest demo $(VERSIONS)

format: ## ruff format, and what ruff check can mend
	@+$(PYTHONS) newest format $(VERSIONS)

clean: ## remove everything that was made
	rm -rf .venv build dist src/*.egg-info src/pykcov/*.so .hypothesis .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/%/installed: $(BUILT_OF)
	@PYKCOV_WERROR=1 $(PYTHON3) tools/pythons.py install $* $(@D)
	@touch $@

venv-%: .venv/%/installed
	@:

test-%: .venv/%/installed
	.venv/$*/bin/python -m pytest -x -q $(ARGS)

truth-%: .venv/%/installed
	.venv/$*/bin/python -m tests.truth --minutes $(TRUTH_MINUTES) $(ARGS)

chaos-%: .venv/%/installed
	.venv/$*/bin/python -m tests.chaos --seconds $(CHAOS_SECONDS) $(ARGS)

# Seconds for one test: the one that runs so many sequences is the longest.
PATIENCE = $(shell echo $$((900 + 2 * $(SEQUENCES))))

# On the host's files, which the guest cannot write.
IN_GUEST = env PYKCOV_TEST_DEVICE=/sys/kernel/debug/kcov PYKCOV_TEST_SEQUENCES=$(SEQUENCES) PYTHONDONTWRITEBYTECODE=1 \
	HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis $(CURDIR)/.venv/$*/bin/python -m pytest -x -q -p no:cacheprovider \
	-o faulthandler_timeout=$(PATIENCE)

kernel-test-x86-%: .venv/%/installed
	.venv/$*/bin/python tools/kernel/run.py --timeout $$((2500 + $(PATIENCE))) x86 $(IN_GUEST) $(or $(ARGS),tests/kernel tests/conformance)

kernel-test-%: .venv/%/installed
	.venv/$*/bin/python tools/kernel/run.py --timeout $$((600 + $(PATIENCE))) um $(IN_GUEST) $(or $(ARGS),tests/kernel tests/conformance)

bench-%: .venv/%/installed
	.venv/$*/bin/python bench/run.py $(ARGS)

# Checked as the oldest and as the newest Python see it: sys.version_info decides which branch is code.
lint-%: .venv/%/installed
	.venv/$*/bin/ruff check
	.venv/$*/bin/ruff format --check
	.venv/$*/bin/mypy --strict --python-version $(firstword $(VERSIONS))
	.venv/$*/bin/mypy --strict --python-version $(lastword $(VERSIONS))

docs-%: .venv/%/installed
	.venv/$*/bin/python -m pytest -q tests/docs $(ARGS)

demo-%: .venv/%/installed
	.venv/$*/bin/python examples/demo.py $(ARGS)

format-%: .venv/%/installed
	.venv/$*/bin/ruff check --fix-only
	.venv/$*/bin/ruff format
