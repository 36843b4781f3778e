#!/usr/bin/env bash
# kaggle_status.sh [--watch] [--interval N] [RUN]: how the run that was launched last stands.
set -euo pipefail
outlast() { "${PYTHON:-python3}" -m outlast.cli "$@"; }
outlast status "$@"
