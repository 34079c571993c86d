#!/usr/bin/env bash
# All tests of the project, those against real telephony programs included.
#
#   ./test.sh              asks before it installs what is missing
#   ./test.sh --yes        installs without asking
#   ./test.sh --no-peers   only what needs Rust, a C compiler and CMake
#   ./test.sh --install    installs what is missing and stops
#   ./test.sh --list       prints the Debian/Ubuntu packages of the peer tests and stops
#
# A missing program fails the run; nothing is skipped in silence.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# program:package, for Debian and Ubuntu; a package without a program of its own is known by a file, with wildcards.
peer_programs=(
    cmake:cmake # builds libopus for the feature `opus`
    sipp:sip-tester
    baresip:baresip-core
    kamailio:kamailio
    '/usr/lib*/*/kamailio/modules/tls.so:kamailio-tls-modules'
    linphonec:linphone-cli
    sipsak:sipsak
    sngrep:sngrep
    tshark:tshark
    rtpengine:rtpengine-daemon
    ffmpeg:ffmpeg
    python3:python3
    '/usr/lib*/python3*/ensurepip/__init__.py:python3-venv'
    node:nodejs
    npm:npm
    '/usr/lib/postgresql/*/bin/postgres:postgresql'
)
PATH=$PATH:/usr/sbin # where Debian has kamailio, and ordinary users do not look

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }

is_there() {
    case $1 in
        */*) compgen -G "$1" ;;
        *) command -v "$1" ;;
    esac
}

missing_packages() {
    local pair
    for pair in "${peer_programs[@]}"; do
        is_there "${pair%%:*}" >/dev/null || printf '%s\n' "${pair#*:}"
    done
}

may_install() {
    [ "$yes" = true ] && return
    [ -t 0 ] || return 1
    local answer
    read -r -p "Install $* with apt-get? [y/N] " answer
    [[ "$answer" = [yY]* ]]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_peers() {
    local packages
    echo "The tests need programs of the packages ${peer_programs[*]#*:}."
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -eq 0 ] && return
    echo "Not installed: ${packages[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "There is no apt-get here: install them by this system's own means, so that they are on PATH."
    elif may_install "${packages[@]}"; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
    fi
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -eq 0 ] && return
    echo "Still missing: ${packages[*]}. './test.sh --no-peers' runs the tests that need only Rust." >&2
    exit 1
}

need_toolchain() {
    command -v cargo >/dev/null || { echo "cargo is missing: see https://rustup.rs" >&2; exit 1; }
    command -v cc >/dev/null || { echo "no C compiler (cc): on Debian or Ubuntu, install gcc" >&2; exit 1; }
}

need_cmake() {
    command -v cmake >/dev/null || { echo "no CMake, which builds libopus: on Debian or Ubuntu, install cmake" >&2; exit 1; }
}

yes=false
peers=true
install_only=false
for argument in "$@"; do
    case "$argument" in
        --yes) yes=true ;;
        --no-peers) peers=false ;;
        --install) install_only=true ;;
        --list) printf '%s\n' "${peer_programs[@]#*:}"; exit 0 ;;
        --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

# pjsua2 comes from PyPI alone.
install_pjsua2() {
    python3 -m venv peers/pjsua2/venv && peers/pjsua2/venv/bin/pip install -q -r peers/pjsua2/requirements.txt
}

summary=()
run() {
    local name=$1 start=$SECONDS
    shift
    echo "== $name: $*"
    if ! "$@"; then
        printf '%s\n' "${summary[@]}" "FAILED  $name" >&2
        exit 1
    fi
    summary+=("passed  $name ($((SECONDS - start)) s)")
}

need_toolchain
[ "$peers" = true ] && install_peers
need_cmake
[ "$install_only" = true ] && exit 0
run "unit, integration and documentation tests" cargo test --workspace --exclude iqra-peers --all-features
if [ "$peers" = true ]; then
    # The peer tests drive these programs as a user would start them.
    run "release build of the programs" cargo build --release
    run "JsSIP for the tests over WebSocket" npm ci --prefix peers/node --no-audit --no-fund
    run "pjsua2 for the tests of media" install_pjsua2
    run "tests against real programs" cargo test --release -p iqra-peers
else
    summary+=("not run tests against real programs (--no-peers)")
fi
printf '\n'
printf '%s\n' "${summary[@]}"
