# shellcheck shell=bash
# What the scripts beside it share. Sourced, with the repository's root as the working directory afterwards.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup puts cargo here, and only login shells have it on their PATH.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH

# Where cargo builds.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
release_module=$target/release/libsmartcache.so
test_module=$target/debug/libsmartcache.so

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
  echo "no server: ${SERVER:-neither redis-server nor valkey-server} could be found" >&2
  return 1
}

# Builds what the server suite needs: the module as users get it, one with the command that panics on purpose, the
# program behind `make top`, and the suite itself.
build_suite() {
  cargo build --release
  cargo build --features test-commands
  cargo build --features test-commands --example top
  cargo test --features test-commands --test server --no-run
}

# Runs the server suite on one server: run_suite EXECUTABLE [words for the test harness].
run_suite() {
  local server=$1
  shift
  SMARTCACHE_MODULE=$release_module SMARTCACHE_TEST_MODULE=$test_module SMARTCACHE_SERVERS=$server \
    cargo test --quiet --features test-commands --test server -- "$@"
}
