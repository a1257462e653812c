#!/bin/bash
# Breaks the heart on purpose, one patch at a time, and sees that the unit tests or the simulator notice.
#
#   tests/mutations/run.sh [NAME…]      all of tests/mutations/*.patch, or those named
#
# Each patch is applied to a copy of what the heart and the simulator consist of, a package of its own that is quickly built.
# A patch that does not apply any more, or one that nobody notices, fails the run.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/mutations
work=$PWD/build/mutations
cargo=${CARGO:-cargo}
# Seeds that are tried in turn, until one breaks a promise; only the first ones where a unit test has noticed.
steps=(${MUTATION_SEEDS:-300 2700 9000})
# Seconds that one run of the unit tests or of the simulator may take: a broken heart may go round for ever.
patience=600

command -v patch >/dev/null || { echo "needs the program patch: apt-get install patch" >&2; exit 1; }

# The sources of the heart, the messages and the simulator, as they are.
copy() {
	rm -rf "$work/fresh"
	mkdir -p "$work/fresh/src/config" "$work/fresh/tests"
	cp -r src/cluster src/wire src/sim "$work/fresh/src"
	cp src/config/model.rs "$work/fresh/src/config"
	cp tests/sim.rs "$work/fresh/tests"
	echo 'pub mod model;' >"$work/fresh/src/config/mod.rs"
	# Of what is sealed only the length is needed: no keys, nor their packages, nor the tests of them.
	grep -E '^(pub )?const (SEAL|TAG)_LEN' src/wire/seal.rs >"$work/fresh/src/wire/seal.rs"
	sed -i '/^#\[cfg(test)\]$/,$d' "$work/fresh/src/wire/codec.rs"
	cat >"$work/fresh/src/lib.rs" <<-'END'
		extern crate self as hafailover;
		pub mod cluster;
		pub mod config;
		pub mod sim;
		pub mod wire;
		#[cfg(test)]
		#[path = "../tests/sim.rs"]
		mod simulated;
	END
	cat >"$work/fresh/Cargo.toml" <<-END
		[package]
		name = "mutant"
		version = "0.0.0"
		edition = "2024"
		[dependencies]
		serde = { version = "1", features = ["derive", "rc"] }
		thiserror = "2"
		[profile.release]
		opt-level = 2
		codegen-units = 16
		incremental = true
		[workspace]
	END
	cp Cargo.lock "$work/fresh"
}

# Where only what differs is written, only what differs is built anew.
refresh() {
	mkdir -p "$work/tree"
	(cd "$work/fresh" && find . -type f) | while read -r file; do
		cmp -s "$work/fresh/$file" "$work/tree/$file" || install -D -m 644 "$work/fresh/$file" "$work/tree/$file"
	done
	(cd "$work/tree" && find src tests -type f) | while read -r file; do
		[ -e "$work/fresh/$file" ] || rm "$work/tree/$file"
	done
}

# Builds what is in the tree; the name of the test program.
build() {
	local out
	if ! out=$(cd "$work/tree" && $cargo test --release --offline --lib --no-run --message-format=json 2>"$work/build.log"); then
		cat "$work/build.log" >&2
		echo "$1: does not build" >&2
		exit 1
	fi
	sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$out" | tail -1
}

units() {
	local out status=0
	out=$(timeout "$patience" "$1" --test-threads 2 cluster:: 2>/dev/null) || status=$?
	sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' <<<"$out"
	# A test that never ends has noticed, too.
	[ $status -ne 124 ] || echo "cluster::not done in $patience s"
}

# The first seed that breaks a promise, and which. After the program, the numbers of seeds.
simulated() {
	local from=0 found out status program=$1
	shift
	for count in "$@"; do
		status=0
		out=$(HAFAILOVER_SIM_FROM=$from HAFAILOVER_SIM_SEEDS=$count \
			timeout "$patience" "$program" no_seed_breaks_a_promise --nocapture 2>&1) || status=$?
		found=$(sed -n 's/^seed \([0-9]*\): \(.*\) at [0-9]* ms: .*/\2, seed \1/p' <<<"$out" | sed -n 1p)
		[ -z "$found" ] || { echo "$found"; return; }
		[ $status -ne 124 ] || { echo "not in $patience s, seeds from $from"; return; }
		from=$((from + count))
	done
	echo "not in $from seeds"
}

mkdir -p "$work"
copy
refresh
program=$(build "the tree as it is")
sound=$(units "$program")
[ -z "$sound" ] || { echo "without any patch these tests fail: $sound" >&2; exit 1; }

patches=("$@")
if [ ${#patches[@]} -eq 0 ]; then
	for patch in "$here"/*.patch; do patches+=("$(basename "$patch" .patch)"); done
fi
printf '%-26s %-34s %s\n' mutation 'simulator' 'unit tests that fail'
missed=0
for name in "${patches[@]}"; do
	copy
	if ! patch --quiet --fuzz=0 --strip=1 --directory "$work/fresh" <"$here/$name.patch" >"$work/patch.log" 2>&1; then
		cat "$work/patch.log" >&2
		echo "$name: the patch does not apply any more; renew it" >&2
		exit 1
	fi
	refresh
	program=$(build "$name")
	failed=$(units "$program")
	tries=("${steps[@]}")
	[ -z "$failed" ] || tries=("${steps[0]}")
	seed=$(simulated "$program" "${tries[@]}")
	first=$(head -1 <<<"$failed")
	printf '%-26s %-34s %s\n' "$name" "$seed" "$(grep -c . <<<"$failed" || true) ${first#cluster::}"
	if [ -z "$failed" ] && [[ $seed == not* ]]; then
		missed=$((missed + 1))
	fi
done
[ $missed -eq 0 ] || { echo "$missed mutations were noticed by nobody" >&2; exit 1; }
