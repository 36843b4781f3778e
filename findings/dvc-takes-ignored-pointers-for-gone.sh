#!/usr/bin/env bash
# DVC 3.67.1: a pointer that git tracks and .gitignore matches counts as deleted, and push, pull and
# gc act on that with exit code 0.
#
# Guess:    as for git, what is tracked is not ignored; or else each command refuses, as
#           `dvc push models/model.bin.dvc` does.
# Happens:  a model is added and committed, and later `models/` is written into .gitignore. git goes
#           on tracking models/model.bin.dvc. `dvc push` says that all is up to date and sends
#           nothing. `dvc pull` deletes the model from the working tree. `dvc gc --workspace`
#           deletes it from the cache, which held the last copy. Each ends with 0.
# Version:  dvc 3.67.1, git, Python 3.11, Linux.
# Known:    treeverse/dvc issues 5396 and 5612 (2021): DVC does not look into folders that git
#           ignores. No issue was found that says that pull and gc then delete the data.
# Matters:  many repositories of trainings ignore `models/`, `runs/` or `artifacts/` as a whole. A
#           job that publishes by `dvc add`, `git add --force` and `dvc push`, and looks at exit
#           codes, has published a pointer to nothing.
# outlast:  exempts the pointers that it publishes in the branch's .gitignore:
#           tests/publish/test_git.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 DVC_NO_ANALYTICS=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet dvc==3.67.1
command -v git >"$work/errors" || { echo "git is missing"; exit 2; }
export PATH="$work/venv/bin:$PATH"

setup() {
    git init --quiet repo && cd repo
    git config user.name one && git config user.email one@example.org
    dvc init --quiet && dvc remote add --quiet --default shelf ../remote
    mkdir models && echo weights >models/model.bin
    dvc add --quiet models/model.bin
    git add --all && git commit --quiet --message model
    echo models/ >.gitignore
    git add .gitignore && git commit --quiet --message ignore
}

code() {
    local ended=0
    "$@" >>"$work/said" 2>&1 || ended=$?
    echo "$* ends with $ended"
}

look() {
    [ ! -e models/model.bin ] && echo "  working tree: no model" || echo "  working tree: the model"
    echo "  cache: $(find .dvc/cache -type f | wc -l) object(s)"
    echo "  remote: $(find ../remote -type f 2>/dev/null | wc -l) object(s)"
}

case_() {
    echo "git tracks: $(git ls-files models/*.dvc)"
    look
    for command in "push" "pull" "gc --workspace --force"; do
        # shellcheck disable=SC2086
        code dvc $command
        look
    done
    code dvc push models/model.bin.dvc
}

cat >"$work/known" <<'TXT'
git tracks: models/model.bin.dvc
  working tree: the model
  cache: 1 object(s)
  remote: 0 object(s)
dvc push ends with 0
  working tree: the model
  cache: 1 object(s)
  remote: 0 object(s)
dvc pull ends with 0
  working tree: no model
  cache: 1 object(s)
  remote: 0 object(s)
dvc gc --workspace --force ends with 0
  working tree: no model
  cache: 0 object(s)
  remote: 0 object(s)
dvc push models/model.bin.dvc ends with 1
TXT

cd "$work"
setup >"$work/errors" 2>&1 || { cat "$work/errors"; exit 2; }
case_ >"$work/seen"
echo "Expected: push sends the model, or says why not with an exit code; nothing deletes it."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
