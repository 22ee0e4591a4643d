# The targets people type. Meson and Ninja do the work; tools/setup.sh installs what is missing.
#
#   make run SANITIZE=address,undefined     a build with sanitizers, in a directory of its own
#   make install PREFIX=/usr DESTDIR=...    where it goes

comma := ,
SANITIZE ?= none
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
BUILD ?= build$(if $(filter-out none,$(SANITIZE)),-$(subst $(comma),-,$(SANITIZE)))
GUESTS ?= build/guest
ARGS ?=
WITH_SANITIZERS ?= $(filter true,$(CI))

all: build

$(BUILD)/build.ninja:
	@tools/setup.sh build
	@meson setup $(BUILD) --prefix=$(PREFIX) -Db_sanitize=$(SANITIZE) $(MESON_FLAGS) >/dev/null || \
		{ tail -n 5 $(BUILD)/meson-logs/meson-log.txt; exit 1; }

# The program alone: what `make run` waits for.
program: $(BUILD)/build.ninja
	@tools/setup.sh build
	@ninja -C $(BUILD) -j $(JOBS) --quiet doppel

build: $(BUILD)/build.ninja
	@tools/setup.sh build
	@ninja -C $(BUILD) -j $(JOBS) --quiet

# Debian's cloud kernel to a shell; ARGS adds options, as in `make run ARGS="-smp 2"`.
run: program guest
	@DOPPEL_GUEST=$(GUESTS)/cloud $(BUILD)/doppel run $(ARGS)

guest:
	@tools/setup.sh guest
	@tools/guest.sh $(GUESTS) cloud

# More kernels, systems that are no Linux, and firmware.
guests: guest
	@tools/guest.sh $(GUESTS) cloud generic i386 xen mach uboot ovmf

installer: guest
	@tools/guest.sh $(GUESTS) installer

# A whole Debian system on a disk, with a boot loader.
disk:
	@tools/setup.sh disk
	@tools/disk.sh $(GUESTS)/disk

# Where a disk cannot be made (a system that lets nobody unpack packages), its tests are skipped.
try-disk:
	@$(MAKE) --no-print-directory disk || echo 'make: no system disk; its tests will be skipped' >&2

# Debian's programs for a guest that lives in RAM.
userland:
	@tools/setup.sh disk
	@tools/userland.sh $(GUESTS)

# WITH_SANITIZERS=1, as in continuous integration (CI=true), adds what is worth its time in a
# build with sanitizers.
check: ready
	@tools/check.py $(if $(WITH_SANITIZERS),--sanitized build-address-undefined) $(BUILD)

# What check needs: packages first, for which there is one lock, then the builds, and beside them
# guests and the disk, which are fetched and packed by one process at a time.
ready:
	@tools/setup.sh build test guest
	@tools/setup.sh disk || true
	@$(MAKE) --no-print-directory -j 2 ready-builds ready-guests

ready-builds:
	@$(MAKE) --no-print-directory build SANITIZE=$(SANITIZE)
	@$(if $(WITH_SANITIZERS),$(MAKE) --no-print-directory sanitized)

ready-guests:
	@$(MAKE) --no-print-directory guests
	@$(MAKE) --no-print-directory try-disk

sanitized:
	@$(MAKE) --no-print-directory build SANITIZE=address,undefined MESON_FLAGS=-Doptimization=1

check-long: ready installer userland
	@tools/setup.sh long
	@tools/check.py --long $(BUILD)

test-setup:
	@tools/setup.sh build test
	@$(MAKE) --no-print-directory build SANITIZE=$(SANITIZE)

# Each fuzz target led by coverage, for SECONDS_EACH; ONE="net qcow2" takes only those. What it finds
# is a file that the target takes as an argument.
SECONDS_EACH ?= 600
ONE ?= devices net p9 qcow2 qmp virtio x86
fuzz:
	@tools/setup.sh build test fuzz
	@[ -f build-fuzz/build.ninja ] || CC=clang meson setup build-fuzz -Dlibfuzzer=true \
		-Db_sanitize=address,undefined -Doptimization=1 >/dev/null
	@ninja -C build-fuzz -j $(JOBS) --quiet $(ONE:%=fuzz/fuzz_%)
	@cd build-fuzz && for one in $(ONE); do mkdir -p corpus/$$one && \
		fuzz/fuzz_$$one -max_total_time=$(SECONDS_EACH) -timeout=20 -max_len=4096 -print_final_stats=1 \
		corpus/$$one 2>fuzz_$$one.log && tail -n 6 fuzz_$$one.log | sed "s/^/$$one: /" || \
		{ tail -n 40 fuzz_$$one.log; exit 1; }; done

bench: test-setup guest
	@bench/bench.py --build $(BUILD) --guests $(GUESTS) $(ARGS)
	@bench/pv.py --build $(BUILD) --guests $(GUESTS)

# A whole Debian system: start, disk, network, compiler.
bench-disk: test-setup disk
	@tools/setup.sh bench
	@bench/disk.py --build $(BUILD) --guests $(GUESTS) $(ARGS)

# Debian's python3, gzip, gcc and openssl.
bench-debian: test-setup guest userland
	@bench/debian.py --build $(BUILD) --guests $(GUESTS) $(ARGS)

format:
	@tools/setup.sh format
	@tools/format.sh

# The program, and the default guest, which `doppel run` looks for in share/doppel.
install: build guest
	@meson configure $(BUILD) --prefix=$(PREFIX)
	@meson install -C $(BUILD) --quiet
	@install -d $(DESTDIR)$(PREFIX)/share/doppel/guest/cloud
	@install -m 644 $(GUESTS)/cloud/* $(DESTDIR)$(PREFIX)/share/doppel/guest/cloud/

clean:
	rm -rf build build-*

.PHONY: all sanitized build program run guest guests installer disk try-disk userland check check-long ready \
	ready-builds ready-guests test-setup fuzz bench bench-disk bench-debian format install clean
