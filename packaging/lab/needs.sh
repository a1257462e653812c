#!/bin/sh
# Installs what the lab and the build lack on a Debian 12 or 13. Says what it cannot do itself. Quiet where all is there.
#
#   packaging/lab/needs.sh [build|checks|fuzz|full]     with `build`, only what building and installing take; with `checks`, also what
#                                                       the other tests, the format and the lints do; with `fuzz`, what the fuzzer
#                                                       does; with `full`, what the long counts do beside that
set -eu

# A root shell from plain `su` has no sbin, where bridge and nft are. The Makefile does the same for the tests.
PATH=$PATH:/usr/sbin:/sbin

rust_least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../../Cargo.toml")

# First of all: nothing is installed for nothing, where the one thing is missing that this script cannot bring.
rust() {
    echo "needs.sh: $1; hafailover needs Rust $rust_least or later, and Debian's own is too old. Take it from https://rustup.rs" >&2
    echo "  (apt-get install curl ca-certificates; curl -sSf https://sh.rustup.rs | sh -s -- -y; . ~/.cargo/env)," >&2
    echo "  or rustc and cargo from backports if these are at least that" >&2
    exit 1
}

# Rust's own installer, this very version of it, puts Rust into ~/.cargo, where the Makefile finds it. A later Rust builds
# hafailover too, but its lints may see what those of this one do not.
rustup_version=1.29.0
rust_version=1.95.0
install_rust() {
    case $(uname -m) in
    x86_64) sum=4acc9acc76d5079515b46346a485974457b5a79893cfb01112423c89aeb5aa10 ;;
    aarch64) sum=9732d6c5e2a098d3521fca8145d826ae0aaa067ef2385ead08e6feac88fa5792 ;;
    *) rust "no cargo" ;;
    esac
    [ "$(id -u)" = 0 ] || rust "no cargo"
    echo "installing: Rust $rust_version, by rustup $rustup_version" >&2
    install_packages curl ca-certificates
    from=https://static.rust-lang.org/rustup/archive/$rustup_version/$(uname -m)-unknown-linux-gnu/rustup-init
    into=$(mktemp -d)
    if curl --proto =https --silent --show-error --fail --location --output "$into/rustup-init" "$from" &&
        echo "$sum  $into/rustup-init" | sha256sum --check --quiet && chmod 700 "$into/rustup-init" &&
        "$into/rustup-init" -q -y --default-toolchain "$rust_version" --profile minimal --component rustfmt --component clippy; then
        rm -r "$into"
    else
        rm -r "$into"
        rust "$from could not be fetched, or did not install it"
    fi
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install --no-install-recommends --yes "$@" >/dev/null
}

PATH=$PATH:$HOME/.cargo/bin
command -v cargo >/dev/null || install_rust
have=$(cargo --version | cut -d' ' -f2)
oldest=$(printf '%s\n%s\n' "$rust_least" "$have" | sort -V | head -n 1)
[ "$oldest" = "$rust_least" ] || rust "cargo is $have, older than $rust_least"
if [ "${1:-}" = checks ]; then
    for part in fmt clippy; do
        cargo "$part" --version >/dev/null 2>&1 || {
            echo "needs.sh: no cargo $part: rustup component add rustfmt clippy" >&2
            exit 1
        }
    done
fi

# command, and the package that brings it
build="
gcc gcc
make make"
needed="$build
systemd-nspawn systemd-container
mmdebstrap mmdebstrap
journalctl systemd
ip iproute2
bridge iproute2
nft nftables
nsenter util-linux
dbus-daemon dbus-daemon"
case ${1:-} in
build)
    needed="$build
pandoc pandoc"
    ;;
checks)
    needed="$needed
chrt util-linux
script bsdutils
systemd-analyze systemd
busctl systemd"
    ;;
# libFuzzer comes as C++ in its crate.
fuzz)
    needed="$needed
g++ g++"
    ;;
# Mutations are patches.
full)
    needed="$needed
g++ g++
patch patch"
    ;;
esac

lacking=
while read -r command package; do
    [ -n "$command" ] || continue
    command -v "$command" >/dev/null || lacking="$lacking $package"
done <<LIST
$needed
LIST
[ -e /usr/include/stdio.h ] || lacking="$lacking libc6-dev"
# mmdebstrap checks signatures with it.
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || lacking="$lacking debian-archive-keyring"

if [ -n "$lacking" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "needs.sh: lacking:$lacking; run this as root, or install them" >&2
        exit 1
    fi
    echo "installing:$lacking" >&2
    # shellcheck disable=SC2086 # a list of words
    install_packages $lacking
fi

if [ "${1:-}" != build ] && [ "$(id -u)" != 0 ]; then
    echo "needs.sh: the lab boots hosts in network namespaces of their own: run it as root" >&2
    exit 1
fi
