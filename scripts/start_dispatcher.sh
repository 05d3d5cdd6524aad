#!/usr/bin/env bash
# Starts a master, the dispatcher of a queue of tasks, and serves until Ctrl-C:
#   scripts/start_dispatcher.sh [OPTIONS OF dte master]
# Settings are read from .env in the current folder: DISPATCHER_HOST, DISPATCHER_PORT, and on.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup"
exec "$root/.venv/bin/dte" master "$@"
