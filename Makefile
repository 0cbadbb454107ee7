# make demo   the paper's systems on an embedded synthetic corpus, end to end
# make test   every check and every test
# make bench  how fast it is, beside what it replaces and how near to the limit; a quarter of an hour
# make faults  an experiment killed, its disk filled, its files damaged: nothing may be lost
# make fuzz   hostile input for five minutes a target; SECONDS=20 for less
# make load   a server under load: good requests for a minute, all kinds at twice its capacity for ten; MINUTES=1 for less
# make reliability  results/reliability.md from what these three measured
# make audit  the pinned libraries against a database of known weaknesses, which wants a network
# make lock   requirements/serve.txt: what a server installs, with the hash of every file; wants a network
# make screenshots  the page in a real Chromium, for docs/images
# make clean  remove what these made; results under runs/ stay
#
# Each target makes the virtual environment that it needs, from nothing, in .venv/<extra>, and keeps it for the next time.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_INSTALL := -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test bench faults fuzz load reliability audit lock screenshots clean
.DELETE_ON_ERROR:

demo: .venv/train/installed
	.venv/train/bin/affekt demo

test: export OMP_NUM_THREADS := 1
test: .venv/dev/installed
	.venv/dev/bin/ruff check .
	.venv/dev/bin/ruff format --check .
	.venv/dev/bin/mypy
	.venv/dev/bin/lint-imports --no-logo
	.venv/dev/bin/python -m pytest tests/serving/test_browser.py --reruns 2
	.venv/dev/bin/python -m pytest tests/test_ray.py --cov --cov-report=
	.venv/dev/bin/python -m pytest --numprocesses 2 --cov --cov-append --cov-fail-under 90 \
	  --ignore tests/serving/test_browser.py --ignore tests/test_ray.py

# BENCH=--again measures anew; BENCH="'one clip' -o /tmp/here" a part of it
bench: .venv/bench/installed .venv/core/installed
	.venv/bench/bin/python -m benchmarks --core .venv/core/bin/python $(BENCH)

RELIABILITY := results/reliability

faults: .venv/train/installed
	.venv/train/bin/python scripts/faults.py -o $(RELIABILITY)
	.venv/train/bin/python scripts/reliability.py $(RELIABILITY)

SECONDS ?= 300
fuzz: .venv/fuzz/installed
	.venv/fuzz/bin/python -m fuzz --seconds $(SECONDS) -o $(RELIABILITY)
	.venv/fuzz/bin/python scripts/reliability.py $(RELIABILITY)

MINUTES ?= 10
load: .venv/dev/installed
	.venv/dev/bin/python -m benchmarks.load --minutes $(MINUTES) -o $(RELIABILITY)
	.venv/dev/bin/python scripts/reliability.py $(RELIABILITY)

reliability: .venv/train/installed
	.venv/train/bin/python scripts/reliability.py $(RELIABILITY)

audit: .venv/audit/installed
	.venv/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

lock: .venv/lock/installed
	.venv/lock/bin/uv pip compile --quiet pyproject.toml --extra serve --constraint constraints.txt --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock' -o requirements/serve.txt

screenshots: .venv/dev/installed
	AFFEKT_SCREENSHOTS=docs/images .venv/dev/bin/python -m pytest -k real_speech tests/serving/test_browser.py

# .venv/train holds the extra `train`, .venv/dev the extra `dev`; rebuilt when the list of libraries changes.
.venv/%/installed: pyproject.toml constraints.txt
	@echo "installing affekt[$*] into .venv/$* (some minutes)"
	$(PYTHON) -m venv .venv/$*
	.venv/$*/bin/python $(PIP_INSTALL) --editable '.[$*]'
	@touch $@

# What users of the core have, without any extra.
.venv/core/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv/core
	.venv/core/bin/python $(PIP_INSTALL) --editable .
	@touch $@

clean:
	rm -rf .venv .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .ruff_cache build dist
