#!/usr/bin/env bash
# Starts a worker for the master that start_dispatcher.sh starts, and serves until Ctrl-C:
#   scripts/start_worker.sh NAME [OPTIONS OF dte worker]
# Several run on one machine, as each takes any free port. Results that the master cannot take now
# are kept in the folder cache, or CACHE_DIR. Settings are read from .env in the current folder.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
case ${1:-} in
'' | -*)
    echo "start_worker.sh: a name is expected: scripts/start_worker.sh worker-1" >&2
    exit 2
    ;;
esac
"$root/scripts/setup"
grep -qs '^CACHE_DIR=' .env || export CACHE_DIR=${CACHE_DIR:-cache}
grep -qs '^DTE_WORKER_PORT=' .env || export DTE_WORKER_PORT=${DTE_WORKER_PORT:-0}
exec "$root/.venv/bin/dte" worker --name "$@"
