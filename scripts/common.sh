# shellcheck shell=bash
# Shared by the scripts in this folder. Sourced; changes to the repository's root.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup installs cargo here, which only login shells have on their PATH.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH

# Cargo's target folder.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
release_module=$target/release/libsmartcache.so
test_module=$target/debug/libsmartcache.so

# Says that a step is left out, and why; also in the file $SKIPPED_STEPS, where a caller has named one.
skip() {
  echo "SKIPPED: $1: $2" >&2
  [[ -z ${SKIPPED_STEPS:-} ]] || echo "$1: $2" >>"$SKIPPED_STEPS"
}

# The absolute path of the server to use: $SERVER when set (a name or a path), else the installed one.
installed_server() {
  local wanted
  for wanted in ${SERVER:+"$SERVER"} redis-server valkey-server; do
    if command -v "$wanted" >/dev/null; then
      realpath -s "$(command -v "$wanted")"
      return
    fi
    [[ $wanted != "${SERVER:-}" ]] || break
  done
  echo "no server: ${SERVER:-neither redis-server nor valkey-server} found" >&2
  return 1
}

# Builds what the server suite needs: the release module, one with the command that panics, the program of `make top`,
# and the suite itself.
build_suite() {
  cargo build --locked --release
  cargo build --locked --features test-commands
  cargo build --locked --features test-commands --example top
  cargo test --locked --features test-commands --test server --no-run
}

# Runs the server suite on one server: run_suite EXECUTABLE [arguments of the test harness].
run_suite() {
  local server=$1
  shift
  SMARTCACHE_MODULE=$release_module SMARTCACHE_TEST_MODULE=$test_module SMARTCACHE_SERVERS=$server \
    cargo test --locked --quiet --features test-commands --test server -- "$@"
}
