#!/usr/bin/env bash
# kaggle_run.sh [--push-first] [flags]: start the next session, unless one is alive (a push has started it already).
set -euo pipefail
outlast() { "${PYTHON:-python3}" -m outlast.cli "$@"; }
if [ "${1:-}" = "--push-first" ]; then shift; fi  # starting is pushing, so it is always pushed first
outlast launch --if-idle "$@"
