#!/usr/bin/env bash
# webdataset 1.0.2: with loader workers, deterministic resampling gives the same samples in every
# epoch, and the others never.
#
# Guess:    ResampledShards(deterministic=True) draws shards anew, reproducibly: by the seed, the
#           worker and the epoch, as its source mixes them.
# Happens:  the epoch is counted in the object, and DataLoader gives each epoch's workers a copy of an
#           object that counts -1. Ten epochs have one order. Drawn with replacement and cut by
#           with_epoch, it is always the same 50 of 100 samples; without workers, or with
#           persistent ones, all are seen. detshuffle=True has one order too, but all samples.
# Version:  webdataset 1.0.2, torch 2.13.0 (CPU), Python 3.11.
# Known:    github.com/webdataset/webdataset/issues/172 (2022, open) says it of detshuffle's order; that
#           resampling then leaves out samples for ever is not said.
# Matters:  deterministic=True is what one sets so that a training can be repeated or resumed; a part
#           of the data is not trained on, in silence. A resumed process counts from -1 again, so that
#           persistent workers do not help across sessions.
# outlast:  has no adapter; its own loader takes map-style data and draws by seed and epoch.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 webdataset==1.0.2
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import io
import tarfile

import torch
import webdataset as wds

for shard in range(20):
    with tarfile.open(f"{shard:02}.tar", "w") as tar:
        for k in range(5):
            body = str(shard * 5 + k).encode()
            info = tarfile.TarInfo(f"{shard * 5 + k:03}.txt")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))


def shuffled():
    data = wds.WebDataset("{00..19}.tar", shardshuffle=20, detshuffle=True, seed=1)
    return data.decode().to_tuple("txt")


def resampled():
    return wds.DataPipeline(
        wds.ResampledShards("{00..19}.tar", deterministic=True, seed=1),
        wds.tarfile_to_samples(),
        wds.decode(),
        wds.to_tuple("txt"),
    ).with_epoch(50)


for data in (shuffled, resampled):
    for more in ({}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}):
        loader = torch.utils.data.DataLoader(data(), batch_size=None, **more)
        epochs = [tuple(int(sample[0]) for sample in loader) for _ in range(10)]
        seen = len({sample for epoch in epochs for sample in epoch})
        print(f"{data.__name__} {more}: {len(set(epochs))} orders in 10 epochs, {seen} of 100 samples")
PY
cat >"$work/known" <<'TXT'
shuffled {}: 10 orders in 10 epochs, 100 of 100 samples
shuffled {'num_workers': 2}: 1 orders in 10 epochs, 100 of 100 samples
shuffled {'num_workers': 2, 'persistent_workers': True}: 10 orders in 10 epochs, 100 of 100 samples
resampled {}: 10 orders in 10 epochs, 100 of 100 samples
resampled {'num_workers': 2}: 1 orders in 10 epochs, 50 of 100 samples
resampled {'num_workers': 2, 'persistent_workers': True}: 10 orders in 10 epochs, 100 of 100 samples
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: 10 orders and 100 samples in each line."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
