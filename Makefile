# make demo   the paper's systems on an embedded synthetic corpus, end to end
# make test   every check and every test
# make docs   the documentation site in build/site; broken links and missing docstrings are errors
# make dist   wheel and source distribution in dist/, checked; the wheel recognizes a recording in a clean environment
# make lint   Dockerfile, compose file, workflows, systemd unit and shell scripts
# make bench  speed, beside the alternatives and the machine's limits; a quarter of an hour
# make faults  an experiment killed, its disk filled, its files damaged: no result may be lost
# make fuzz   hostile input, five minutes per target; SECONDS=20 for less
# make load   a server under load: one minute of good requests, ten of all kinds at twice its capacity; MINUTES=1 for less
# make reliability  results/reliability.md from the measurements of faults, fuzz and load
# make audit  the pinned libraries against a database of known vulnerabilities; needs a network
# make lock   requirements/serve.txt: the libraries of a server, with the hash of every file; needs a network
# make screenshots  the page in Chromium, for docs/images
# make clean  remove what these made; results under runs/ stay
#
# Each target makes its virtual environment in .venv/<extra> and keeps it for the next time.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_INSTALL := -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test docs dist lint bench faults fuzz load reliability audit lock screenshots clean
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
	.venv/dev/bin/python -m pytest tests/experiments/test_ray.py --cov --cov-report=
	.venv/dev/bin/python -m pytest --numprocesses 2 --cov --cov-append --cov-fail-under 90 \
	  --ignore tests/serving/test_browser.py --ignore tests/experiments/test_ray.py

docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/docs/installed
	.venv/docs/bin/python scripts/check_docstrings.py
	.venv/docs/bin/mkdocs build --quiet --strict

dist: .venv/dist/installed
	rm -rf dist
	.venv/dist/bin/python -m build --no-isolation --outdir dist . >/dev/null
	.venv/dist/bin/python -m twine check --strict dist/*
	.venv/dist/bin/check-wheel-contents dist/*.whl
	rm -rf build/wheel && $(PYTHON) -m venv build/wheel
	build/wheel/bin/python $(PIP_INSTALL) dist/*.whl
	build/wheel/bin/python scripts/check_core.py

# Nothing is built or started here: that needs Docker and a running systemd.
lint: .venv/lint/installed
	.venv/lint/bin/hadolint Dockerfile
	.venv/lint/bin/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	.venv/lint/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/lint/bin/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	.venv/lint/bin/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	.venv/lint/bin/pre-commit validate-config
	.venv/lint/bin/shellcheck .ci/run
	! command -v systemd-analyze >/dev/null || systemd-analyze security --offline=true --threshold=30 deploy/affekt.service >/dev/null

# BENCH=--again measures again; BENCH="'one clip' -o /tmp/here" a part of it
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
	.venv/lock/bin/uv pip compile --quiet pyproject.toml --extra serve --extra containers --constraint constraints.txt --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock' -o requirements/serve.txt

screenshots: .venv/dev/installed
	AFFEKT_SCREENSHOTS=docs/images .venv/dev/bin/python -m pytest -k real_speech tests/serving/test_browser.py

# .venv/train holds the extra `train`, .venv/dev the extra `dev`; installed again when the list of libraries changes.
.venv/%/installed: pyproject.toml constraints.txt
	@echo "installing affekt[$*] into .venv/$* (may take minutes)"
	$(PYTHON) -m venv .venv/$*
	.venv/$*/bin/python $(PIP_INSTALL) --editable '.[$*]'
	@touch $@

# The core install, without extras.
.venv/core/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv/core
	.venv/core/bin/python $(PIP_INSTALL) --editable .
	@touch $@

clean:
	rm -rf .venv .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .ruff_cache build dist
