# Commands for people and CI. Targets create .venv with the pinned versions if it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= $(shell nproc 2>/dev/null || echo 2)
# One test process per core, but at most four, because the tests start pipelines in further processes.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && echo 4 || echo $$n)
RUN_REQUIREMENTS := requirements.txt requirements-constraints.txt
TEST_REQUIREMENTS := $(RUN_REQUIREMENTS) requirements-vendor.txt requirements-test.txt requirements-oracles.txt
# Start of the command that runs a module of docs/generate.
GENERATE := PYTHONPATH=workflow:docs:tests $(BIN)/python -m generate

.PHONY: help environment test-environment demo check test-fast test test-long faults full-size bench worth claims tuning parts parts-longer recipe recipe-confirmed sets seeds averaging dim-images curve peers worklist scale starts growth pretrain chain screenshots bbbc005 format lint reference scenes slurm-profile clean

help:
	@echo "make demo           simulate, train, segment and report, as in config.yaml"
	@echo "make test-fast      check style and types, and run the unit tests of what changed: less than a minute"
	@echo "make test           run all tests except the long ones"
	@echo "make test-long      run the long tests: killed jobs, environments, short trainings on real images, studies, ImageJ"
	@echo "make faults         kill a run at 20 random moments and compare its results: ten minutes"
	@echo "make bench          measure speed and memory relative to other programs and to limits, as a table"
	@echo "make worth          measure the benefit of pre-training on simulated images: half an hour, on real images"
	@echo "make claims         test claims of papers 1 and 2 about their networks: half an hour, simulated and real sequences"
	@echo "make tuning         measure the benefit of tuning mask boundaries: half an hour, on real images"
	@echo "make parts          measure what each part of the default model adds: two hours, on real images"
	@echo "make parts-longer   measure two of these parts with trainings three times as long: an hour and a half, on real images"
	@echo "make recipe         measure learning rates, batches and augmentation of the default model: an hour, on real images"
	@echo "make sets           compare the default model with none: an hour, on seven sets of real images"
	@echo "make seeds          score the default model on the test images of DSB 2018, three seeds: an hour"
	@echo "make dim-images     count what the default model finds in dim and empty images: 15 minutes, on real images"
	@echo "make averaging      apply the shipped model to mirrored and turned images as well: ten minutes, on real images"
	@echo "make curve          train the default model on 5, 10, 20 and 50 images: an hour, on real images"
	@echo "make peers          train StarDist and Cellpose on the same images as the default model: an hour and a half, real images"
	@echo "make worklist       train on images from the head of the worklist and on random ones: half an hour"
	@echo "make scale          measure what planning costs with 25,000, 250,000 and a million images: an hour"
	@echo "make starts         measure how long a job of each stage takes that has next to nothing to do: two minutes"
	@echo "make growth         measure memory and time of every stage on growing input, as tables and a figure: half an hour"
	@echo "make pretrain       train the shipped model of nuclei on real and simulated images: an hour and a half"
	@echo "make chain          draw the steps from raw image to objects, on a real image of each dataset"
	@echo "make screenshots    take the pictures of the README from a report on real images"
	@echo "make bbbc005        compare the simulator with images of the original SIMCEP, as tables and a figure"
	@echo "make slurm-profile  install the SLURM profile for snakemake --profile slurm; PARTITION=, GPU_PARTITION=, ACCOUNT="
	@echo "make format         repair the formatting"
	@echo "make reference      regenerate reference pages, the drawing of the packages, schema and envs"
	@echo "make scenes         draw the gallery of simulated scenes"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "cellmill: expected Python 3.11 or later, found $$($(PYTHON) --version). Give another: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "cellmill: Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }

# Compile bytecode now, because on some machines it cannot be written later and every job would compile torch again.
$(VENV)/.run-installed: $(VENV)/bin/python $(RUN_REQUIREMENTS)
	@echo "cellmill: installing the pinned packages into $(VENV) (a few minutes, once)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m compileall -q $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@

