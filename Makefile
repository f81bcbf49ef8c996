# Two commands: `make demo` and `make test`. Each does all of its own set-up in .venv, on any machine with Python >= 3.11.
BIN := .venv/bin

.PHONY: demo test check docs pages compare compare-stages compare-synthetic compare-mnist5k speed scale torture sanitize wheel format setup clean

demo: setup
	$(BIN)/buttress train configs/demo.yaml

test: setup
	scripts/check

# The documentation as a site in site/: links and anchors checked, and every code block run, in a few minutes.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python scripts/site/check.py site
	$(BIN)/python -m tests.docs

# Everything in the repository that is written by a program: recipes, the page of pairs, parts of the other pages.
pages: setup
	$(BIN)/python scripts/recipes.py
	$(BIN)/python -m tests.composition.pairs
	$(BIN)/python scripts/method_pages.py
	$(BIN)/python scripts/results_page.py
	$(BIN)/python scripts/speed_page.py
	$(BIN)/python scripts/scale_page.py
	$(BIN)/python scripts/kernels_page.py
	$(BIN)/python scripts/reference_pages.py

# The recipes on label-noise digits over three seeds, but for those that start from the weights of another run: each run
# about half a minute on one core. The same command goes on after Ctrl-C.
compare: METHODS = $(shell $(BIN)/python scripts/recipes.py --methods)
compare: setup
	$(BIN)/buttress compare $(METHODS) --seeds 3 --jobs 2 --name digits \
	  --attack 'pgd: {steps: 20, step_size: 1/80, loss: margin}'

# The recipes that start from the weights of another run, after those runs; all on the split of seed 0.
compare-stages: setup
	$(BIN)/buttress train configs/digits/pretraining_rotation.yaml --run first
	$(BIN)/buttress train configs/digits/clean.yaml data.split_seed=0 'evaluation.attack={clean: {}}' --run teacher
	$(BIN)/buttress train configs/digits/at.yaml data.split_seed=0 --run teacher
	$(BIN)/buttress compare configs/digits/at.yaml configs/digits/pretraining.yaml configs/digits/pretraining_amp.yaml \
	  configs/digits/kd_swa.yaml data.split_seed=0 --seeds 3 --jobs 2 --name digits-stages \
	  --attack 'pgd: {steps: 20, step_size: 1/80, loss: margin}'

# TRADES without and with noisy copies of the training images, labelled by a first run of TRADES, 70 % of each batch: as many
# steps of as many examples. All on the split of seed 0, since the copies are of its training images.
COPIES := runs/synthetic/copies
compare-synthetic: setup $(COPIES).pseudo.npy
	$(BIN)/buttress compare configs/digits/trades.yaml configs/digits/trades_synthetic.yaml data.split_seed=0 \
	  --seeds 3 --name digits-synthetic --attack 'pgd: {steps: 20, step_size: 1/80, loss: margin}'

$(COPIES).pseudo.npy: | setup
	$(BIN)/buttress train configs/digits/trades.yaml data.split_seed=0 --run first
	$(BIN)/python scripts/noisy_copies.py configs/digits/trades.yaml data.split_seed=0 --output $(COPIES).npz
	$(BIN)/buttress pseudo-label runs/digits-trades/first --output $@ --data '{name: mapped, file: $(COPIES).npz}'

# Five recipes on MNIST's digits with label noise over three seeds: some five minutes on two cores.
compare-mnist5k: MNIST5K = $(patsubst %,configs/mnist5k/%.yaml,at trades awp rwp piat_nmse)
compare-mnist5k: setup
	$(BIN)/buttress compare $(MNIST5K) --seeds 3 --jobs 2 --name mnist5k \
	  --attack 'pgd: {steps: 20, step_size: 1/80, loss: margin}'

# The engine over the public codes and over other libraries of attacks, and the page of these numbers; the machine should
# have nothing else to do, for about an hour.
speed: setup
	$(BIN)/python benchmarks/bench_step.py --json benchmarks/results/step-1thread.json
	$(BIN)/python benchmarks/bench_step.py --stacks pgd-at --settings float32 channels_last bf16 bf16-compile --batch 128 \
	  --rounds 3 --warmup 1 --json benchmarks/results/step-1thread-batch128.json
	$(BIN)/python benchmarks/bench_peers.py --json benchmarks/results/peers-1thread.json
	$(BIN)/python scripts/speed_page.py

# Two processes over one, and the page of these numbers; the machine should have two cores and nothing else to do.
scale: setup
	$(BIN)/python benchmarks/bench_scale.py --json benchmarks/results/scale-2processes.json
	$(BIN)/python scripts/scale_page.py

# What could lose a run, tried many times; prints the counts and writes them into docs/reliability.md.
torture: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture

# Lint and types alone.
check: setup
	scripts/check --no-tests

# The C++ headers under the address and undefined-behaviour sanitizers, at every instruction set of this processor: some
# five minutes, nearly all of it to compile. What the address sanitizer finds anyway is left out of the other. Then the CUDA
# kernels on the host, under these and ThreadSanitizer, and with every fault that has to be found.
sanitize: setup
	mkdir -p build
	$(CXX) -std=c++20 -O1 -g1 -fno-var-tracking -fsanitize=address,undefined -fno-sanitize=null,alignment,object-size \
	  -fno-sanitize-recover=undefined -Icsrc tests/sanitize/median.cpp csrc/median/cpu.cpp csrc/median/level_*.cpp \
	  -o build/sanitize-median
	build/sanitize-median --levels | while read level; do BUTTRESS_SIMD=$$level build/sanitize-median || exit 1; done
	$(BIN)/python -m pytest tests/kernels/cuda_on_host/sanitize.py

# One wheel for several versions of torch, into dist/, tested beside each: make wheel TORCH="2.11.0 2.15.0". Without TORCH
# the version of constraints.txt and the newest one; some half an hour on two cores, and 5 GB in build/ for each that stay.
wheel:
	scripts/wheel $(TORCH)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: .venv/ready

.venv/ready: scripts/setup constraints.txt pyproject.toml setup.py $(wildcard csrc/*.cpp csrc/*/*)
	scripts/setup

clean:
	rm -rf .venv build site core/buttress/_C*.so core/*.egg-info *.egg-info
