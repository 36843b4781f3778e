"""The commands of the original's training guide, with `python -m ...` replaced by the verb of outlast."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import outlast
from outlast.cli import main
from outlast_recipes.sign import generated, training
from tests.conftest import REPOSITORY
from tests.recipes import signs

GUIDE = REPOSITORY.parent / "shared/seeds/004-sign-language-training-guide.md"

TRAIN = "python -m training.train"
CHECK = "python -m preprocessing.validate_npz"

EXAMPLES = {
    "transformer": """
        python -m training.train --model transformer
        --keypoints-train path/to/keypoints_train --keypoints-val path/to/keypoints_val
        --labels-train-csv path/to/train_labels.csv --labels-val-csv path/to/val_labels.csv
        --num-gloss 105 --num-cat 10 --epochs 30 --batch-size 32 --output-dir data/processed
        """,
    "iv3-gru": """
        python -m training.train --model iv3_gru
        --features-train path/to/features_train --features-val path/to/features_val
        --labels-train-csv path/to/train_labels.csv --labels-val-csv path/to/val_labels.csv
        --feature-key X2048 --num-gloss 105 --num-cat 10 --epochs 30 --batch-size 32 --output-dir data/processed
        """,
    "smoke-transformer": """
        python -m training.train --model transformer --smoke-test --num-gloss 105 --num-cat 10
        """,
    "smoke-iv3-gru": """
        python -m training.train --model iv3_gru --smoke-test --num-gloss 105 --num-cat 10 --no-pretrained-backbone
        """,
    "check": "python -m preprocessing.validate_npz path/to/keypoints_train",
    "check-features": "python -m preprocessing.validate_npz path/to/features_train --require-x2048",
    "transformer-advanced": """
        python -m training.train --model transformer
        --keypoints-train path/to/kp_train --keypoints-val path/to/kp_val
        --labels-train-csv path/to/train.csv --labels-val-csv path/to/val.csv
        --num-gloss 105 --num-cat 10 --epochs 50 --batch-size 64
        --lr 3e-4 --weight-decay 1e-4 --amp --grad-clip 1.0
        --scheduler cosine --early-stop 10 --log-csv logs/transformer_train.csv
        --num-workers 4 --pin-memory
        """,
    "iv3-gru-advanced": """
        python -m training.train --model iv3_gru
        --features-train path/to/feat_train --features-val path/to/feat_val
        --labels-train-csv path/to/train.csv --labels-val-csv path/to/val.csv
        --feature-key X2048 --num-gloss 105 --num-cat 10 --epochs 40 --batch-size 32
        --lr 1e-4 --scheduler plateau --scheduler-patience 3 --early-stop 8
        --log-csv logs/iv3_gru_train.csv --num-workers 4 --pin-memory
        """,
    "cpu": """
        python -m training.train --model transformer
        --keypoints-train path/to/kp_train --keypoints-val path/to/kp_val
        --labels-train-csv path/to/train.csv --labels-val-csv path/to/val.csv
        --num-gloss 105 --num-cat 10 --epochs 20 --batch-size 16
        --lr 1e-4 --scheduler plateau --log-csv logs/cpu_train.csv
        """,
}
TRAINED = [name for name in EXAMPLES if not name.startswith("check")]


def words(name: str) -> list[str]:
    text = " ".join(EXAMPLES[name].split())
    return shlex.split(text.replace(TRAIN, "train sign").replace(CHECK, "data check sign"))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the folders and tables that the examples name."""
    monkeypatch.chdir(tmp_path)
    counts = {"train": 8, "val": 4}
    for root in (signs.folder(tmp_path / "path/to", counts), signs.features(tmp_path / "path/to", counts)):
        for split in counts:
            for kind, short in (("keypoints", "kp"), ("features", "feat")):
                if (root / f"{kind}_{split}").is_dir() and not (root / f"{short}_{split}").exists():
                    (root / f"{short}_{split}").symlink_to(root / f"{kind}_{split}")
            (root / f"{split}.csv").write_bytes((root / f"{split}_labels.csv").read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", TRAINED)
def test_examples_train(data: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "EACH", {"train": 1, "val": 1, "test": 0})
    monkeypatch.setattr(training, "SMOKE_EPOCHS", 1)
    given = words(name)
    if "--epochs" in given:
        given[given.index("--epochs") + 1] = "1"
    before = {path: path.stat().st_mtime_ns for path in (data / "path").rglob("*")}
    assert main(given) == 0
    runs = data / ("data/processed" if "--output-dir" in given else "runs")
    saved = outlast.open_saved("sign", root=runs)
    kind = {"transformer": "SignTransformer", "iv3_gru": "InceptionV3GRU"}[saved.config.network.name]
    smoke = "SMOKE-TEST-" if "--smoke-test" in given else ""
    for which in ("best", "last"):
        assert (runs / f"sign/artifacts/{smoke}{kind}_{which}.safetensors").is_file()
    assert saved.part("labels")["category_of"][:4] == ([0, 1, 2, 3] if smoke else [0, 1, 0, 1])
    assert len(saved.part("labels")["glosses"]) == 105
    if "--log-csv" in given:
        head = Path(given[given.index("--log-csv") + 1]).read_text().splitlines()[0]
        assert {"step", "loss", "lr", "val_gloss_top1"} <= set(head.split(","))
    assert {path: path.stat().st_mtime_ns for path in (data / "path").rglob("*")} == before, "data are not written to"


@pytest.mark.parametrize("name", ["check", "check-features"])
def test_examples_check(data: Path, name: str) -> None:
    assert main(words(name)) == 0


def test_these_are_all_examples_of_the_guide() -> None:
    if not GUIDE.is_file():
        pytest.skip("../shared/seeds is not beside this checkout")
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [" ".join(line.split()) for line in lines if line.startswith("python -m")]
    assert commands == [" ".join(text.split()) for text in EXAMPLES.values()]


def test_a_run_of_the_guide_continues(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = [*words("cpu"), "--network.width", "16", "--network.heads", "4", "--network.layers", "1"]
    given[given.index("--epochs") + 1] = "1"
    assert main(given) == 0
    given[given.index("--epochs") + 1] = "2"
    assert main([*given, "--resume", "sign"]) == 0
    journal = [json.loads(line) for line in (data / "runs/sign/journal.jsonl").read_text().splitlines()]
    assert sum("val_gloss_top1" in line for line in journal) == 2
    assert outlast.open_saved("sign", root=data / "runs").step == 2
