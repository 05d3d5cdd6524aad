#!/usr/bin/env bash
# Runs a master, the dispatcher of a task queue, until Ctrl-C:
#   scripts/start_dispatcher.sh [OPTIONS OF dte master]
# Settings come from .env in the current folder: DISPATCHER_HOST, DISPATCHER_PORT and others.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup"
export DTE_QUEUE_NAMES=1
exec "$root/.venv/bin/dte" master "$@"
