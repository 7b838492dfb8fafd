#!/usr/bin/env bash
# Checks that dist/ is what src/ gives, and the types. Exit code 0 also where there is no Node, or no registry to fetch the
# packages from: it says so, loudly.
set -euo pipefail
cd "$(dirname "$0")"

skip() {
    echo "!! SKIPPED: $1, so web_demo/dist was NOT compared with its sources in this run"
    exit 0
}

command -v npm >/dev/null || skip "there is no Node"
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || skip "Node $(node --version) is older than 20"
if ! diff -q package-lock.json node_modules/.frontdesk-lock >/dev/null 2>&1; then
    npm ci --no-audit --no-fund --silent || {
        npm ping >/dev/null 2>&1 && { echo "npm ci refuses web_demo/package-lock.json" >&2; exit 1; }
        skip "no package registry answers"
    }
    cp package-lock.json node_modules/.frontdesk-lock
fi
npm run --silent types
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
node build.mjs "$built"
diff -r dist "$built" || { echo "web_demo/dist is stale: run npm run build in web_demo/ and commit it" >&2; exit 1; }
echo "web_demo/dist is what its sources give"
