# The developer's entry point; LuaRocks builds from the rockspec instead.
# Every target is explained in README.md.

CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wcast-qual -Wstrict-prototypes \
	-Wmissing-prototypes -Wconversion
PKG_CONFIG ?= pkg-config
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden $(WARNINGS) $(CFLAGS) \
	$(shell $(PKG_CONFIG) --cflags libcurl 2>/dev/null)
LIBS = $(shell $(PKG_CONFIG) --libs libcurl 2>/dev/null || echo -lcurl) -lpthread

SOURCES = $(wildcard csrc/*.c csrc/operations/*.c)
HEADERS = $(wildcard csrc/*.h)

LUA_CFLAGS_lua5.4 = $(shell $(PKG_CONFIG) --cflags lua5.4 2>/dev/null)
LUA_CFLAGS_luajit = $(shell $(PKG_CONFIG) --cflags luajit 2>/dev/null)
INTERPRETERS = $(foreach lua,lua5.4 luajit,$(if $(LUA_CFLAGS_$(lua)),$(lua)))

BUILD = build
CORES = $(INTERPRETERS:%=$(BUILD)/%/cloudsync/core.so)

all: $(CORES)

define interpreter
OBJECTS_$(1) = $$(SOURCES:csrc/%.c=$$(BUILD)/$(1)/objects/%.o)
$$(BUILD)/$(1)/objects/%.o: csrc/%.c $$(HEADERS) Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(ALL_CFLAGS) $$(LUA_CFLAGS_$(1)) -c -o $$@ $$<
$$(BUILD)/$(1)/cloudsync/core.so: $$(OBJECTS_$(1))
	@mkdir -p $$(@D)
	$$(CC) $$(ALL_CFLAGS) $$(LDFLAGS) -shared -o $$@ $$^ $$(LIBS)
$$(BUILD)/$(1)/process.so: spec/process.c csrc/compat.h
	@mkdir -p $$(@D)
	$$(CC) $$(ALL_CFLAGS) -Icsrc $$(LUA_CFLAGS_$(1)) -shared -o $$@ $$<
endef
$(foreach lua,$(INTERPRETERS),$(eval $(call interpreter,$(lua))))

check: $(CORES) $(INTERPRETERS:%=$(BUILD)/%/process.so)
	spec/run

clean:
	rm -rf $(BUILD)

.PHONY: all clean
