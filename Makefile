# `make demo`, `make test`, `make slow` and `make check` each work on a fresh clone: they create .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo needs test slow check interpreters faults fuzz soak format protos lock clean

# Every file that is installed must have a hash of the lock's, but torch's, which differ by the processors that it is built
# for; a build for GPUs brings further packages.
.venv: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	grep -v '^torch==' requirements.lock > .venv/hashed.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/hashed.txt
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch .venv

# Into a folder of its own, for the tests that ask for it: beside a torch for CPUs it can't be imported, and transformers,
# seeing it, can't either.
.venv/torchvision: | .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .venv/torchvision torchvision==0.28.0

# What the Node client and buf need, with the Node that comes as a Python package. Put in place whole, so that one that was
# cut short is not taken for done.
.venv/node: examples/node/package.json examples/node/package-lock.json | .venv
	rm -rf .venv/node .venv/node.part
	mkdir .venv/node.part
	cp examples/node/package.json examples/node/package-lock.json .venv/node.part
	cd .venv/node.part && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --loglevel=error --ignore-scripts --no-audit --no-fund > /dev/null
	mv .venv/node.part .venv/node

demo: .venv
	$(BIN)/semiome demo

# What some tests need of the system is installed first where that is possible, else named (see tests/needs.py); with
# INSIST=--insist anything that is missing is an error.
needs:
	@$(PYTHON) -m tests.needs $(INSIST)

test: needs .venv .venv/torchvision .venv/node
	$(BIN)/pytest

# The rest: ranks, clusters, browsers, kills, whole studies.
slow: needs .venv .venv/torchvision .venv/node
	$(BIN)/pytest -m slow

# With each other Python from 3.11 to 3.13 that is here.
interpreters: needs .venv .venv/node
	$(BIN)/python -m tests.interpreters

check: .venv .venv/node
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m protos.generate --check
	$(BIN)/python -m protos.lint
	$(BIN)/python -m protos.document --check
	$(BIN)/python -m service.calling.generate_sync_client --check
	$(BIN)/python -m tests.words

# Longer than a test run may take: kills, full disks, flipped bits and moved clocks (needs unshare and Debian's faketime),
# an encode job killed at fifty moments, ten thousand random steps against a dict, eight writers at once.
faults: .venv
	$(BIN)/python -m tests.index.custody.faults
	SEMIOME_KILLS=50 $(BIN)/pytest -m slow tests/encoder/job/test_survival.py -k killed_at_random_moments
	SEMIOME_STEPS=10000 $(BIN)/pytest tests/index/test_stateful.py
	SEMIOME_WRITERS=8 $(BIN)/pytest -m slow tests/index/custody/test_doctor.py -k writers

# Made-up bytes behind the wire for a minute.
fuzz: .venv
	$(BIN)/pip install --quiet --disable-pip-version-check atheris==3.0.0
	$(BIN)/python -m tests.service.gate.fuzz 60

# An hour of a unit's calls while everything changes under them.
soak: .venv
	SEMIOME_SOAK_S=3600 $(BIN)/pytest -n 0 -s -m slow tests/service/server/test_soak.py

format: .venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Run from the repository root, so that the generated modules import each other as protos.*
protos: .venv
	$(BIN)/python -m protos.generate
	$(BIN)/python -m protos.document

# Exact versions of what is installed, and the hashes of their files. What is installed for this alone stays out.
lock: .venv
	$(PYTHON) -m venv .venv/uv && .venv/uv/bin/pip install --quiet --disable-pip-version-check uv==0.9.0
	PATH="$(CURDIR)/.venv/uv/bin:$$PATH" $(BIN)/python deploy/lock.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
