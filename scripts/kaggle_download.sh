#!/usr/bin/env bash
# kaggle_download.sh [--output-dir DIR] [RUN]: fetch what the session left, verified; a copy goes to DIR.
set -euo pipefail
outlast() { "${PYTHON:-python3}" -m outlast.cli "$@"; }
case " $* " in *" --output-dir"*) ;; *) set -- --output-dir kaggle_output "$@" ;; esac
outlast fetch "$@"
