# The developer's entry point.
#
#   make            build/lua5.4 and build/luajit, each where its headers are installed
#   make deps       install what is missing for everything up to lint
#   make demo       from a fresh machine to a factory of 200 runtimes in sync
#   make test       from a fresh machine to the whole suite; SPECS names files, LUAS interpreters
#   make test-browser   the page of examples/nginx in headless Chromium
#   make example-nginx  examples/nginx around the simulator; prints how to call it
#   make lint       luacheck, clang-format, clang-tidy
#   make sanitize   the suite under AddressSanitizer and UndefinedBehaviorSanitizer
#   make valgrind   the suite under valgrind
#   make memory     every way in which memory can run out, of which the suite tries a sample
#   make bench      what speed and memory cost
#   make fuzz       libFuzzer on both cores, FUZZ_SECONDS (60) for each of the targets in FUZZ
#   make simulator  the simulated services in the foreground
#   make docs-faults  docs/faults.md, of the rules that the specs hold the services against

CFLAGS ?= -O2 -g
PKG_CONFIG ?= pkg-config
BUILD ?= build
LUAS ?= lua5.4 luajit
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wcast-qual -Wstrict-prototypes \
	-Wmissing-prototypes -Wconversion
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden $(WARNINGS) $(CFLAGS) \
	$(shell $(PKG_CONFIG) --cflags libcurl 2>/dev/null)
LIBS = $(shell $(PKG_CONFIG) --libs libcurl 2>/dev/null || echo -lcurl) -lpthread

# LuaJIT unloads modules while it closes a state, and calls finalizers after that.
KEEP_LOADED = -Wl,-z,nodelete

