#!/usr/bin/env bash
# XGBoost 3.2.0, scikit-learn interface: a model that stopped early once never uses the trees of a
# continued training; predict() gives the numbers of before.
#
# Guess:    fit(X, y, xgb_model="first.json") adds trees, and predict() uses them, as LightGBM's does.
# Happens:  early stopping leaves `best_iteration` in the model as an attribute. A continued training
#           inherits it, and without early stopping of its own it does not change it. predict() and
#           score() cut the model there. Three sessions add 60 trees and move no prediction, while
#           feature_importances_ and the file grow. The Booster's own predict() uses all trees. With
#           save_best=True, which removes the trees after the best one, it is the same. The
#           continued training itself begins with all trees of the file, without save_best also with
#           those after the best one.
# Version:  xgboost-cpu 3.2.0, lightgbm 4.7.0, numpy 2.4.6, scikit-learn 1.9.1, Python 3.11.
# Known:    the documentation says that predict() uses best_iteration of a model with early stopping,
#           and not that this outlives the training that stopped. dmlc/xgboost issue 5192 (2020,
#           closed) had wrong predictions after xgb_model= for another reason.
# Matters:  the first training finds the number of rounds with a validation set, later sessions go on
#           with all or with newer data. The published model is the first one. Before each session:
#           booster.set_attr(best_iteration=None, best_score=None).
# outlast:  has no adapter for boosters.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet xgboost-cpu==3.2.0 lightgbm==4.7.0 numpy==2.4.6 scikit-learn==1.9.1
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import warnings

import lightgbm
import numpy as np
import xgboost

warnings.filterwarnings("ignore")
draws = np.random.default_rng(0)
X = draws.normal(size=(400, 8))
y = X[:, 0] * X[:, 1] + 1.5 * draws.normal(size=400)
LIKE = {"learning_rate": 0.3, "max_depth": 3, "n_jobs": 1}
HELD_OUT = {"eval_set": [(X[300:], y[300:])]}


def sessions(title, first, more, prediction):
    """In how many of three sessions, after one that stopped early, do the predictions move?"""
    model, before, moved = first, prediction(first), 0
    for _ in range(3):
        model = more(model)
        after = prediction(model)
        moved += np.abs(after - before).max() > 0.1
        before = after
    print(f"{title}: the predictions moved in {moved} of 3 sessions")
    return model


def xgboost_more(model, **arguments):
    """A session of its own: the model comes from a file."""
    model.save_model("model.json")
    return xgboost.XGBRegressor(n_estimators=20, **LIKE, **arguments).fit(X, y, xgb_model="model.json")


for save_best in (False, True):
    stop = xgboost.callback.EarlyStopping(rounds=5, save_best=save_best)
    first = xgboost.XGBRegressor(n_estimators=200, callbacks=[stop], **LIKE)
    first.fit(X[:300], y[:300], verbose=False, **HELD_OUT)
    title = f"xgboost, save_best={save_best}"
    last = sessions(title, first, xgboost_more, lambda model: model.predict(X))
    grown = last.get_booster().num_boosted_rounds() - first.get_booster().num_boosted_rounds()
    same = last.get_booster().attr("best_iteration") == str(first.best_iteration)
    print(f"  trees added: {grown}; best_iteration is the first session's: {same}")
    sessions(
        "  predict() of its Booster",
        first,
        xgboost_more,
        lambda model: model.get_booster().predict(xgboost.DMatrix(X)),
    )


def cleared(model):
    model.get_booster().set_attr(best_iteration=None, best_score=None)
    return xgboost_more(model)


sessions("xgboost, both attributes removed before each session", first, cleared, lambda model: model.predict(X))

stopped = lightgbm.LGBMRegressor(n_estimators=200, verbose=-1, **LIKE)
stopped.fit(X[:300], y[:300], callbacks=[lightgbm.early_stopping(5, verbose=False)], **HELD_OUT)
sessions(
    "lightgbm",
    stopped,
    lambda model: lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, **LIKE).fit(X, y, init_model=model),
    lambda model: model.predict(X),
)
PY
cat >"$work/known" <<'TXT'
xgboost, save_best=False: the predictions moved in 0 of 3 sessions
  trees added: 60; best_iteration is the first session's: True
  predict() of its Booster: the predictions moved in 3 of 3 sessions
xgboost, save_best=True: the predictions moved in 0 of 3 sessions
  trees added: 60; best_iteration is the first session's: True
  predict() of its Booster: the predictions moved in 3 of 3 sessions
xgboost, both attributes removed before each session: the predictions moved in 3 of 3 sessions
lightgbm: the predictions moved in 3 of 3 sessions
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: 20 trees more move the predictions in each session."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