$(VENV)/.test-installed: $(VENV)/.run-installed $(TEST_REQUIREMENTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/oracles --upgrade \
	    -r requirements-oracles.txt
	@$(BIN)/python -m compileall -q $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@

environment: $(VENV)/.run-installed

test-environment: $(VENV)/.test-installed

demo: environment
	$(BIN)/snakemake --cores $(CORES)
	@echo
	@echo "Open the report: results/demo/report.html"

check: environment
	$(BIN)/snakemake --cores $(CORES) check

lint: test-environment
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

format: test-environment
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

# For use after each change: nothing is installed and no pipeline is started.
test-fast: test-environment
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(BIN)/python tests/changed.py -n $(WORKERS)

# Debian programs of the tests are installed here, once, and never by a test. In CI a missing one is an error.
# A file stays on one worker, since its tests share what they made; the long files come first.
test: test-environment
	$(BIN)/python tests/programs.py test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 15 -m "not long"

test-long: test-environment
	$(BIN)/python tests/programs.py test test-long
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 30 -m long

# A run that is killed at 20 random moments, as a whole or in part, ends with the results of an undisturbed one.
faults: test-environment
	CELLMILL_FAULTS=20 $(BIN)/python -m pytest tests/pipeline/test_faults.py

# The stages that process images, on one image of 30,000 x 30,000 px: check, preprocess and rasterize within 4 GB, the
# later ones within 2.5 GB. Half an hour and more than 8 GB of disk.
full-size: test-environment
	$(BIN)/python tests/pipeline/large.py 30000

# The other programs go into a separate folder without dependencies, because their pins conflict with ours.
$(VENV)/.bench-installed: $(VENV)/.test-installed requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/peers --upgrade -r requirements-bench.txt
	@touch $@

bench: $(VENV)/.bench-installed
	PYTHONPATH=$(VENV)/peers $(BIN)/python tests/benchmarks/bench.py

# Pre-training on simulated images against none, on real nuclei ($CELLMILL_DATA): 51 short trainings, half an hour.
worth: test-environment
	$(BIN)/python tests/experiments/worth.py

# Five frames against one where dirt looks like cells, recurrence against none where cells are faint: 24 short trainings
# or, if some fail and are repeated, more; half an hour. An interrupted study resumes. Without $CELLMILL_DATA the real
# sequence is left out.
claims: test-environment
	$(BIN)/python tests/experiments/claims.py

# Boundary tuning of paper 4 against none, on real images ($CELLMILL_DATA): 45 short trainings, half an hour.
tuning: test-environment
	$(BIN)/python tests/experiments/tuning.py

# What each part of the preset `default` adds, on real images ($CELLMILL_DATA): 72 short trainings, an hour and a half. An
# interrupted study resumes.
parts: test-environment
	$(BIN)/python tests/experiments/parts.py

# The parts without which the preset was better in `make parts`, with three times as many steps: 18 trainings.
parts-longer: test-environment
	$(BIN)/python tests/experiments/parts.py longer

# `default` with other learning rates, batches and augmentation, on DSB 2018 ($CELLMILL_DATA): 15 trainings, an hour. What
# is surely better there (ARM="small" or another name of the study) is then compared on LIVECell.
recipe: test-environment
	$(BIN)/python tests/experiments/recipe.py
recipe-confirmed: test-environment
	$(BIN)/python tests/experiments/recipe.py $(ARM)

# `default` against no network, on seven sets of real images ($CELLMILL_DATA): an hour. An interrupted study resumes.
sets: test-environment
	$(BIN)/python tests/experiments/sets.py

# `default` with and without the shipped start on test images of DSB 2018 ($CELLMILL_DATA): six trainings, an hour.
seeds: test-environment
	$(BIN)/python tests/experiments/seeds.py

# What `default` finds in images of BBBC039 with few, dim or no nuclei ($CELLMILL_DATA): four trainings, 15 minutes.
dim-images: test-environment
	$(BIN)/python tests/experiments/dim_images.py

# `nuclei` with predictions averaged over mirrored and turned images ($CELLMILL_DATA): ten minutes.
averaging: test-environment
	$(BIN)/python tests/experiments/averaging.py

# `default`, with and without the shipped start, on 5 to 50 images of DSB 2018 ($CELLMILL_DATA): 12 trainings, an hour.
curve: test-environment
	$(BIN)/python tests/experiments/curve.py

# `default` against StarDist and Cellpose, each trained for 15 minutes ($CELLMILL_DATA): an hour and a half, and the
# internet for their packages. An interrupted study resumes.
peers: test-environment
	$(BIN)/python tests/experiments/peers.py

# The order of the worklist against a random order, on real images ($CELLMILL_DATA): 18 short trainings, half an hour.
worklist: test-environment
	$(BIN)/python tests/experiments/worklist.py

# Planning of large folders, in time and memory, beside an empty Snakemake: docs/scale.md.
scale: test-environment
	$(BIN)/python tests/experiments/scale.py

# Jobs with next to nothing to do, stage by stage: docs/scale.md.
starts: test-environment
	$(BIN)/python tests/experiments/starts.py

# Every stage on one image of up to 24,576 px, on up to 2,000 frames, on up to 10,000 small images: docs/pictures/growth.png.
growth: test-environment
	$(BIN)/python tests/experiments/growth.py

# The shipped model: simulated images first, then those of $CELLMILL_DATA/dsb2018_more. An interrupted run resumes.
pretrain: test-environment
	$(BIN)/python tests/experiments/pretrain.py

# From raw image to objects on one real image of each dataset ($CELLMILL_DATA): ten minutes. An interrupted run resumes.
chain: test-environment
	$(GENERATE).chain

# The pictures of the README, from a report on real images ($CELLMILL_DATA): ten minutes; needs Chromium.
screenshots: test-environment
	$(GENERATE).screenshots

# Real images of BBBC005 ($CELLMILL_DATA, see tests/conftest.py) beside simulated ones: five minutes.
bbbc005: environment
	$(GENERATE).bbbc005

reference: test-environment
	$(GENERATE).reference

scenes: environment
	$(GENERATE).scenes

# Without values, a link to profiles/slurm; with PARTITION, GPU_PARTITION or ACCOUNT, a copy that has them.
slurm-profile:
	@folder="$${XDG_CONFIG_HOME:-$$HOME/.config}/snakemake"; mkdir -p "$$folder"; \
	if [ -e "$$folder/slurm" ] && [ ! -L "$$folder/slurm" ]; then \
	    echo "cellmill: $$folder/slurm is there and is no link of ours. Edit its config.yaml, or move the folder away and run make slurm-profile again."; exit 1; fi; \
	if [ -z "$(PARTITION)$(GPU_PARTITION)$(ACCOUNT)" ]; then \
	    ln -sfn "$(CURDIR)/profiles/slurm" "$$folder/slurm"; \
	    echo "Linked $$folder/slurm: run snakemake --profile slurm"; \
	else \
	    rm -f "$$folder/slurm"; mkdir "$$folder/slurm"; \
	    sed -e 's#^  partition: "[^"]*"#  partition: "$(or $(PARTITION),cpu)"#' \
	        -e 's#^  gpu_partition: "[^"]*"#  gpu_partition: "$(or $(GPU_PARTITION),gpu)"#' \
	        -e 's#^  account: "[^"]*"#  account: "$(ACCOUNT)"#' \
	        profiles/slurm/config.yaml > "$$folder/slurm/config.yaml"; \
	    echo "Wrote $$folder/slurm/config.yaml: run snakemake --profile slurm"; \
	fi

clean:
	rm -rf $(VENV) .snakemake
