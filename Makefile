# datapeer. `make help` lists the targets; README.md has the two commands that a newcomer needs.

B        ?= build
CC       ?= cc
OPT      ?= -O2
AEAD     ?= nettle
PREFIX   ?= /usr/local
DESTDIR  ?=

LAYERS   := base ice dtls sctp sdp signaling rpc net peer
WARN     := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
DP_CFLAGS := -std=c11 -D_GNU_SOURCE -Iinclude -I. $(WARN) -fvisibility=hidden -ffunction-sections -fdata-sections \
             -MMD -MP -g -DDP_AEAD_$(AEAD)=1
ifdef SAN
DP_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
DP_LDFLAGS += -fsanitize=address,undefined
endif
DP_LDFLAGS += -Wl,--gc-sections

# V=1 shows the commands.
ifeq ($(V),)
say = @printf '  %-4s %s\n' $(1) $(2);
endif

# What each layer needs beside base; base itself needs libmbedcrypto.
LIBS_base := -lmbedcrypto
LIBS_ice  :=
LIBS_dtls := -lmbedtls -lmbedx509
ifeq ($(AEAD),nettle)
LIBS_dtls += -lnettle
endif
LIBS_sctp := -lusrsctp -lpthread
LIBS_sdp  :=
LIBS_signaling := -lwslay -lcjson
LIBS_rpc  := -lm
LIBS_net  := -lmbedtls -lmbedx509
LIBS_peer := -lcjson -lm
LIBS      := $(foreach l,$(LAYERS),$(LIBS_$(l)))

