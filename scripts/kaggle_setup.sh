#!/usr/bin/env bash
# kaggle_setup.sh --username NAME [--recipe RECIPE]: find the login, prove it, write outlast-launch.yaml.
set -euo pipefail
outlast() { "${PYTHON:-python3}" -m outlast.cli "$@"; }
outlast kaggle setup "$@"
