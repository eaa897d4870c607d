# Everything a person does with a checkout. `make` alone lists it.

# Any Python >= 3.11; the offline recogniser has no wheels for 3.14 yet.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && exit; done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# Sentences for the demo, each in quotes.
SAY ?=
TYPED := $(wildcard xiaozhi tests benchmarks)
SOURCES := $(TYPED) twisted setup.py

# An environment that could not be made whole is made again.
.DELETE_ON_ERROR:
.PHONY: help run demo eval test check static mutants bench profile phrases proto schema constraints \
	clean distclean

help:
	@echo 'make run     start both services here; Ctrl-C stops them'
	@echo 'make demo    have a software device talk with them, then stop;'
	@echo "             SAY='\"hello\" \"tell me a joke\"' are your own sentences"
	@echo 'make eval    play the scripted dialogues with the providers of etc/ai.yaml;'
	@echo '             AI=FILE: of another one; ONLY=NAME: those whose name has it'
	@echo 'make test    all checks and tests'
	@echo 'make check   style, types, import law, unit tests, coverage; no servers'
	@echo 'make static  style and types alone'
	@echo 'make mutants change the core in small ways; each change a unit test must notice;'
	@echo '             ONLY=NAME: of modules whose name has it'
	@echo 'make bench   measure; prints JSON lines and a table; some 14 minutes'
	@echo 'make profile where the edge spends its time (SERVICE=ai: the AI service)'
	@echo 'make phrases record the phrases that ship and are missing'
	@echo 'make proto   generate xiaozhi/_pb from proto/'
	@echo 'make schema  render schema.sql from xiaozhi/storage/schema.py'
	@echo 'make constraints  pin versions and hashes of all packages anew; UPGRADE=--upgrade: the newest'
	@echo 'make clean   remove caches and build products (distclean: also $(VENV) and var)'
	@echo
	@echo 'PYTHON=$(PYTHON) VENV=$(VENV)'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"$(PYTHON) is too old: Python 3.11 or newer is needed; say make PYTHON=...")'
	@echo 'making $(VENV)'
	@$(PYTHON) -m venv $(VENV)

# The stamps are older than these files if the environment must be filled again. Every package
# has the version and one of the hashes that constraints/ lists.
$(VENV)/.offline: setup.cfg constraints/offline.txt | $(BIN)/python
	@echo 'installing into $(VENV)'
	@$(PIP) install --require-hashes -r constraints/offline.txt
	@$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/.dev: setup.cfg constraints/dev.txt | $(BIN)/python
	@echo 'installing into $(VENV), with the packages that tests need'
	@$(PIP) install --require-hashes -r constraints/dev.txt
	@$(PIP) install --no-deps -e .
	@touch $(VENV)/.offline $@

# Writes constraints/ anew from setup.cfg, for all systems and Python versions at once.
# UPGRADE=--upgrade takes the newest versions that setup.cfg allows.
UPGRADE ?=
COMPILE = $(BIN)/uv --quiet pip compile --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command 'make constraints' $(UPGRADE) setup.cfg
constraints: $(VENV)/.dev
	@$(PIP) install uv
	@$(COMPILE) --extra offline --output-file constraints/offline.txt >/dev/null
	@$(COMPILE) --extra offline --extra dev --output-file constraints/dev.txt >/dev/null

run: $(VENV)/.offline
	@$(BIN)/python -m xiaozhi.cli.run run

demo: $(VENV)/.offline
	@$(BIN)/python -m xiaozhi.cli.run demo $(SAY)

AI ?= etc/ai.yaml
ONLY ?=
eval: $(VENV)/.offline
	@$(BIN)/python -m xiaozhi.cli.run --ai-config $(AI) with -- \
		python -m tests.evaluate --ota {ota} --only=$(ONLY)

static: $(VENV)/.dev
	@status=0; \
	$(BIN)/ruff check --quiet --output-format concise $(SOURCES) || status=1; \
	$(BIN)/ruff format --check --output-format concise $(SOURCES) || status=1; \
	$(BIN)/mypy $(TYPED) || status=1; \
	exit $$status

# The tests run even if the static checks complain, so that one run tells all.
check: $(VENV)/.dev
	@status=0; $(MAKE) --no-print-directory static || status=1; \
	$(BIN)/python tests/run.py xiaozhi || status=1; exit $$status

# Not part of `make test`: it takes most of an hour.
mutants: $(VENV)/.dev
	@$(BIN)/python -m tests.mutation $(ONLY)

test: $(VENV)/.dev
	@status=0; $(MAKE) --no-print-directory static || status=1; \
	$(BIN)/python tests/run.py xiaozhi tests || status=1; exit $$status

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks

SERVICE ?= im
profile: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.profile $(SERVICE)

phrases: $(VENV)/.dev
	$(BIN)/python -m xiaozhi.testing.shipped

proto: $(VENV)/.dev
	$(BIN)/python -m grpc_tools.protoc -I xiaozhi/_pb=proto --python_out=. --pyi_out=. \
		--grpc_python_out=. proto/ai_service.proto

schema: $(VENV)/.dev
	@$(BIN)/python -c "from xiaozhi.storage.schema import render; print(render(), end='')" >$@.sql

clean:
	rm -rf build dist _trial_temp* .coverage* .mypy_cache .ruff_cache .hypothesis
	find xiaozhi tests twisted benchmarks \
		\( -name __pycache__ -o -name dropin.cache \) -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) var *.egg-info
