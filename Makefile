# Two commands: `make demo` and `make test`. Each does all of its own set-up in .venv, on any machine with Python >= 3.11.
BIN := .venv/bin

.PHONY: demo test check format setup clean

demo: setup
	$(BIN)/buttress train configs/demo.yaml

test: setup
	scripts/check

# Lint and types alone.
check: setup
	scripts/check --no-tests

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: .venv/ready

.venv/ready: scripts/setup constraints.txt pyproject.toml setup.py $(wildcard csrc/*.cpp csrc/*/*)
	scripts/setup

clean:
	rm -rf .venv build core/buttress/_C.*.so core/*.egg-info *.egg-info
