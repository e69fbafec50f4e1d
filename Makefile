# llorch-cpud: `make help` lists the targets. Objects of each variant live in build/<variant>/, so flags never mix.

CC      ?= gcc
VARIANT ?= release
BUILD   := build/$(VARIANT)
VERSION := $(shell cat VERSION)

ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX  ?= /usr/local

# Folders that go into the library, in the order of the data flow (main.c and the tests link it).
SRC_DIRS ?= src/common src/kernels src/formats src/tokenizer src/sampling src/cache src/layers \
            src/layers/attention src/model src/report src/profile src/backend src/eval src/checkpoint src/compat src/http \
            src/worker src/cli

LLHTTP_DIR ?= /usr/share/llhttp
LLHTTP_INC ?= /usr/share/include/llhttp
DEPS_CFLAGS ?= $(shell pkg-config --cflags libevent_core jansson)
DEPS_LIBS   ?= $(shell pkg-config --libs libevent_core jansson)

WARN := -Wall -Wextra -Wshadow -Wvla -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual \
        -Wpointer-arith -Werror
OPT  ?= -O2
# -ffp-contract=off: a fused multiply-add is written, never guessed (docs/numerics.md).
HARDEN := -fstack-protector-strong -fPIE
ifeq ($(findstring -O0,$(OPT)),)
HARDEN += -D_FORTIFY_SOURCE=2
endif
# How much is said to a debugger: -g1, lines and functions, is enough for reports and compiles a quarter faster.
DEBUG ?= -g
SAN ?=
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE $(OPT) $(DEBUG) -ffp-contract=off -fno-math-errno $(WARN) $(HARDEN) $(SAN) \
             -Isrc -isystem $(LLHTTP_INC) $(DEPS_CFLAGS) -DLLHTTP_STRICT_MODE=1 \
             -DLLORCH_VERSION='"$(VERSION)"' $(CFLAGS)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now $(SAN) $(LDFLAGS)
LIBS = $(DEPS_LIBS) -lm