SOURCES = $(wildcard csrc/*.c csrc/operations/*.c)
HEADERS = $(wildcard csrc/*.h)
LUA_FILES = $(wildcard bin/* bench/*.lua tools/*.lua) examples fuzz lua spec

INCLUDES_lua5.4 := $(shell $(PKG_CONFIG) --cflags lua5.4 2>/dev/null)
INCLUDES_luajit := $(shell $(PKG_CONFIG) --cflags luajit 2>/dev/null)
FOUND = $(foreach lua,$(LUAS),$(if $(INCLUDES_$(lua)),$(lua)))
RUN = $(FOUND) $(if $(filter luajit,$(FOUND)),nginx)
CORES = $(FOUND:%=$(BUILD)/%/cloudsync/core.so)
SPEC_MODULES = $(FOUND:%=$(BUILD)/%/process.so) $(FOUND:%=$(BUILD)/%/host) \
	$(FOUND:%=$(BUILD)/%/transfer.so)

FUZZ ?= answer json request header
FUZZ_CC ?= clang
FUZZ_SECONDS ?= 60
FUZZ_FLAGS = -O1 -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=undefined

IN_CHECKOUT = LUA_PATH='./?.lua;lua/?.lua;lua/?/init.lua;;' LUA_CPATH='$(BUILD)/lua5.4/?.so;;'

all: $(CORES)
	@test -n "$(CORES)" || { echo "No headers of $(LUAS) found: make deps installs them." >&2; \
		exit 1; }

define interpreter
OBJECTS_$(1) = $$(SOURCES:csrc/%.c=$$(BUILD)/$(1)/objects/%.o)
$$(BUILD)/$(1)/objects/%.o: csrc/%.c $$(HEADERS) Makefile
	@mkdir -p $$(@D)
	@echo "CC $$@"
	@$$(CC) $$(ALL_CFLAGS) $$(INCLUDES_$(1)) -c -o $$@ $$<
$$(BUILD)/$(1)/cloudsync/core.so: $$(OBJECTS_$(1))
	@mkdir -p $$(@D)
	@echo "CC $$@"
	@$$(CC) $$(ALL_CFLAGS) $$(LDFLAGS) $$(KEEP_LOADED) -shared -o $$@ $$^ $$(LIBS)
$$(BUILD)/$(1)/process.so: spec/process.c csrc/compat.h Makefile
	@mkdir -p $$(@D)
	@echo "CC $$@"
	@$$(CC) $$(ALL_CFLAGS) -Icsrc $$(INCLUDES_$(1)) $$(LDFLAGS) -shared -o $$@ $$<
$$(BUILD)/$(1)/host: spec/memory/host.c $$(OBJECTS_$(1)) csrc/compat.h Makefile
	@echo "CC $$@"
	@$$(CC) $$(ALL_CFLAGS) -DINTERPRETER='"$(1)"' -Icsrc $$(INCLUDES_$(1)) $$(LDFLAGS) \
		-Wl,--wrap=malloc,--wrap=free,--export-dynamic -o $$@ $$< $$(OBJECTS_$(1)) \
		$$(shell $$(PKG_CONFIG) --libs $(1)) $$(LIBS) -ldl
$$(BUILD)/$(1)/transfer.so: fuzz/transfer.c csrc/buffer.c $$(HEADERS) Makefile
	@mkdir -p $$(@D)
	@echo "CC $$@"
	@$$(CC) $$(ALL_CFLAGS) -Icsrc $$(INCLUDES_$(1)) $$(LDFLAGS) -shared -o $$@ fuzz/transfer.c \
		csrc/buffer.c $$(LIBS)
$$(BUILD)/fuzz/$(1): fuzz/fuzz.c fuzz/transfer.c $$(SOURCES) $$(HEADERS) Makefile
	@mkdir -p $$(@D)
	@echo "CC $$@"
	@$$(FUZZ_CC) $$(ALL_CFLAGS) $$(FUZZ_FLAGS) -Icsrc $$(INCLUDES_$(1)) -o $$@ \
		$$(filter %.c,$$^) $$(shell $$(PKG_CONFIG) --libs $(1)) $$(LIBS)
endef
$(foreach lua,$(FOUND),$(eval $(call interpreter,$(lua))))

deps:
	tools/deps lint

# The machine may have changed since this file was read: make is asked anew after deps.
demo:
	@tools/deps demo
	@$(MAKE) --no-print-directory all
	@$(IN_CHECKOUT) spec/simulator/run lua5.4 spec/demo.lua

test:
	@tools/deps test
	@$(MAKE) --no-print-directory check

check: all $(SPEC_MODULES)
	@BUILD='$(BUILD)' LUAS='$(RUN)' WRAPPER='$(WRAPPER)' spec/run $(SPECS)

test-browser:
	@tools/deps browser
	@$(MAKE) --no-print-directory check-page

check-page: all $(BUILD)/lua5.4/process.so
	@BUILD='$(BUILD)' LUAS=lua5.4 spec/run spec/browser/page.lua

example-nginx:
	@tools/deps demo
	@$(MAKE) --no-print-directory all
	@exec spec/simulator/run examples/nginx/try

lint:
	@tools/deps lint
	@$(MAKE) --no-print-directory check-style

check-style:
	luacheck -q $(LUA_FILES)
	clang-format --dry-run -Werror $(SOURCES) $(HEADERS) spec/process.c \
		spec/memory/host.c $(wildcard fuzz/*.c)
	@# one file at a time: given several, version 14 finds uninitialised va_lists that are not
	printf '%s\n' $(filter-out csrc/operations/datafactory.c,$(SOURCES)) | xargs -P 2 -I FILE \
		clang-tidy --quiet FILE -- $(ALL_CFLAGS) $(INCLUDES_lua5.4)

sanitize:
	@tools/deps test
	@$(MAKE) --no-print-directory check BUILD=build/sanitize LUAS=lua5.4 \
		CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined' \
		WRAPPER="env LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) \
			ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1"

valgrind:
	@tools/deps memory
	@$(MAKE) --no-print-directory check LUAS=lua5.4 \
		WRAPPER="valgrind -q --leak-check=full --show-leak-kinds=definite \
			--errors-for-leak-kinds=definite --child-silent-after-fork=yes --error-exitcode=99"

memory:
	@tools/deps test
	@MEMORY=1 $(MAKE) --no-print-directory check LUAS='$(FOUND)' RUN='$(FOUND)' \
		SPECS=spec/memory_spec.lua

bench:
	@tools/deps bench
	@$(MAKE) --no-print-directory all
	@$(IN_CHECKOUT) spec/simulator/run lua5.4 bench/sync_factory.lua
	@BUILD='$(BUILD)' CALLS=100000 RELOADS=200 bench/nginx

fuzz:
	@tools/deps fuzz
	@$(MAKE) --no-print-directory fuzz-targets

fuzz-targets: $(FOUND:%=$(BUILD)/fuzz/%)
	@BUILD='$(BUILD)' LUAS='$(FOUND)' FUZZ_SECONDS='$(FUZZ_SECONDS)' fuzz/run $(FUZZ)

simulator:
	@tools/deps demo
	@exec spec/simulator/run

docs-faults:
	lua5.4 tools/fault_table.lua >docs/faults.md

clean:
	rm -rf build

.PHONY: all bench check check-page check-style clean demo deps docs-faults example-nginx fuzz \
	fuzz-targets lint memory sanitize simulator test test-browser valgrind
