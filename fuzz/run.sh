#!/bin/sh
# Feeds every parser with bytes chosen by coverage, on a stable toolchain: the counters are LLVM's own pass, libFuzzer comes with a
# crate. What made a parser fail stays in fuzz/artifacts and is replayed by: fuzz/run.sh TARGET FILE
#
#   fuzz/run.sh SECONDS            every target for so long altogether
#   fuzz/run.sh TARGET FILE...     replay
set -eu
cd "$(dirname "$0")"
# Every parser has more places than that.
LEAST=100
cargo=${CARGO:-cargo}
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target, build scripts and macros are left without counters.
counters="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
 -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
RUSTFLAGS=$(echo $counters) $cargo build --locked --release --quiet --target "$host"
programs=${CARGO_TARGET_DIR:-target}/$host/release

if [ -x "$programs/$1" ]; then
    target=$1
    shift
    exec "$programs/$target" "$@"
fi
targets=$(ls targets | sed 's/\.rs$//')
count=$(echo "$targets" | wc -l)
each=$(($1 / count))
[ "$each" -gt 0 ] || each=1
mkdir -p artifacts
failed=
for target in $targets; do
    grown=${CARGO_TARGET_DIR:-target}/corpus/$target
    mkdir -p "$grown"
    words=
    [ ! -e "words/$target" ] || words=-dict=words/$target
    log=$grown.log
    if "$programs/$target" -max_total_time="$each" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target-" $words "$grown" "corpus/$target" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        covered=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
        # Without counters in the parsers libFuzzer finds nothing, and says that all is well.
        if [ "${runs:-0}" -gt 0 ] && [ "${covered:-0}" -gt "$LEAST" ]; then
            echo "fuzz $target: $runs runs in $each s, $covered places covered, none failed"
        else
            failed="$failed $target"
            echo "fuzz $target: only ${runs:-0} runs and ${covered:-0} places covered" >&2
        fi
    else
        failed="$failed $target"
        grep -v '^#[0-9]' "$log" | tail -n 30
    fi
done
[ -z "$failed" ] || {
    echo "fuzz: failed:$failed; what made them fail is in fuzz/artifacts" >&2
    exit 1
}
