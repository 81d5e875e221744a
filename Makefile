# Two commands: `make lab` sets everything up and opens JupyterLab, `make test` sets everything
# up and runs every check. All of it lives in .venv and in the user's cache folder.
# PYTHON=python3.12 chooses a Python; without it a new enough one is found.

VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip -qq --disable-pip-version-check install --editable
PYTEST := tests $(wildcard notebooks/*.ipynb)
ROUNDS := 10
export PYTHON

# A virtual environment knows its own path: after the folder was moved, install again.
ifneq ($(shell cat $(VENV)/where 2>/dev/null),$(CURDIR))
$(shell rm -f $(VENV)/has-lab $(VENV)/has-test)
endif

.PHONY: help lab test soak setup lint notebooks book protos clean
.NOTPARALLEL:

help: ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /  make \1 /p' Makefile

lab: setup ## open JupyterLab; ARGS="--no-browser --port 8890" passes on
	$(BIN)/python -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) \
	    --LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb $(ARGS)

test: lint ## run every check; PYTEST="tests/unit -x" runs some
	@$(BIN)/python -m chatlab.services.packages
	@.ci/tools
	CHATLAB_BROWSER="$$(.ci/browser $(BIN)/python)" $(BIN)/python -m pytest \
	    --numprocesses=2 --dist=loadfile --durations=20 -m "not soak" \
	    --nbval-lax --nbval-current-env --nbval-cell-timeout=120 $(PYTEST)

soak: $(VENV)/has-test ## every fault ten times (hours); ROUNDS=2 for fewer
	$(BIN)/python -m pytest -q tests/image
	for round in $$(seq $(ROUNDS)); do \
	    $(BIN)/python -m pytest -q tests/faults tests/notebooks || exit 1; \
	    for kernel in 6 7; do \
	        $(BIN)/python -m pip -qq install "ipykernel==$$kernel.*" && \
	        CHATLAB_MY_FOLDER=$$(mktemp -d) $(BIN)/python -m pytest -q --nbval-lax \
	            --nbval-current-env --nbval-cell-timeout=120 \
	            $$(ls notebooks/*.ipynb | shuf) || exit 1; done; done
	$(BIN)/python -m chatlab matrix --repeat $(ROUNDS) --require no-loss,order \
	    absent-member reader-kill broker-restart broker-kill redis-kill link-cut \
	    $(addprefix --backend rabbitmq-,durable quorum log) --backend redis-stream

setup: $(VENV)/has-lab ## set everything up, start nothing
	@$(BIN)/python -m chatlab.services.packages

lint: $(VENV)/has-test ## ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

notebooks: $(VENV)/has-lab ## run the notebooks and write them as they are committed
	$(BIN)/python -m chatlab.course.publish

book: $(VENV)/has-lab ## build the notebooks as a site to read: build/book/index.html
	$(BIN)/python -m chatlab.course.book

protos: $(VENV)/has-test ## make chatlab/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. \
	    --grpc_python_out=. protos/chatlab/v1/*.proto

clean: ## remove what set-up made here (`chatlab down` ends what runs)
	rm -rf $(VENV) build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@.ci/venv $(VENV)

$(VENV)/has-lab: pyproject.toml $(BIN)/python
	@echo 'Installing chatlab and what it needs into $(VENV) (a minute or two) ...'
	@$(PIP) '.[lab]'
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@cp .ci/jupyterlab.json $(VENV)/share/jupyter/lab/settings/overrides.json
	@mkdir -p $(VENV)/etc/jupyter/jupyter_server_config.d
	@cp chatlab/jupyter/look/chatlab.json $(VENV)/etc/jupyter/jupyter_server_config.d
	@pwd -P >$(VENV)/where
	@touch $@

$(VENV)/has-test: $(VENV)/has-lab
	@echo 'Installing what the tests need into $(VENV) ...'
	@$(PIP) '.[lab,test]'
	@touch $@