LIB_SRC := $(foreach d,$(SRC_DIRS),$(wildcard $(d)/*.c))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o) $(BUILD)/llhttp/api.o $(BUILD)/llhttp/http.o $(BUILD)/llhttp/llhttp.o
LIB     := $(BUILD)/libllorch.a
BIN     := $(BUILD)/llorch-cpud

TEST_SRC  := $(wildcard tests/checkpoint_*.c tests/test_*.c)
TEST_BINS := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
# An archive, so that a test which does not use it links without the modules behind it.
TEST_HELP := $(BUILD)/tests/check.a
TEST_LIBS ?= $(shell pkg-config --libs cmocka)
# Linker flags of single test programs: TEST_LDFLAGS_<name>.
TEST_LDFLAGS_test_alloc := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free,--wrap=mmap,--wrap=munmap
TEST_LDFLAGS_test_worker_faults := $(TEST_LDFLAGS_test_alloc),--wrap=listen,--wrap=log_line,--wrap=clock_now_ns,--wrap=clock_now_ms,--wrap=clock_cpu_ns
TEST_LDFLAGS_test_determinism := -Wl,--wrap=kv_cache_write

# Fuzz targets: replay_NAME runs one over its seeds, fuzz_NAME is one with libFuzzer.
FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
REPLAYS    := $(FUZZ_NAMES:%=$(BUILD)/tests/replay_%)
FUZZERS    := $(FUZZ_NAMES:%=$(BUILD)/tests/fuzz_%)

.PHONY: all check check-unit valgrind clients soak check-tree coverage faults fuzz fuzz-check fuzzers replays bench bench-save bench-compare asan ubsan sanitize clang arm64 tidy format install uninstall clean help tests
.DEFAULT_GOAL := all

all: build/llorch-cpud ## build the program: build/llorch-cpud

ifeq ($(VARIANT),release)
build/llorch-cpud: $(BIN)
	@cp $(BIN) $@
else
.PHONY: build/llorch-cpud
build/llorch-cpud: $(BIN)
endif

$(BIN): $(BUILD)/src/main.o $(LIB)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(LIB): $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

# What a baseline says of the build that made it.
$(BUILD)/src/cli/version.o: FILE_FLAGS := -DLLORCH_FLAGS='"$(subst ",,$(strip $(OPT) -ffp-contract=off -fno-math-errno $(SAN) $(CFLAGS)))"'

# Only the files of an instruction set get its flags; everything else is baseline, so one binary runs everywhere.
$(patsubst %.c,$(BUILD)/%.o,$(wildcard src/kernels/kernels_avx2*.c)): ISA_FLAGS := $(if $(findstring x86_64,$(shell $(CC) -dumpmachine)),-mavx2 -mfma -mf16c)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(ISA_FLAGS) $(FILE_FLAGS) -MMD -MP -c -o $@ $<

# llhttp comes as source from the distribution; its warnings are not ours.
$(BUILD)/llhttp/%.o: $(LLHTTP_DIR)/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 $(OPT) $(DEBUG) $(HARDEN) $(SAN) -w -I$(LLHTTP_INC) -DLLHTTP_STRICT_MODE=1 -c -o $@ $<

$(TEST_HELP): $(BUILD)/tests/check.o
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_HELP) $(LIB)
	$(CC) $(LDFLAGS_ALL) $(TEST_LDFLAGS_$*) -o $@ $^ $(TEST_LIBS) $(LIBS)

$(BUILD)/tests/replay_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/tests/fuzz/replay.o $(LIB)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(TEST_LIBS) $(LIBS)

$(BUILD)/tests/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(LIB)
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS)

$(BUILD)/tests/fuzz/replay.o: FILE_FLAGS := -Itests
.PRECIOUS: $(BUILD)/tests/%.o $(BUILD)/tests/fuzz/%.o

# A backend without a model for the tests of the worker; tests/http starts stub_worker where timing matters.
$(addprefix $(BUILD)/tests/,checkpoint_00_foundation test_request test_completion test_worker_faults stub_worker): $(BUILD)/tests/stub_backend.o

# Preloaded into the real program by tests/http/test_faults.py. Sanitizers bring functions of their own, so not with them.
FAULT_SHIM := $(if $(SAN),,$(BUILD)/tests/fault_shim.so)
$(BUILD)/tests/fault_shim.so: tests/fault_shim.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -U_FORTIFY_SOURCE $(OPT) $(DEBUG) $(WARN) -Wno-missing-prototypes -Wno-pedantic -fPIC -shared -o $@ $< -ldl

replays: $(REPLAYS)
fuzzers: $(FUZZERS)

# Where sanitizers see what a fuzz target does, its seeds are replayed as well.
tests: $(TEST_BINS) $(if $(SAN)$(filter replay_%,$(T)),replays) $(BUILD)/tests/stub_worker $(FAULT_SHIM) all ## build the program and every test

check: tests ## run all tests; T=name runs one (make check T=checkpoint_02)
	@BUILD=$(BUILD) LLORCH_TEST_REPLAY=$(if $(SAN),1) tests/run $(T)

faults: tests ## every n-th allocation and system call fails, not only a sample (10 minutes)
	LLORCH_TEST_ALL=1 LLORCH_TEST_LIMIT=1800 BUILD=$(BUILD) tests/run test_worker_faults test_faults

asan: ## all tests under the address sanitizer (leaks included)
	$(MAKE) check VARIANT=asan DEBUG=-g1 SAN="-fsanitize=address -fno-omit-frame-pointer" OPT="-O1"

# Both cost more time than the bounds of the tests allow for.
SANITIZE := address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
sanitize: ## all tests under both sanitizers at once
	LLORCH_TEST_SLOW=3 $(MAKE) check VARIANT=sanitize DEBUG=-g1 OPT="-O1" SAN="-fsanitize=$(SANITIZE)"

fuzz-check: ## the seeds of every fuzz target, their prefixes and damages, under both sanitizers (seconds)
	@$(MAKE) replays VARIANT=sanitize DEBUG=-g1 OPT="-O1" SAN="-fsanitize=$(SANITIZE)"
	@BUILD=build/sanitize tests/run replay_

FUZZ_CC ?= clang
fuzz: ## fuzz each target for T seconds (60), or only F=name, with libFuzzer and both sanitizers
	@$(MAKE) $(if $(F),$(F:%=build/fuzz/tests/fuzz_%),fuzzers) VARIANT=fuzz DEBUG=-g1 CC="$(FUZZ_CC)" OPT="-O1" \
	  SAN="-fsanitize=fuzzer-no-link,$(SANITIZE)"
	@tests/fuzz/run build/fuzz $(or $(T),60) $(F)

# Of gcc, whose gcov reads it. Lines as they are written, nothing optimized away; gcc then warns of what it does not see.
COVERAGE_CC ?= gcc
coverage: ## line coverage of every parser by its fuzz targets and unit tests; fails below 90 % (minutes)
	@$(MAKE) tests VARIANT=coverage CC="$(COVERAGE_CC)" OPT="-O0" SAN="--coverage" CFLAGS="-Wno-maybe-uninitialized"
	@tests/fuzz/coverage build/coverage

ubsan: ## all tests under the undefined-behaviour sanitizer
	$(MAKE) check VARIANT=ubsan DEBUG=-g1 SAN="-fsanitize=undefined -fno-sanitize-recover=all" OPT="-O1"

clang: ## all tests, built with clang
	$(MAKE) check VARIANT=clang CC=clang DEBUG=-g1

VALGRIND := valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible
valgrind: tests ## all C tests under valgrind, in the short form (half an hour)
	LLORCH_TEST_VALGRIND=1 LLORCH_TEST_KIND=c LLORCH_TEST_QUICK=1 LLORCH_TEST_SLOW=30 LLORCH_TEST_LIMIT=1800 LLORCH_RUNNER="$(VALGRIND)" BUILD=$(BUILD) tests/run $(T)

check-unit: tests ## all tests of the running program inside the sandbox of deploy/systemd (as root, minutes)
	LLORCH_TEST_ALL=1 LLORCH_TEST_LIMIT=1800 BUILD=$(BUILD) tests/run test_systemd

check-tree: ## the rules of the source tree and of the documents alone
	@tests/run check_

# Libraries for arm64 come from tools/arm64_root; C programs only, the HTTP tests run on the machine itself.
ARM64_ROOT := build/arm64-root
arm64: ## all C tests, built for aarch64 and run under qemu-user
	tools/arm64_root $(ARM64_ROOT)
	LLORCH_TEST_LIMIT=600 LLORCH_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=$(ARM64_ROOT)/usr/lib/aarch64-linux-gnu" \
	$(MAKE) check VARIANT=arm64 CC=aarch64-linux-gnu-gcc DEBUG=-g1 TEST_LIBS=-lcmocka \
	  DEPS_CFLAGS="-isystem $(ARM64_ROOT)/usr/include -isystem $(ARM64_ROOT)/usr/include/aarch64-linux-gnu" \
	  DEPS_LIBS="-L$(ARM64_ROOT)/usr/lib/aarch64-linux-gnu -levent_core -ljansson"

BENCH_MODEL ?= build/gpt2-medium-random
BENCH_ROUNDS ?= 5
BENCH_FLAGS ?=

build/make-model: tools/make_model.c $(LIB)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

build/gpt2-medium-random: build/make-model
	build/make-model --shape gpt2-medium --dtype f32 --seed 1 --out $@

bench: $(BIN) $(BENCH_MODEL) build/make-model ## speed on one core, GPT-2 Medium's shape in all types (minutes, 3 GB); then a worker's answers meanwhile, what serving costs
	$(BIN) bench --shape gpt2-medium --rounds $(BENCH_ROUNDS) $(BENCH_FLAGS)
	LLORCH_BIN=$(BIN) bench/health.py $(BENCH_MODEL)
	LLORCH_BIN=$(BIN) bench/serving_cost.py

# Shares of what the core can do: decoding, cache and prompts (batches are told in times of one row, not in shares). Rounds enough
# for a machine that is shared. A baseline is of one kind of processor: bench-save makes one of this machine.
BENCH_BASELINE ?= models/shakespeare/baseline/bench.json
BENCH_SPEED := bench --model models/shakespeare --cases decode,cache,prompt,memory --rounds 31

bench-save: $(BIN) ## keep the speed of the shipped model as BENCH_BASELINE (default: the one in the repository)
	$(BIN) $(BENCH_SPEED) --save $(BENCH_BASELINE) $(BENCH_FLAGS)

bench-compare: $(BIN) ## fail when a share of the shipped model's speed is 10 % worse than BENCH_BASELINE's
	$(BIN) $(BENCH_SPEED) --compare $(BENCH_BASELINE) $(BENCH_FLAGS)

clients: $(BIN) $(BENCH_MODEL) ## what hostile clients can do to a running job, to probes and slots (minutes; GPT-2 Medium's shape)
	LLORCH_BIN=$(BIN) bench/clients.py $(BENCH_MODEL)

soak: $(BIN) ## 100,000 good, broken, cancelled and abandoned jobs on the tiny model (minutes)
	LLORCH_BIN=$(BIN) bench/soak

tidy: ## clang-tidy over src/
	clang-tidy --quiet $(LIB_SRC) src/main.c -- -std=c11 -D_GNU_SOURCE -Isrc -isystem $(LLHTTP_INC) $(DEPS_CFLAGS) \
	  -DLLORCH_VERSION='"$(VERSION)"' -mavx2 -mfma -mf16c

format: ## clang-format all C sources in place
	clang-format -i $$(git ls-files '*.c' '*.h' | grep -v unicode_)

install: all ## install the program and the shipped model under PREFIX (default /usr/local)
	install -D -m 755 build/llorch-cpud $(DESTDIR)$(PREFIX)/bin/llorch-cpud
	cd models/shakespeare && find . -type f -exec \
	  install -D -m 644 {} $(DESTDIR)$(PREFIX)/share/llorch-cpud/models/shakespeare/{} \;

uninstall: ## remove what install put under PREFIX
	rm -f $(DESTDIR)$(PREFIX)/bin/llorch-cpud
	rm -rf $(DESTDIR)$(PREFIX)/share/llorch-cpud

clean: ## remove build/
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

-include $(LIB_OBJ:.o=.d) $(BUILD)/tests/stub_backend.d $(BUILD)/tests/stub_worker.d $(BUILD)/src/main.d $(TEST_BINS:=.d) $(TEST_HELP:.a=.d) \
  $(BUILD)/tests/fuzz/replay.d $(FUZZ_NAMES:%=$(BUILD)/tests/fuzz/fuzz_%.d)
