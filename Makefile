# make            build what is installed
# make install    put it under DESTDIR, as a package would
# make demo       the story of a takeover, on two booted hosts
# make quick      format, lints, unit tests: for every commit
# make check      quick, and every scenario on booted hosts
# make check-full the same with the long counts, the mutations and the fuzzer
# make fuzz       every parser under bytes chosen by coverage, FUZZ_SECONDS= altogether
# make sim        SEEDS=n worlds of the simulator from FROM=m on, or the story of one: SEED=n
# make mutations  the heart broken on purpose, and who notices
# make shell      a lab of two hosts, and a shell on HOST=alpha

PREFIX ?= /usr
DESTDIR ?=
HOST ?= alpha
FUZZ_SECONDS ?= 600
CARGO ?= cargo
# `make install` may run from within a test: the directory that cargo uses there is the right one.
TARGET = $(or $(CARGO_TARGET_DIR),target)/release
PANDOC := $(shell command -v pandoc)
MANUALS := $(wildcard man/*.md)
# Every test program but the lab and the simulator: those in files of their own, and those with a folder.
TESTS := $(filter-out hosts sim,$(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)))
TEST_FLAGS = --lib --bins $(foreach test,$(TESTS),--test $(test))

# A root shell from plain `su` has no sbin, where bridge and nft are; nor ~/.cargo one that is older than the Rust there.
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

# Each of these builds with every core, and they would wait for each other's locks or spoil each other's times.
.NOTPARALLEL:

.PHONY: all build man man-without-pandoc install demo quick check check-full sim mutations fuzz hosts recordings shell needs needs-of-build needs-of-checks needs-of-fuzz needs-of-full clean

all: build man

build:
	$(CARGO) build --release --locked --bins

# Manuals are optional: a host that only builds and tests needs no pandoc.
man: $(if $(PANDOC),$(MANUALS:man/%.md=build/man/%),man-without-pandoc)

man-without-pandoc:
	@echo "no pandoc: the manuals are not built; they can be read in man/"

build/man/%: man/%.md
	@mkdir -p $(@D)
	pandoc --standalone --from markdown --to man --output $@ $<

install: all
	install -D -m 755 $(TARGET)/hafailoverd $(DESTDIR)$(PREFIX)/sbin/hafailoverd
	install -D -m 755 $(TARGET)/hafailoverctl $(DESTDIR)$(PREFIX)/bin/hafailoverctl
	install -D -m 755 $(TARGET)/hafailover-generator \
		$(DESTDIR)$(PREFIX)/lib/systemd/system-generators/hafailover-generator
	@# The units name the programs by their absolute path, as systemd wants it.
	for unit in units/*; do \
		install -D -m 644 $$unit $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/} && \
		sed -i 's|/usr/|$(PREFIX)/|g' $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/} || exit 1; \
	done
	install -D -m 644 packaging/org.hafailover1.conf \
		$(DESTDIR)$(PREFIX)/share/dbus-1/system.d/org.hafailover1.conf
	install -D -m 644 packaging/org.hafailover1.policy \
		$(DESTDIR)$(PREFIX)/share/polkit-1/actions/org.hafailover1.policy
	for file in packaging/interfaces/*.xml; do \
		install -D -m 644 $$file $(DESTDIR)$(PREFIX)/share/dbus-1/interfaces/$${file##*/} || exit 1; \
	done
	install -D -m 644 packaging/completions/hafailoverctl.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/hafailoverctl
	install -D -m 644 packaging/completions/hafailoverctl.zsh \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_hafailoverctl
	install -D -m 644 packaging/completions/hafailoverctl.fish \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/hafailoverctl.fish
	install -D -m 644 packaging/hafailover.catalog $(DESTDIR)$(PREFIX)/lib/systemd/catalog/hafailover.catalog
	install -D -m 644 packaging/firewalld/hafailover.xml \
		$(DESTDIR)$(PREFIX)/lib/firewalld/services/hafailover.xml
	install -D -m 644 packaging/ufw/hafailover $(DESTDIR)/etc/ufw/applications.d/hafailover
	for page in $(wildcard build/man/*); do \
		install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit 1; \
	done
	@# A package's own scripts do this where it is installed. Only explanations depend on it, so it fails nothing.
	@if [ -z "$(DESTDIR)" ] && command -v journalctl >/dev/null; then \
		journalctl --update-catalog || echo "journalctl -x will not explain hafailover's entries"; \
	fi

demo: needs build
	$(CARGO) test --locked --quiet --test hosts -- demo

quick:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --lib --bins

check: needs-of-checks quick
	$(CARGO) test --locked $(TEST_FLAGS)
	HAFAILOVER_SIM_SEEDS=5000 $(CARGO) test --release --locked --test sim -- --nocapture
	$(CARGO) test --locked --test hosts

check-full: needs-of-checks needs-of-full quick
	$(CARGO) test --locked $(TEST_FLAGS)
	HAFAILOVER_SIM_SEEDS=200000 $(CARGO) test --release --locked --test sim -- --nocapture
	tests/mutations/run.sh
	$(CARGO) test --locked --test hosts -- --full
	CARGO="$(CARGO)" fuzz/run.sh $(FUZZ_SECONDS)

fuzz: needs-of-fuzz
	CARGO="$(CARGO)" fuzz/run.sh $(FUZZ_SECONDS)

sim:
	SEED=$(SEED) HAFAILOVER_SIM_SEEDS=$(SEEDS) HAFAILOVER_SIM_FROM=$(FROM) \
		$(CARGO) test --release --locked --test sim no_seed_breaks_a_promise -- --nocapture

mutations:
	tests/mutations/run.sh $(NAMES)

hosts: needs
	$(CARGO) test --locked --test hosts -- $(ROWS)

# After a change of the heart that is meant: its decisions in a takeover, recorded anew.
recordings: needs
	HAFAILOVER_KEEP_RECORDINGS=$(CURDIR)/tests/recordings $(CARGO) test --locked --test hosts -- row40_recording

shell: needs
	$(CARGO) test --locked --quiet --test hosts -- shell $(HOST)

needs:
	@packaging/lab/needs.sh

needs-of-build:
	@packaging/lab/needs.sh build

needs-of-fuzz:
	@packaging/lab/needs.sh fuzz

needs-of-full:
	@packaging/lab/needs.sh full

needs-of-checks:
	@packaging/lab/needs.sh checks

clean:
	$(CARGO) clean
	rm -rf build
