# Two commands set up a fresh machine: `make run` and `make test`. Neither downloads model weights or pictures.
PYTHON ?= python3.11
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
export GRADIO_ANALYTICS_ENABLED ?= False

.PHONY: run test check bench bench-anytime bench-families bench-gpu bench-indexing bench-kills bench-looks \
	bench-large bench-load bench-lora bench-maps bench-memory bench-ray bench-regeneration bench-review

run: .venv/run
	$(BIN)/python app.py

# Most tests are too small to use two cores, so two run side by side. What failed is run once more by itself, as a busy
# machine can outlast a browser's patience; what is wrong fails again.
test: .venv/dev chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal || $(BIN)/python -m pytest --last-failed

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev
	$(BIN)/python benchmarks/forward.py

# Start, queries and memory on an index of 100,000 made-up images, whose model is a stub.
bench-large: .venv/dev
	$(BIN)/python benchmarks/large.py

# A hundred visitors who open pages and search, beside a running attribution.
bench-load: .venv/dev
	$(BIN)/python benchmarks/load.py

# Twenty builds killed at random and run again: the same index, and how much of the work is done twice.
bench-kills: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kills.py

# How much memory indexing 100,000 made-up images takes beside 10,000, whose model is a stub.
bench-indexing: .venv/dev
	$(BIN)/python benchmarks/indexing.py

# Ray workers beside threads, on every core of this machine.
bench-ray: .venv/dev
	$(BIN)/python benchmarks/workers.py

# A hundred kills while decisions are written, and how long a pack of 50 matches takes.
bench-review: .venv/dev
	$(BIN)/python benchmarks/review.py

# Eight minutes on a GPU, for which torch has to be built; `--small --device cpu` runs anywhere.
bench-gpu: .venv/dev
	$(BIN)/python benchmarks/gpu.py --out .bench

# Answers that weigh the likely images beside complete sweeps, on pictures that the shipped model generates.
bench-anytime: .venv/dev
	$(BIN)/python benchmarks/anytime.py

# Which caption a picture without a prompt is given: disguised training images, and held-out ones by another artist.
bench-looks: .venv/dev
	$(BIN)/python benchmarks/looks.py

# Which half of a training image was copied, by maps of influence.
bench-maps: .venv/dev
	$(BIN)/python benchmarks/maps.py

# Which training images the model draws again from their captions: memorised ones beside others.
bench-regeneration: .venv/dev
	$(BIN)/python benchmarks/regeneration.py

# Tiny models of each family of flows, and of pixels, trained on 32 images: do they find them? Some ten minutes on two cores.
bench-families: .venv/dev
	$(BIN)/python benchmarks/families.py

# A LoRA trained on 20 pictures: are they found from what it draws? Some minutes on two cores.
bench-lora: .venv/dev
	$(BIN)/python benchmarks/lora.py

# What a query of a LoRA takes beside its model; with `--full --images 50` on Stable Diffusion 1.5 of true size, in hours.
bench-memory: .venv/dev
	$(BIN)/python benchmarks/memory.py

.venv/bin/python:
	$(PYTHON) -m venv .venv || python3 -m venv .venv

.venv/run: requirements.txt pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

.venv/dev: .venv/run
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

# The browser tests drive the system's Chromium.
.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v apt-get >/dev/null && \
	(command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium)) || \
	(echo "make test needs Chromium on the PATH; install it with your system's package manager" >&2; exit 1)