SRC       := $(foreach l,$(LAYERS),$(wildcard $(l)/*.c))
# hiredis is needed for --redis alone: where it is missing, a file that says so takes its place.
HIREDIS_LIBS := $(shell pkg-config --libs hiredis 2>/dev/null)
LEFT_OUT  := $(if $(HIREDIS_LIBS),apps/redis_missing.c,apps/redis.c apps/redis_link.c apps/redis_scripts.c apps/redis_talk.c)
APP_SRC   := $(filter-out $(LEFT_OUT),$(wildcard apps/*.c))
TEST_SRC  := $(wildcard tests/unit/*/*.c)
FUZZ_SRC  := $(wildcard fuzz/*/*.c)
BENCH_SRC := $(wildcard bench/*.c)
EXAMPLE_SRC := $(wildcard examples/*.c)
# libuv is needed by nothing else: where it is missing, its example is left out.
UV_LIBS     := $(shell pkg-config --libs libuv 2>/dev/null)
ifeq ($(UV_LIBS),)
EXAMPLE_SRC := $(filter-out examples/foreign_uv.c,$(EXAMPLE_SRC))
endif

obj        = $(patsubst %.c,$(B)/obj/%.o,$(1))
layer_obj  = $(call obj,$(filter-out $(LEFT_OUT),$(wildcard $(1)/*.c)))
TESTS     := $(patsubst tests/unit/%.c,$(B)/tests/%,$(TEST_SRC))
FUZZERS   := $(patsubst fuzz/%.c,$(B)/fuzz/%,$(FUZZ_SRC))
BENCHES   := $(patsubst bench/%.c,$(B)/bench/%,$(BENCH_SRC))
EXAMPLES  := $(patsubst examples/%.c,$(B)/examples/%,$(EXAMPLE_SRC))

.PHONY: all run check deps test fuzz bench lint layers format install installcheck clean help unit replay interop netns bench-netns bench-channels sanitize mbedtls3 FORCE
.DEFAULT_GOAL := all
.SECONDARY:

all: $(B)/libdatapeer.a $(B)/datapeer $(EXAMPLES)

help:
	@echo 'make            build the library, the datapeer command and the examples into build/'
	@echo 'make run        install what is missing, build, and serve a sample folder to a browser'
	@echo 'make check      install what is missing, build, and pass all tests'
	@echo '                its parts: layers installcheck sanitize mbedtls3 interop netns'
	@echo 'make deps       only install what is missing (Debian packages, npm modules)'
	@echo 'make test       unit tests, fuzz corpora, simulation: no browser, nothing installed'
	@echo 'make sim        N=100000 [SEED=1]: ICE in random simulated networks; make sim-matrix: every pair of NAT kinds'
	@echo 'make sim-dtls   N=100000 [SEED=1]: DTLS handshakes with loss; make sim-sctp, sim-soak: associations'
	@echo 'make fuzz       build libFuzzer targets with clang; FUZZ=ice/stun TIME=60 runs one'
	@echo 'make bench      run the benchmarks; make bench-netns: set-up through real NATs (root)'
	@echo 'make bench-channels  what data channels cost beside what this machine can do, as JSON lines (loss: root)'
	@echo 'make lint       clang-tidy and cppcheck;  make layers: include rules;  make format: clang-format'
	@echo 'make install    PREFIX=/usr/local DESTDIR='
	@echo 'make clean      remove build/'
	@echo 'Variables: B=build directory, CC, OPT, SAN=1 (ASan and UBSan), AEAD=nettle|mbedtls (with a B of its own), V=1'

# ---- objects, library, programs ------------------------------------------------------------------
$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(DP_CFLAGS) $(OPT) $(CFLAGS) -c $< -o $@

$(B)/libdatapeer.a: $(call obj,$(SRC)) $(B)/members
	@rm -f $@
	$(call say,AR,$@)ar rcs $@ $(filter %.o,$^)

# Changes when a source file comes or goes: no object would be newer than the archive then.
$(B)/members: FORCE
	@mkdir -p $(@D)
	@echo $(SRC) | cmp -s - $@ || echo $(SRC) > $@

# The page goes into the command where npm's modules are there to bundle it (make deps).
PAGE := $(if $(wildcard apps/web/node_modules/esbuild),$(if $(shell command -v node 2>/dev/null),build/web/app.js))
$(B)/obj/apps/page_files.o: $(PAGE) $(B)/page
ifneq ($(PAGE),)
$(B)/obj/apps/page_files.o: DP_CFLAGS += -DDP_EMBED_PAGE
$(PAGE): $(wildcard apps/web/src/*) apps/web/build.mjs apps/web/package-lock.json
	$(call say,WEB,$@)node apps/web/build.mjs
endif
$(B)/page: FORCE
	@mkdir -p $(@D)
	@echo $(PAGE) | cmp -s - $@ || echo $(PAGE) > $@

$(B)/datapeer: $(call obj,$(APP_SRC)) $(B)/libdatapeer.a
	$(call say,LD,$@)$(CC) $(DP_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) $(HIREDIS_LIBS)

$(B)/examples/%: $(B)/obj/examples/%.o $(B)/libdatapeer.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(DP_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/examples/foreign_uv: LIBS += $(UV_LIBS)

$(B)/bench/%: $(B)/obj/bench/%.o $(B)/libdatapeer.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(DP_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# ---- tests and fuzzers: a layer's test links that layer and base alone, so a layer cannot lean on another ---
# peer composes all layers, and apps stand on all of them: their tests link the library.
WHOLE := peer apps
define layer_rules
$(1)_TEST_DEPS := $(if $(filter $(1),$(WHOLE)),$(if $(filter apps,$(1)),$(filter-out %/main.o,$(call layer_obj,apps))) $(B)/libdatapeer.a,$(sort $(call layer_obj,$(1)) $(call layer_obj,base)))
$(1)_TEST_LIBS := $(if $(filter $(1),$(WHOLE)),$(LIBS) $(if $(filter apps,$(1)),$(HIREDIS_LIBS)),$(sort $(LIBS_$(1)) $(LIBS_base)))
$(B)/tests/$(1)/%: $(B)/obj/tests/unit/$(1)/%.o $$($(1)_TEST_DEPS)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)$$(CC) $$(DP_LDFLAGS) $$(LDFLAGS) -o $$@ $$^ -lcmocka $$($(1)_TEST_LIBS)
$(B)/fuzz/$(1)/%: $(B)/obj/fuzz/$(1)/%.o $(FUZZ_MAIN) $$($(1)_TEST_DEPS)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)$$(CC) $$(DP_LDFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(LIB_FUZZING_ENGINE) $$($(1)_TEST_LIBS)
endef
FUZZ_MAIN := $(if $(LIB_FUZZING_ENGINE),,$(B)/obj/fuzz/replay.o)
$(foreach l,$(LAYERS) apps,$(eval $(call layer_rules,$(l))))
# The other end of these tests is OpenSSL; nothing else links it.
$(filter $(B)/tests/dtls/openssl%,$(TESTS)): dtls_TEST_LIBS += -lssl -lcrypto

# Each test's output is beside it, in TEST.log; shown are what failed and what was skipped.
unit: $(TESTS)
	@printf '%s\n' $(TESTS) | xargs -P $$(nproc) -I % sh -c 'if % > %.log 2>&1; then echo "  TEST %"; grep -a "^\[  SKIPPED" %.log; exit 0; fi; \
	  cat %.log; echo "FAILED: %"; exit 255'

# Each fuzz target reads its seeds from fuzz/corpus/LAYER/NAME/.
replay: $(FUZZERS)
	@set -e; for f in $(FUZZERS); do n=$${f#$(B)/fuzz/}; $$f fuzz/corpus/$$n; done

test: unit replay sim-check

sanitize:
	$(MAKE) $(PARALLEL) B=build/asan CC=clang OPT=-O1 SAN=1 unit replay sim-check

# With mbedTLS 3.6, whichever version the machine has.
mbedtls3:
	MAKE='$(MAKE) $(PARALLEL)' scripts/mbedtls3

# The time limit ends a hung browser or test; the whole takes about five minutes.
interop: all
	cd tests/interop && timeout 1200 node --test --test-concurrency=1

# Real NATs and firewalls in network namespaces: needs root, else its tests say that they were skipped.
netns: all
	cd tests/netns && timeout --foreground 600 node --test --test-concurrency=2

# How long a connection takes there: on a quiet machine.
bench-netns: all
	node bench/netns.mjs

deps:
	scripts/deps

PARALLEL = -j$(shell nproc)

check: deps
	$(MAKE) $(PARALLEL) all
	$(MAKE) layers installcheck sim-dtls
	$(MAKE) sanitize
	$(MAKE) mbedtls3
	$(MAKE) interop
	$(MAKE) netns

run:
	scripts/deps run
	$(MAKE) $(PARALLEL) all
	scripts/run

FUZZ ?=
TIME ?= 60
# UBSan's comparisons of every pointer would be traced like the program's own, which costs a third of the speed. ASan sees
# null pointers, too, and `make sanitize` replays the corpora with all of UBSan.
FUZZ_CFLAGS := -fsanitize=fuzzer-no-link -fno-sanitize=null,alignment,pointer-overflow
FUZZ_CORPUS := $(B)/fuzzing/corpus/$(FUZZ)
# Beside a target may lie its .dict and its .options (a section [libfuzzer]), as OSS-Fuzz has them. A small quarantine
# stays in the processor's cache, and short stacks are walked faster; one input alone is run with long ones.
FUZZ_RUN = ASAN_OPTIONS=quarantine_size_mb=16:malloc_context_size=6 $(B)/fuzzing/fuzz/$(FUZZ) $(addprefix -dict=,$(wildcard fuzz/$(FUZZ).dict)) \
  $(addprefix -,$(filter-out [%,$(if $(wildcard fuzz/$(FUZZ).options),$(shell cat fuzz/$(FUZZ).options)))) \
  -timeout=5 -rss_limit_mb=1024 -artifact_prefix=$(B)/fuzzing/
fuzz:
	$(MAKE) B=$(B)/fuzzing CC=clang OPT=-O1 SAN=1 CFLAGS='$(FUZZ_CFLAGS)' LIB_FUZZING_ENGINE=-fsanitize=fuzzer fuzzers
ifneq ($(FUZZ),)
	mkdir -p $(FUZZ_CORPUS)
	$(FUZZ_RUN) -max_total_time=$(TIME) $(FUZZ_CORPUS) fuzz/corpus/$(FUZZ)
endif
# Keeps what it has found, as far as that covers anything new.
fuzz-merge:
	$(FUZZ_RUN) -merge=1 fuzz/corpus/$(FUZZ) $(FUZZ_CORPUS)
.PHONY: fuzzers fuzz-merge
fuzzers: $(FUZZERS)

bench: $(BENCHES)
	@set -e; for b in $(BENCHES); do echo "== $${b##*/}"; $$b; done

# Runs the limit, too, in turn with the channels: on a quiet machine.
bench-channels: $(B)/bench/channels $(B)/bench/limit
	@$(B)/bench/channels

# ---- hygiene --------------------------------------------------------------------------------------
layers:
	scripts/layers

# What clang-tidy looks for stands in .clang-tidy. It counts warnings in system headers on stderr: shown only on failure.
LINTED := $(SRC) $(APP_SRC) $(EXAMPLE_SRC)
lint:
	@command -v clang-tidy >/dev/null && command -v cppcheck >/dev/null || { echo 'lint needs Debian packages clang-tidy and cppcheck' >&2; exit 1; }
	@printf '%s\n' $(LINTED) | xargs -P $$(nproc) -I FILE \
	  sh -c 'out=$$(clang-tidy --quiet FILE -- $(filter-out -MMD -MP,$(DP_CFLAGS)) 2>&1) || { echo "$$out"; exit 1; }'
	cppcheck -j $$(nproc) --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 -Iinclude -I. $(LINTED)

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/datapeer $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(B)/datapeer $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(B)/libdatapeer.a $(DESTDIR)$(PREFIX)/lib/
	install -m 644 include/datapeer/*.h $(DESTDIR)$(PREFIX)/include/datapeer/
	install -m 644 docs/datapeer.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBS@|$(LIBS)|' docs/datapeer.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/datapeer.pc

# Builds the README's example against an installed copy.
installcheck: all
	@B='$(B)' CC='$(CC)' tests/install.sh

clean:
	rm -rf build

include tests/sim/sim.mk

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
