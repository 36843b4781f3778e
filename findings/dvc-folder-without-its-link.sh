#!/usr/bin/env bash
# DVC 3.67.1: a folder of checkpoints comes back without its `latest` link.
#
# Guess:    `dvc add checkpoints` keeps a link in the folder, or stores what it leads to, or refuses.
# Happens:  it depends on what the link leads to. A link to a file (`best -> step-2/model.bin`) is
#           stored as a file. A link to a folder (`latest -> step-2`) is left out, without a word:
#           `dvc status` is clean, the link stays in the working tree where `dvc add` ran, and no
#           clone has it. `dvc add` itself replaces the link to the file in the working tree.
# Version:  dvc 3.67.1, git, Python 3.11, Linux.
# Known:    treeverse/dvc issue 10237: links are resolved when they are added. No issue was found that
#           says that links to folders are dropped.
# Matters:  trainers write such a link (`latest`, `last`, `best`). A job that resumes from
#           checkpoints/latest works where it was added and starts from nothing in a clone. A link
#           to a file does not follow a newer checkpoint any more.
# outlast:  does not run `dvc add`; it writes its pointers and listings from a plan of files itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 DVC_NO_ANALYTICS=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet dvc==3.67.1
command -v git >"$work/errors" || { echo "git is missing"; exit 2; }
export PATH="$work/venv/bin:$PATH"

kind() {
    local kind=missing
    if [ -L "$1" ]; then kind=link; elif [ -d "$1" ]; then kind=folder; elif [ -e "$1" ]; then kind=file; fi
    echo "  $1: $kind"
}

look() {
    kind checkpoints/step-2/model.bin
    kind checkpoints/best
    kind checkpoints/latest
}

case_() {
    git init --quiet repo
    cd repo
    git config user.name one
    git config user.email one@example.org
    dvc init --quiet
    dvc remote add --quiet --default shelf "$work/remote"
    mkdir -p checkpoints/step-1 checkpoints/step-2
    echo one >checkpoints/step-1/model.bin
    echo two >checkpoints/step-2/model.bin
    ln -s step-2 checkpoints/latest
    ln -s step-2/model.bin checkpoints/best
    echo "before:"
    look
    dvc add --quiet checkpoints
    echo "after dvc add:"
    look
    dvc status
    git add --all
    git commit --quiet --message checkpoints
    dvc push --quiet
    git clone --quiet "$work/repo" "$work/clone"
    cd "$work/clone"
    dvc pull --quiet
    echo "in a clone, after dvc pull:"
    look
    dvc status
}

cat >"$work/known" <<'TXT'
before:
  checkpoints/step-2/model.bin: file
  checkpoints/best: link
  checkpoints/latest: link
after dvc add:
  checkpoints/step-2/model.bin: file
  checkpoints/best: file
  checkpoints/latest: link
Data and pipelines are up to date.
in a clone, after dvc pull:
  checkpoints/step-2/model.bin: file
  checkpoints/best: file
  checkpoints/latest: missing
Data and pipelines are up to date.
TXT

cd "$work"
export -f kind look case_
export work
bash -euc case_ 2>"$work/errors" >"$work/seen" || { cat "$work/errors"; exit 2; }
echo "Expected: latest is in the clone, or dvc add says that it is not."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
