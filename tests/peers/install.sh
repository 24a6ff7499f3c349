#!/usr/bin/env bash
# Installs the real peers of the tests into `target/peers`, pinned by the lock beside this file. Run it again at will:
# what is there already is left alone.
#
# Layout of target/peers: node_modules/ (aimock: a mock of model vendors' HTTP APIs; codex; gemini-cli and codex-acp: agents that speak
# the Agent Client Protocol; server-everything and server-filesystem: MCP servers), venv/ and localharness (Antigravity's harness program, out of its Python package).
#
# A peer that cannot be installed is named on stderr and its tests are skipped by name; with CI=true that is a failure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
peers=$(cd "$here/../.." && pwd)/target/peers
missing=0

# Names a peer that cannot be had, why, and what to do about it.
lacking() {
    printf 'peer `%s` is not installed: %s\nhint: %s\n' "$1" "$2" "$3" >&2
    missing=1
}

# aimock needs Node 20.15 (its own `engines`).
has_node() {
    command -v node >/dev/null && command -v npm >/dev/null &&
        node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 15) ? 0 : 1)'
}

install_node() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm
}

install_aimock() {
    local lock="$peers/installed-lock.json"
    if cmp -s "$here/package-lock.json" "$lock"; then
        return 0
    fi
    mkdir -p "$peers"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$peers/"
    # No package may run code of its own while it is installed.
    (cd "$peers" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || return 1
    # Written last: an installation that broke off is done again.
    cp "$here/package-lock.json" "$lock"
}

# Only what is not there at all is installed: a Node that someone chose is not replaced.
{ command -v node && command -v npm; } >/dev/null || install_node || true
if ! has_node; then
    found=$(node --version 2>/dev/null || echo none)
    lacking aimock "it needs \`node\` 20.15 or newer with \`npm\`, found $found" \
        'install Node.js 20.15 or newer and run this again'
elif ! install_aimock; then
    lacking aimock '`npm ci` failed' 'see its message above, and check that the npm registry can be reached'
fi

# The harness program of Antigravity is in its Python package; nothing else of the package is used, so it comes alone.
antigravity=google-antigravity==0.1.22

install_antigravity() {
    local venv="$peers/venv" done="$peers/installed-antigravity"
    if [ "$(cat "$done" 2>/dev/null)" = "$antigravity" ]; then
        return 0
    fi
    mkdir -p "$peers"
    python3 -m venv "$venv" || return 1
    # Only built packages: nothing may run code of its own while it is installed.
    "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps "$antigravity" || return 1
    local program
    program=$(find "$venv" -path '*/google/antigravity/bin/localharness' | head -n 1)
    [ -x "$program" ] || return 1
    ln -sf "$program" "$peers/localharness"
    echo "$antigravity" >"$done"
}

if ! command -v python3 >/dev/null; then
    lacking localharness 'it needs `python3` with `venv`' 'install Python 3 and run this again'
elif ! install_antigravity; then
    lacking localharness "\`$antigravity\` cannot be installed" 'see the message above, and check that the package index can be reached'
fi

if [ "$missing" = 0 ]; then
    echo "all peers are installed in target/peers"
elif [ "${CI:-}" = true ]; then
    exit 1
fi
