"""The scripts of docs/tutorial, and the loops in examples/: killed three times, equal to their twins."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.integrations import twins

twins.need("torch")

SCRIPTS = {
    text.partition("integrations.")[2].partition(" ")[0]: text
    for page in ("hugging-face", "lightning", "keras", "ultralytics")
    for text in re.findall(
        r"^```py\n(.+?)^```", (REPOSITORY / f"docs/tutorial/{page}.md").read_text(), re.MULTILINE | re.DOTALL
    )
}
"""Framework -> the script on its page."""

LIGHTNING = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"


def survive(folder: Path, text: str, modules: str, steps: tuple[int, ...], **environment: str) -> None:
    """Train the script to its end, and once more with a SIGKILL after each of these steps."""
    script = folder / "script.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tests.integrations.killed", str(folder), str(script), modules, *map(str, steps)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("identical\n")


def smaller(text: str, **sizes: str) -> str:
    """The script with other numbers, so that it takes seconds; `_20_000="640"` replaces `20_000`."""
    for name, size in sizes.items():
        assert name[1:] in text
        text = text.replace(name[1:], size)
    return text


def test_every_framework_with_a_page_has_a_script_here() -> None:
    assert set(SCRIPTS) == {"huggingface", "lightning", "keras", "ultralytics"}


def test_huggingface(tmp_path: Path) -> None:
    twins.need("transformers", "accelerate")
    text = smaller(SCRIPTS["huggingface"], _4000="96", _20="5", _64="16")  # 12 steps an epoch
    survive(tmp_path, text, "transformers.trainer,transformers.models.bert.modeling_bert", (7, 12, 29))


def test_lightning(tmp_path: Path) -> None:
    twins.need(LIGHTNING.partition(".")[0])
    text = smaller(SCRIPTS["lightning"], _20_000="640", _50="7").replace("pytorch_lightning", LIGHTNING, 1)
    survive(tmp_path, text, LIGHTNING, (9, 40, 77))  # 10 steps an epoch


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras(backend: str, tmp_path: Path) -> None:
    twins.need("keras", "h5py", backend)
    text = smaller(SCRIPTS["keras"], _20_000="640", _50="7").replace('"jax"', f'"{backend}"', 1)
    survive(tmp_path, text, "keras", (9, 40, 77), KERAS_BACKEND=backend)


@pytest.mark.slow
def test_ultralytics(tmp_path: Path) -> None:
    twins.need("torchvision", "cv2", "ultralytics")
    network, data = tmp_path / "tiny.yaml", tmp_path / "data" / "data.yaml"
    text = smaller(
        SCRIPTS["ultralytics"],
        _yolo11n=str(network.with_suffix("")),
        **{
            "_plates.yaml": str(data),
            "_epochs=100": "epochs=3, batch=4, imgsz=64, plots=False, device='cpu'",
            "_10m": "2 steps",
        },
    )
    made = f"from tests.integrations import with_ultralytics as made; made.prepare(made.Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", made], cwd=REPOSITORY, check=True, env=quiet(tmp_path))
    survive(tmp_path, text, "tests.integrations.with_ultralytics", (4, 10, 13), **quiet(tmp_path))


def quiet(folder: Path) -> dict[str, str]:
    own = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_VERBOSE": "0", "YOLO_CONFIG_DIR": str(folder)}
    return {**os.environ, **own, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}


@pytest.mark.parametrize(("name", "module"), [("accelerate", "accelerate"), ("fabric", "lightning_fabric")])
def test_loops_of_a_users_own(name: str, module: str, tmp_path: Path) -> None:
    twins.need(module)
    text = (REPOSITORY / f"examples/{name}_loop.py").read_text()
    survive(tmp_path, text, module, (50, 126, 251))  # 63 steps an epoch


@pytest.mark.parametrize(("name", "module"), [("accelerate", "accelerate"), ("fabric", "lightning_fabric")])
@pytest.mark.filterwarnings("ignore")
def test_loops_of_a_users_own_are_others_without(name: str, module: str, tmp_path: Path) -> None:
    twins.need(module)
    train = getattr(twins.quietly_import("tests.integrations.with_loops"), f"with_{name}")
    twin = train(tmp_path)
    assert train(tmp_path).equal(twin)
    train(tmp_path, stop=14)
    resumed = train(tmp_path, resume=True)
    assert (twin - resumed).abs().max() > 1e-3  # in the middle of an epoch: other batches
