# Each target creates .venv when it is absent and installs everything that it needs there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export MPLBACKEND := Agg
CHECKS := check-style check-types check-arrows check-spelling
# The Python whose torch and JAX know the GPU: Kaggle's or Colab's own, or the one in .venv where there is one.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

# Folders of packages that the tests do not import: a quarter of what is installed.
NOT_COMPILED := /tests?/|/(debugpy|fontTools|jedi|mypy|narwhals|torchgen)/|/torch/(_inductor|ao)/|/moto/(?!core|iam|kms|s3|sts)[a-z0-9_]+/

# Two more than cores: a test that waits for a process or a disk leaves its core to another. A worker may use 1.8 GB.
WORKERS ?= 4
PYTEST_WORKERS := -n $(WORKERS) --dist worksteal

.PHONY: help demo test test-all check $(CHECKS) compiled bench bench-checkpoint bench-faults bench-long bench-publish bench-remote bench-report check-gpu docs test-new test-frameworks soak-kaggle clean

help:  ## list targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt hashes.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "outlast needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV): PyTorch and JAX are large, so this takes some minutes the first time."
	@$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --require-hashes -r hashes.txt
	@$(BIN)/python -m compileall -qq -j 0 -x '$(NOT_COMPILED)' $(VENV)/lib || true # pip does it on one core; a few are of newer Pythons
	@touch $@

demo: $(READY)  ## train a model in three sessions, interrupt two of them, and compare with an uninterrupted twin
	$(BIN)/python scripts/demo.py

test: $(READY)  ## check, and all tests except slow ones
	@$(MAKE) --no-print-directory --jobs=4 --keep-going --output-sync=target $(CHECKS) compiled
	$(BIN)/python -m pytest -m 'not slow' $(PYTEST_WORKERS) -q

test-all: $(READY) check  ## check, and all tests
	$(BIN)/python -m pytest $(PYTEST_WORKERS) -q

# The tests and the package, compiled once and beside the checks, for all workers: where PYTHONDONTWRITEBYTECODE is set, as
# images for containers do, each of them would compile all of it.
compiled: $(READY)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -qq src || true
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq -p no:cacheprovider > /dev/null || true

# What runs without torch; a test that needs it is skipped, and says so.
NEW_TESTS := tests/state tests/config tests/folder tests/checkpoint tests/remote tests/report tests/tracking tests/environment tests/run \
	tests/recipes/emergence

test-new: .venv-new/.ready  ## core and JAX tests without torch, with the newest JAX, on another Python: PYTHON=python3.13
	OUTLAST_TESTS_WITHOUT=torch,torchdata,torchao,schedulefree,safetensors,botocore,google,asyncssh,cryptography,moto,huggingface_hub .venv-new/bin/python -m pytest -m 'not slow' $(PYTEST_WORKERS) -q $(NEW_TESTS)

test-frameworks: .venv-frameworks/.ready  ## callbacks of Keras, Lightning and Hugging Face, accelerate and Fabric
	.venv-frameworks/bin/python -m pytest -q tests/integrations

.venv-frameworks/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-frameworks
	.venv-frameworks/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[keras,lightning,transformers,optuna,jax,test]'
	@touch $@

docs: .venv-docs/.ready  ## build the documentation in site/; a link that leads nowhere is an error. Needs no network
	.venv-docs/bin/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet --builder html -c docs . site
	@echo "Open site/docs/index.html, or: .venv-docs/bin/python -m http.server --bind 127.0.0.1 --directory site"

.venv-docs/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

check: $(READY)  ## lint, types, import rules, spelling; in parallel
	@$(MAKE) --no-print-directory --jobs=4 --keep-going --output-sync=target $(CHECKS)

check-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types:
	$(BIN)/mypy

check-arrows:
	$(BIN)/lint-imports

check-spelling:
	$(BIN)/codespell src docs scripts examples benchmarks tests README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md configs

bench: $(READY)  ## overhead of outlast per step, save and start, compared with plain PyTorch
	$(BIN)/python benchmarks/overhead.py

bench-checkpoint: .venv-bench/.ready  ## cost of a checkpoint, of outlast and its peers, compared with the limits of the machine
	.venv-bench/bin/python -m benchmarks.checkpoint

bench-faults: .venv-bench/.ready  ## flipped bits, truncated files, full disks and kill -9, for outlast and its peers
	.venv-bench/bin/python -m benchmarks.checkpoint.faults

bench-remote: $(READY)  ## cost of pushing checkpoints during training, compared with a plain upload; REMOTE=s3://...
	$(BIN)/python -m benchmarks.remote $(REMOTE)

bench-report: $(READY)  ## status, runs and report of 1,000 runs and of 10 million lines, beside tensorboard --inspect
	$(BIN)/python -m benchmarks.report

bench-publish: $(READY) .venv-dvc/.ready  ## publishing 77 MB, beside DVC and git, and beside hashing and writing once
	$(BIN)/python -m benchmarks.publish .venv-dvc/bin/dvc

.venv-dvc/.ready:
	@$(PYTHON) -m venv .venv-dvc
	.venv-dvc/bin/python -m pip install --quiet --disable-pip-version-check dvc==3.67.1
	@touch $@

bench-long: $(READY)  ## long runs: a journal of 10 million lines compared with 10, 5,000 checkpoints compared with 5
	$(BIN)/python -m benchmarks.long

check-gpu:  ## checks on a GPU: exact resumes, background copies, NCCL, JAX, cost of a save; at most 4 minutes
	PYTHONPATH=src $(GPU_PYTHON) -m benchmarks.gpu

soak-kaggle: $(READY)  ## twenty sessions on a stand-in of Kaggle with random faults and kills, compared with a twin; SEED=n
	$(BIN)/python -m tests.launch.soak --sessions $(or $(SESSIONS),20) --seed $(or $(SEED),0)

.venv-new/.ready: pyproject.toml
	@$(PYTHON) -m venv --clear .venv-new
	.venv-new/bin/python -m pip install --quiet --disable-pip-version-check -e '.[jax,test]'
	@.venv-new/bin/python -c 'import sys, importlib.metadata as m; print("Python", sys.version.split()[0], *(f"{n} {m.version(n)}" for n in ("jax", "numpy", "optax", "pydantic")))'
	@touch $@

.venv-bench/.ready: benchmarks/checkpoint/requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,jax]' safetensors
	@while read -r peer; do case $$peer in ''|\#*) continue;; esac; \
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$peer" || echo "$$peer does not install here"; \
	done < benchmarks/checkpoint/requirements.txt
	@.venv-bench/bin/python -m pip uninstall --quiet --yes torchvision # it comes for CUDA and breaks whoever imports it under CPU torch
	@touch $@

clean:  ## remove the environment and the files of the demo
	rm -rf $(VENV) .venv-bench .venv-docs .venv-dvc .venv-frameworks .venv-new demo-runs site
