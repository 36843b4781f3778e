#!/usr/bin/env bash
# opencv-python 5.0.0.93: warping an image with 2 or 5 channels gives other values in the same
# channel than warping it with 1, 3 or 4, and masks lose their place.
#
# Guess:    a warp treats its channels alike and alone: channel 0 of a stack of five is channel 0 of
#           the image. In version 4 it is, to the byte (uint8).
# Happens:  version 5 has new kernels for 1, 3 and 4 channels (uint8, uint16, float32). They compute
#           with the exact position. All other numbers of channels take the old way, which rounds
#           the position to 1/32 of a pixel. With INTER_LINEAR three bytes of five differ, by up to
#           5; with INTER_NEAREST some pixels come from another place. resize and GaussianBlur of
#           uint8 do not differ.
# Version:  opencv-python-headless 5.0.0.93 and, for comparison, 4.14.0; numpy 2.4.6, Python 3.11,
#           x86-64.
# Known:    opencv pull request 25984 adds the kernels "for C1/C3/C4". That the result depends on
#           the number of channels is in no document that was found.
# Matters:  image and one-hot mask are warped in one stack by some pipelines and one by one by
#           others; optical flow has two channels. Data that were prepared by one way do not fit
#           those of the other, and a training that resumes under version 5 (pip's newest) sees
#           other images.
# outlast:  records the versions of Python and the framework, not of OpenCV: name it in the config
#           of a recipe that warps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
for version in 4 5; do
    "${PYTHON:-python3.11}" -m venv "$work/venv$version"
done
pip() { "$work/venv$1/bin/pip" install --quiet "opencv-python-headless==$2" numpy==2.4.6; }
pip 4 4.14.0.94
pip 5 5.0.0.93

cat >"$work/case.py" <<'PY'
import cv2
import numpy as np

print("OpenCV", cv2.__version__)
cv2.setNumThreads(1)
image = np.random.default_rng(0).integers(0, 256, (97, 131, 6)).astype(np.uint8)
affine = cv2.getRotationMatrix2D((60, 50), 17, 1.1)
perspective = np.array([[1.02, 0.03, 3], [-0.04, 0.97, 5], [1e-4, 2e-4, 1]])
x, y = np.meshgrid(np.linspace(0.3, 130.3, 90), np.linspace(3.2, 90.2, 60))
x, y = x.astype(np.float32), y.astype(np.float32)
SIZE = (120, 90)

for name, warp in (
    ("warpAffine, linear", lambda a: cv2.warpAffine(a, affine, SIZE, flags=cv2.INTER_LINEAR)),
    ("warpAffine, nearest", lambda a: cv2.warpAffine(a, affine, SIZE, flags=cv2.INTER_NEAREST)),
    ("warpPerspective, linear", lambda a: cv2.warpPerspective(a, perspective, SIZE)),
    ("remap, linear", lambda a: cv2.remap(a, x, y, cv2.INTER_LINEAR)),
    ("resize, linear", lambda a: cv2.resize(a, (77, 55))),
):
    alone = warp(np.ascontiguousarray(image[..., 0])).astype(int)
    print(f"  {name}: channel 0 of", end="")
    for channels in (2, 3, 4, 5):
        stack = warp(np.ascontiguousarray(image[..., :channels]))[..., 0]
        off = np.abs(stack - alone)
        share = f"{(off > 0).mean():.1%} differ" if off.any() else "same"
        print(f" {channels}: {share}{';' if channels < 5 else ''}", end="")
    print()
PY
cat >"$work/known" <<'TXT'
OpenCV 4.14.0
  warpAffine, linear: channel 0 of 2: same; 3: same; 4: same; 5: same
  warpAffine, nearest: channel 0 of 2: same; 3: same; 4: same; 5: same
  warpPerspective, linear: channel 0 of 2: same; 3: same; 4: same; 5: same
  remap, linear: channel 0 of 2: same; 3: same; 4: same; 5: same
  resize, linear: channel 0 of 2: same; 3: same; 4: same; 5: same
OpenCV 5.0.0
  warpAffine, linear: channel 0 of 2: 60.6% differ; 3: same; 4: same; 5: 60.6% differ
  warpAffine, nearest: channel 0 of 2: 0.2% differ; 3: same; 4: same; 5: 0.2% differ
  warpPerspective, linear: channel 0 of 2: 58.6% differ; 3: same; 4: same; 5: 58.6% differ
  remap, linear: channel 0 of 2: 61.6% differ; 3: same; 4: same; 5: 61.6% differ
  resize, linear: channel 0 of 2: same; 3: same; 4: same; 5: same
TXT

for version in 4 5; do
    (cd "$work" && "venv$version/bin/python" case.py 2>"$work/errors" >>"$work/seen") ||
        { cat "$work/errors"; exit 2; }
done
echo "Expected: the same in every line of both versions."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
