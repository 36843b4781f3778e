#!/usr/bin/env bash
# kaggle_push.sh [--new] [flags]: push one attempt, which starts it. --new: refuse when this run was launched before.
set -euo pipefail
outlast() { "${PYTHON:-python3}" -m outlast.cli "$@"; }
outlast launch "$@"
