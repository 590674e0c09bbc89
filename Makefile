# The few commands that a person types. `make help` lists them; CONFIG=FILE sets the configuration, CORES=N the number of cores.
# Make splits names at spaces and does not expand ~, so recipes pass CONFIG on unchanged, and Python finds the file.

PYTHON ?= python3
CONFIG ?= config/config.yaml
CORES ?= all

# Recipes call `python`: this selects the one in .venv, not the machine's.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PROFILE ?= profiles/slurm
override export CONFIG := $(value CONFIG)
override export CORES := $(value CORES)
override export PROFILE := $(value PROFILE)
EXPERIMENT = python scripts/experiment.py --config "$$CONFIG" --cores "$$CORES"
# Tests run in parallel; each process may load both frameworks, 2 GB.
PYTEST = python -m pytest --numprocesses auto --maxprocesses 4

.PHONY: help lock site demo test cluster-test conda-test fault-test prefetch doctor status bench gpu-check dag tensorboard article report publish lint format clean-demo
.DEFAULT_GOAL := help

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

# uv if it is installed, because it is faster; it does not read pip's configuration.
INSTALL = $(if $(shell sh -c 'command -v uv'),uv pip install --python .venv/bin/python,.venv/bin/python -m pip install --disable-pip-version-check) \
	--quiet
# Lines of requirements.lock that only a CUDA build of torch needs: gigabytes.
CUDA = ^(cuda-|nvidia-[cn]|triton)

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or later is needed, {sys.executable} is {v[0]}.{v[1]}; name another: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	@# A CPU build of torch if the machine offers one, for example in PIP_FIND_LINKS or UV_FIND_LINKS; PyPI has none for Linux.
	@$(INSTALL) --no-deps "$$(sed -n 's/^torch==\([0-9.]*\).*/torch==\1+cpu/p' requirements.lock)" 2> .venv/torch.log || echo "torch: as PyPI has it"
	awk '/^[a-z]/ {cuda = /$(CUDA)/} !cuda' requirements.lock > .venv/without_cuda.lock
	$(INSTALL) --no-deps --require-hashes --requirement .venv/without_cuda.lock
	! grep -qE '^Requires-Dist: (cuda|nvidia)' .venv/lib/python*/site-packages/torch-*.dist-info/METADATA || \
		$(INSTALL) --require-hashes --requirement requirements.lock
	touch $@

lock: ## rewrite requirements.lock after a change to requirements.txt: every package with its hashes; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" \
		--output-file requirements.lock requirements.txt

demo: .venv/installed ## run the whole workflow on handwritten digits, in minutes: results/demo/
	snakemake --cores "$$CORES" --resources gpu=2 --rerun-incomplete --configfile config/demo.yaml
	@cat results/demo/table.md
	@echo "Open results/demo/article.html in a browser; everything else lies beside it."

test: .venv/installed ## run all tests except the long ones: a real SLURM, conda, faults
	$(PYTEST) --dist loadfile -m "not cluster and not conda and not fault"
	@echo "Not run here: make cluster-test (a real one-node SLURM), make conda-test (installs gigabytes), make fault-test (kills, full disks)"

fault-test: .venv/installed ## test kill -9 at random moments, full disks, hostile files (as root, because it mounts disks): docs/faults.md
	$(PYTEST) --dist worksteal -m fault

cluster-test: .venv/installed ## run the tests on a real one-node SLURM (as root; names missing Debian packages)
	python -m pytest -m cluster $(if $(WITHIN),--within $(WITHIN))

conda-test: .venv/installed ## make every environment of envs/ and run in it, also without a network: downloads 4 GB, needs 12 GB of disk
	python -m pytest -m conda

prefetch: .venv/installed ## download what CONFIG needs on a machine without internet, to resources/ (docs/environments.md)
	$(EXPERIMENT) prefetch
	python scripts/prefetch_packages.py --config "$$CONFIG"

doctor: .venv/installed ## look for problems before you start: frameworks, GPU, data, disk, SLURM
	python scripts/doctor.py --config "$$CONFIG" --profile "$$PROFILE"

site: .venv/installed ## write a SLURM profile for this cluster, profiles/site/, and check it
	python scripts/write_profile.py --config "$$CONFIG"

status: .venv/installed ## show the state of each run: waiting, running, interrupted, failed, done
	@python scripts/status.py --config "$$CONFIG"

bench: .venv/installed ## measure the workflow's own cost as the grid grows, then which framework is faster and why (snakemake speed)
	python tests/benchmarks/scale.py
	$(EXPERIMENT) speed

# Without .venv, this uses the machine's own Python and frameworks: a borrowed GPU may have no network to make .venv.
gpu-check: ## first check of a GPU: what works, where it runs, what is faster; PART=tests|checks|switches|aims runs one part, up to 9 minutes
	$(if $(wildcard .venv/bin/python),python,$(PYTHON)) tests/benchmarks/gpu_check.py $(if $(PART),--part $(PART))

dag: .venv/installed ## draw the jobs and the rules: dag and rulegraph, as .mmd and, with Graphviz, .svg
	@$(EXPERIMENT) dag

tensorboard: .venv/installed ## show the learning curves of every run in the browser, also during training
	$(EXPERIMENT) tensorboard

article: .venv/installed ## write the article, article.html and article.pdf; trains first what is missing
	$(EXPERIMENT) article

report: .venv/installed ## after a run, put all tables, figures and code into one HTML file; with speed, parity and equal_time if they were run
	$(EXPERIMENT) report

publish: .venv/installed ## make tables, figures and PDFs of the runs kept in docs/results/, and README's tables; trains nothing
	snakemake --cores "$$CORES" resources/data/cifar10.npz
	python scripts/publish.py --data resources/data/cifar10.npz

lint: .venv/installed ## check the style of Python and rules, and run Snakemake's linter
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint

format: .venv/installed ## format Python and rules
	ruff check --fix .
	ruff format .
	snakefmt Snakefile rules
	python scripts/publish.py

clean-demo: ## delete what `make demo` made
	rm -rf results/demo logs/demo benchmarks/demo
