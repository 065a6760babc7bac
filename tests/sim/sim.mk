# The simulation: each program of SIM_NAMES links the rest of tests/sim and the whole library.
SIM_NAMES    := matrix random
SIM_PROGRAMS := $(SIM_NAMES:%=$(B)/sim/%)
SIM_COMMON   := $(filter-out $(SIM_NAMES:%=tests/sim/%.c),$(wildcard tests/sim/*.c))

$(B)/sim/%: $(B)/obj/tests/sim/%.o $(call obj,$(SIM_COMMON)) $(B)/libdatapeer.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(DP_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
