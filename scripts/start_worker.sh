#!/usr/bin/env bash
# Runs a worker for the master of start_dispatcher.sh until Ctrl-C:
#   scripts/start_worker.sh NAME [OPTIONS OF dte worker]
# Each worker takes a free port, so several can run on one machine. While the master is away,
# results are kept in the folder CACHE_DIR, by default cache. Settings come from .env in the current
# folder.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
case ${1:-} in
'' | -*)
    echo "start_worker.sh: the worker needs a name: scripts/start_worker.sh worker-1" >&2
    exit 2
    ;;
esac
"$root/scripts/setup"
export DTE_QUEUE_NAMES=1
grep -qs '^CACHE_DIR=' .env || export CACHE_DIR=${CACHE_DIR:-cache}
grep -qs '^DTE_WORKER_PORT=' .env || export DTE_WORKER_PORT=${DTE_WORKER_PORT:-0}
exec "$root/.venv/bin/dte" worker --name "$@"
