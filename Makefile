# kstream: continuous queries over Kafka topics, as a PostgreSQL extension.
#
#   make                    build against the PostgreSQL that PG_CONFIG names
#   make install            install library, control file and script (needs rights there)
#   make installcheck       pg_regress against a running server that preloads kstream
#   make test               everything, with its own set-up, cluster and broker
#   make demo               one to two minutes of watching it work
#
# Options: WERROR=1 (warnings are errors), ASSERTS=1 (our assertions on, also
# against a server built without them), FAULTS=1 (named fault points),
# with_llvm=yes (bitcode for inlining; needs clang).

EXTENSION   = kstream
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" kstream.control)
MODULE_big  = kstream

# Sources: src/**; every .c and .cpp belongs to the library.
KS_SOURCES := $(sort $(foreach dir,src src/* src/*/*,$(wildcard $(dir)/*.c $(dir)/*.cpp)))
OBJS := $(addsuffix .o,$(basename $(KS_SOURCES)))

# The install script is made of parts, in the order of their names.
KS_SCRIPT   = sql/$(EXTENSION)--$(EXTVERSION).sql
KS_PARTS   := $(sort $(wildcard sql/parts/*.sql))
DATA_built  = $(KS_SCRIPT)
DATA       := $(sort $(wildcard sql/$(EXTENSION)--*--*.sql))

# Regression tests: sql/NAME.sql with expected/NAME.out (names with -- are scripts).
REGRESS      := $(sort $(basename $(notdir $(foreach f,$(wildcard sql/*.sql), \
	$(if $(findstring --,$(f)),,$(f))))))
REGRESS_OPTS += --encoding=UTF8

PG_CPPFLAGS += -I$(srcdir)/src -MMD -MP
PG_CFLAGS   += -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
PG_CXXFLAGS += -std=c++17 -fno-rtti -fno-exceptions -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-register
SHLIB_LINK  += -lrdkafka -lsimdjson -lstdc++

ifdef WERROR
PG_CFLAGS   += -Werror
PG_CXXFLAGS += -Werror
endif
ifdef ASSERTS
PG_CPPFLAGS += -DUSE_ASSERT_CHECKING=1
endif
ifdef FAULTS
PG_CPPFLAGS += -DKSTREAM_FAULTS=1
endif

EXTRA_CLEAN = $(OBJS:.o=.d) .build-flags .build-files

# Bitcode only for those who ask for it.
ifneq ($(origin with_llvm),command line)
override with_llvm := no
endif

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
else
# Nothing to build against yet: only what fetches its own set-up works.
KS_NEED_PG = $(error $(PG_CONFIG) not found: install postgresql-server-dev-NN, or run 'sh test/rig/deps.sh')
all install installcheck: ; $(KS_NEED_PG)
endif

# A change of compiler flags or of the list of files rebuilds what it must.
.PHONY: force test demo deps
.build-flags: force
	@echo '$(CC) $(CFLAGS) $(CPPFLAGS) $(CXX) $(CXXFLAGS)' >$@.new; \
	if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi
.build-files: force
	@echo '$(OBJS) $(KS_PARTS)' >$@.new; \
	if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi

$(OBJS): .build-flags
$(MODULE_big).so: .build-files
-include $(OBJS:.o=.d)

# kstream.control says schema = pg_catalog, so that the script makes its own
# schema, which then belongs to the extension and is dropped with it.
$(KS_SCRIPT): $(KS_PARTS) Makefile .build-files
	@{ echo '/* $(notdir $@): generated from sql/parts, do not edit */'; \
	   printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; \
	   echo 'CREATE SCHEMA kstream;'; \
	   echo "COMMENT ON SCHEMA kstream IS 'continuous queries: functions, views and catalogs';"; \
	   echo 'SET LOCAL search_path TO kstream, pg_temp;'; \
	   for part in $(KS_PARTS); do echo; echo "/* $$(basename $$part) */"; cat $$part; done; } >$@.new
	@mv -f $@.new $@

test:
	@test/rig/run.sh

demo:
	@demo/run.sh

deps:
	@test/rig/deps.sh test
