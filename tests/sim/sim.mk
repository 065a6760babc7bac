# The simulation: each program of SIM_NAMES links the rest of tests/sim and the whole library.
SIM_NAMES    := self matrix random connection setup changes dtls lifetimes soak
SIM_PROGRAMS := $(SIM_NAMES:%=$(B)/sim/%)
SIM_COMMON   := $(filter-out $(SIM_NAMES:%=tests/sim/%.c),$(wildcard tests/sim/*.c))

$(B)/sim/%: $(B)/obj/tests/sim/%.o $(call obj,$(SIM_COMMON)) $(B)/libdatapeer.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(DP_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# One cipher suite a run.
$(B)/sim/dtls: DP_LDFLAGS += -Wl,--wrap=mbedtls_ssl_conf_ciphersuites

# A fuzz target in virtual time.
$(B)/fuzz/sctp/session $(B)/fuzz/sctp/bulk: $(B)/obj/tests/sim/clock.o

# What make check runs of it. SIM_DATA: no I-DATA (RFC 8260); these seeds were found without.
sim-check: $(SIM_PROGRAMS)
	@$(B)/sim/self
	@$(B)/sim/matrix > $(B)/sim/matrix.txt
	@$(B)/sim/random 2000
	@$(B)/sim/connection > $(B)/sim/connection.txt
	@$(B)/sim/setup > $(B)/sim/setup.txt
	@$(B)/sim/changes > $(B)/sim/changes.txt
	@$(B)/sim/dtls $(if $(SAN),300,5000) > $(B)/sim/dtls.txt
	@$(B)/sim/lifetimes $(if $(SAN),300,5000) > $(B)/sim/lifetimes.txt
	@SIM_DATA=1 $(B)/sim/lifetimes 1 22433 > $(B)/sim/lifetimes_closed_twice.txt
	@SIM_DATA=1 $(B)/sim/lifetimes 1 37898 > $(B)/sim/lifetimes_streams_in_mid_message.txt
	@SIM_DATA=1 $(B)/sim/lifetimes 1 39111 > $(B)/sim/lifetimes_closed_and_expired.txt
	@SIM_DATA=1 $(B)/sim/lifetimes 1 196719 > $(B)/sim/lifetimes_reset_forgotten.txt
	@SIM_DATA=1 $(B)/sim/lifetimes 1 2040432 > $(B)/sim/lifetimes_full_of_nothing.txt
	@SIM_DATA=1 $(B)/sim/lifetimes 1 3399291 > $(B)/sim/lifetimes_open_never_repeated.txt
	$(if $(SAN),,@$(B)/sim/soak 3 > $(B)/sim/soak.txt)

# The table of the NAT matrix.
sim-matrix: $(B)/sim/matrix
	@$<

# How long ICE takes until data can flow.
sim-setup: $(B)/sim/setup
	@$<
bench: sim-setup

# N random runs from SEED on, on all processors.
N    ?= 2000
SEED ?= 1
SIM_SHARE = $$(($(N) / $$(nproc) + 1))
sim: $(B)/sim/random
	@if [ $(N) -lt 1000 ]; then $< $(N) $(SEED); else \
	  seq 0 $$(($$(nproc) - 1)) | xargs -P $$(nproc) -I I sh -c '$< '$(SIM_SHARE)' $$(($(SEED) + I * '$(SIM_SHARE)'))'; fi

# N DTLS handshakes from SEED on; the program itself uses all processors.
sim-dtls: N = 5000
sim-dtls: $(B)/sim/dtls
	@$< $(N) $(SEED)

# N lifetimes of SCTP associations, likewise.
sim-sctp: N = 5000
sim-sctp: $(B)/sim/lifetimes
	@$< $(N) $(SEED)

# An association for a day, and its heap.
sim-soak: $(B)/sim/soak
	@$<

.PHONY: sim sim-dtls sim-sctp sim-soak sim-check sim-matrix sim-setup
