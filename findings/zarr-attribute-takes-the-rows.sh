#!/usr/bin/env bash
# zarr 3.1.6: writing an attribute of an array takes away the rows that were appended through
# another object of the same array.
#
# Guess:    `root["loss"]` twice is one array twice. `a.append(rows)` and `b.attrs["best"] = 7`
#           touch different things; at worst an attribute is old.
# Happens:  each object holds the metadata as they were when it was looked up, and shape and
#           attributes are one file. Setting an attribute writes that whole file: the shape is the
#           old one again, and all rows that `a` appended are gone for every reader. In the other
#           direction an append takes back the attributes that were set since. Each write counts on
#           what its object saw last, so the two go on undoing each other. Nothing warns; it is one
#           process, one thread, one group. The chunks stay until the next append, which begins at
#           row 0 and writes over whole chunks.
# Version:  zarr 3.1.6, numpy 2.4.6, Python 3.11, a local folder.
# Known:    no issue and no document was found.
# Matters:  a writer keeps `loss = root["loss"]` and appends; a callback writes
#           `root["loss"].attrs["best_step"]` through an object that it looked up at its start. The
#           curve of the run is empty. Look the array up anew before each write.
# outlast:  appends to a file, and keeps nothing about it in memory that a second writer could undo:
#           one writer has the lock.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet zarr==3.1.6 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import numpy as np
import zarr


def look(title):
    array = zarr.open_group("run.zarr", mode="r")["loss"]
    print(f"{title}: rows {array[:].tolist()}, attributes {dict(array.attrs)}")


root = zarr.open_group("run.zarr", mode="w")
root.create_array("loss", shape=(0,), chunks=(4,), dtype="f8", attributes={"unit": "nat"})
writer, callback = root["loss"], root["loss"]
writer.append(np.array([0.9, 0.8, 0.7]))
look("appended by the writer")
callback.attrs["best_step"] = 3
look("attribute by the callback")
writer.append(np.array([0.6, 0.5]))
look("appended by the writer")
callback.attrs["best_step"] = 5
look("attribute by the callback")
root["loss"].append(np.array([9.0]))
look("appended by a new object")
root["loss"].resize((5,))
look("resized to 5")
PY
cat >"$work/known" <<'TXT'
appended by the writer: rows [0.9, 0.8, 0.7], attributes {'unit': 'nat'}
attribute by the callback: rows [], attributes {'unit': 'nat', 'best_step': 3}
appended by the writer: rows [0.9, 0.8, 0.7, 0.6, 0.5], attributes {'unit': 'nat'}
attribute by the callback: rows [], attributes {'unit': 'nat', 'best_step': 5}
appended by a new object: rows [9.0], attributes {'unit': 'nat', 'best_step': 5}
resized to 5: rows [9.0, 0.0, 0.0, 0.0, 0.5], attributes {'unit': 'nat', 'best_step': 5}
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: five rows and two attributes at the end."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
