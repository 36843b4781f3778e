"""One loader: every error is a sentence with file, line and key, and no value is silently other than it says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests import messages

from outlast.config import Config, Section, SupervisedConfig, resolve, setting
from outlast.config.units import parse_seconds
from outlast.errors import ConfigError
from outlast.launch.settings import read_settings


class Model(Section):
    width: int = setting(8, "width", ge=1)


class Example(SupervisedConfig):
    model: Model = setting(Model(), "model", on_resume="fixed")
    cameras: tuple[int, ...] = setting((1, 2), "cameras")
    clip: float | None = setting(None, "gradient norm")


LAUGHS = "\n".join(
    f"{name}: &{name} {{{', '.join(f'k{i}: ' + (f'*{before}' if before else '1') for i in range(9))}}}"
    for name, before in zip("abcdefghi", ["", *"abcdefgh"], strict=True)
)
LISTS = "epochs: [" + ", ".join(
    f"&{n} [" + ",".join([f"*{p}" if p else "x"] * 9) + "]" for n, p in zip("abcdefgh", ["", *"abcdefg"], strict=True)
) + "]"  # fmt: skip

REFUSED = {
    "merge keys": (
        "training:\n  <<: {learning_rate: 0.5}\n",
        messages.says("config/yaml-training-merges-keys-with-which-is", line=2),
    ),
    "an alias inside of itself": (
        "training: &a\n  training: *a\n",
        messages.says("config/yaml-has-the-alias-inside-the-value-that", line=2, name="training.training"),
    ),
    "the same in a list": (
        "epochs: &a [*a]\n",
        messages.says("config/yaml-has-the-alias-inside-the-value-that", line=1, name="epochs"),
    ),
    "an unknown alias": (
        "epochs: *nowhere\n",
        messages.says("config/yaml-has-the-alias-nowhere-and-there-is", line=1, name="epochs"),
    ),
    "a billion laughs": (LAUGHS, messages.says("config/yaml-makes-more-than-values-with-its-aliases", line=4)),
    "the same of lists": (LISTS, messages.says("config/yaml-makes-more-than-values-with-its-aliases", line=1)),
    "twice": (
        "epochs: 1\nepochs: 2\n",
        messages.says("config/yaml-gives-second-time-line-gives-it", line=2, key="epochs", before=1),
    ),
    "twice in a section": (
        "training:\n  epochs: 1\n  epochs: 2\n",
        messages.says("config/yaml-gives-second-time-line-gives-it-2", line=3, name="training", key="epochs", before=2),
    ),
    "twice by headings": (
        "training: {epochs: 1}\nepochs: 2\n",
        messages.says(
            "config/yaml-gives-second-time-as-line-gives",
            line=2,
            key="epochs",
            path="epochs",
            before=1,
            path_before="training.epochs",
        ),
    ),
    "twice by aliases": (
        "learning_rate: 1.0\nlr: 2.0\n",
        messages.says(
            "config/yaml-gives-second-time-as-line-gives",
            line=2,
            key="learning_rate",
            path="lr",
            before=1,
            path_before="learning_rate",
        ),
    ),
    "tabs": ("training:\n\tepochs: 2\n", messages.says("config/yaml-is-not-valid-yaml-found-character-t", line=2)),
    "octal": (
        "epochs: 010\n",
        messages.says("config/leading-zeros", line=1, name="epochs", found="010", write="10"),
    ),
    "octal seconds": (
        "learning_rate: 007.5\n",
        messages.says("config/leading-zeros", line=1, name="learning_rate", found="007.5", write="7.5"),
    ),
    "octal of YAML 1.2": (
        "seed: 0o17\n",
        messages.says("config/no-whole-number", file="c", line=1, field="seed", found="0o17"),
    ),
    "hex": (
        "epochs: 0x10\n",
        messages.says("config/no-whole-number", file="c", line=1, field="epochs", found="0x10"),
    ),
    "exponents of whole numbers": (
        "epochs: 1e1\n",
        messages.says("config/no-whole-number", file="c", line=1, field="epochs", found="1e1"),
    ),
    "sexagesimal": (
        "epochs: 1:30\n",
        messages.says("config/no-whole-number", file="c", line=1, field="epochs", found="1:30"),
    ),
    "clock times": (
        "budget: 1:30\n",
        messages.says("config/no-duration-but", line=1, name="budget", found="1:30", write="1h30m or 90s"),
    ),
    "longer clock times": (
        "budget: 11:30:00\n",
        messages.says("config/no-duration-but", line=1, name="budget", found="11:30:00", write="11h30m00s"),
    ),
    "seconds without a unit": (
        "budget: 90\n",
        messages.says("config/no-duration-but", line=1, name="budget", found="90", write="90s"),
    ),
    "infinity": (
        "learning_rate: .inf\n",
        messages.says("config/yaml-is-expected-number", line=1, name="learning_rate", found=".inf"),
    ),
    "infinity as Python has it": (
        "learning_rate: inf\n",
        messages.says("config/yaml-is-expected-finite-number", line=1, name="learning_rate", found="inf"),
    ),
    "no number": (
        "learning_rate: .nan\n",
        messages.says("config/yaml-is-expected-number", line=1, name="learning_rate", found=".nan"),
    ),
    "no number as Python has it": (
        "clip: nan\n",
        messages.says("config/yaml-is-expected-finite-number", line=1, name="clip", found="nan"),
    ),
    "too large for a float": (
        "learning_rate: 1e999\n",
        messages.says("config/yaml-is-expected-finite-number", line=1, name="learning_rate", found="1e999"),
    ),
    "an infinite budget": (
        "budget: .inf\n",
        messages.says("config/no-duration", file="c", line=1, field="budget", found=".inf"),
    ),
    "code": (
        "epochs: !!python/object/apply:os.system ['touch PWNED']\n",
        messages.says(
            "config/yaml-has-the-tag-tags-are-not-supported",
            line=1,
            name="epochs",
            tag="!!python/object/apply:os.system",
        ),
    ),
    "an own tag": (
        "epochs: !foo 3\n",
        messages.says("config/yaml-has-the-tag-tags-are-not-supported", line=1, name="epochs", tag="!foo"),
    ),
    "a tag of a number": (
        "epochs: !!int abc\n",
        messages.says("config/yaml-has-the-tag-tags-are-not-supported", line=1, name="epochs", tag="!!int"),
    ),
    "binary": (
        "experiment_name: !!binary '=x'\n",
        messages.says("config/yaml-has-the-tag-tags-are-not-supported", line=1, name="experiment_name", tag="!!binary"),
    ),
    "a set": (
        "epochs: !!set [a]\n",
        messages.says("config/yaml-has-the-tag-tags-are-not-supported", line=1, name="epochs", tag="!!set"),
    ),
    "a list as a key": ("? [a, b]\n: 1\n", messages.says("config/yaml-has-list-or-mapping-as-key-expected", line=1)),
    "a mapping as a key": (
        "epochs: {{a: b}: 1}\n",
        messages.says("config/yaml-has-list-or-mapping-as-key-expected-2", line=1, name="epochs"),
    ),
    "an alias as a key": (
        "seed: &a 1\n*a : 2\n",
        messages.says("config/yaml-has-an-alias-as-key-expected-name", line=2),
    ),
    "null as a key": ("~: 1\n", messages.says("config/yaml-has-an-unknown-key", line=1, key="~")),
    "a key that YAML 1.1 reads as true": ("on: 1\n", messages.says("config/yaml-has-an-unknown-key", line=1, key="on")),
    "two documents": (
        "epochs: 1\n---\nepochs: 2\n",
        messages.says("config/yaml-begins-second-document-only-one-is-supported", line=2),
    ),
    "null where a number is needed": (
        "epochs:\n",
        messages.says("config/no-whole-number", file="c", line=1, field="epochs", found="none"),
    ),
    "a list for a number": (
        "epochs: [1]\n",
        messages.says("config/no-whole-number", file="c", line=1, field="epochs", found='["1"]'),
    ),
    "an empty mapping for a number": (
        "epochs: {}\n",
        messages.says("config/no-whole-number", file="c", line=1, field="epochs", found="{}"),
    ),
    "a mapping in a list": (
        "cameras: [{a: 1}]\n",
        messages.says("config/no-whole-number", file="c", line=1, field="cameras", found='[{"a": "1"}]'),
    ),
    "depth of lists": (
        "a: " + "[" * 5000 + "]" * 5000 + "\n",
        messages.says("config/yaml-is-nested-more-than-deep", line=1, name="a"),
    ),
    "depth of mappings": (
        "a: " + "{a: " * 3000 + "}" * 3000 + "\n",
        messages.says("config/yaml-is-nested-more-than-deep", line=1, name="a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"),
    ),
    "depth of blocks": (
        "".join(" " * i + "a:\n" for i in range(60)),
        messages.says(
            "config/yaml-is-nested-more-than-deep", line=22, name="a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"
        ),
    ),
    "a long key": ("x" * 100_000 + ": 1\n", messages.says("config/yaml-is-not-valid-yaml-mapping-values-are", line=1)),
    "a number of 5000 digits": (
        "seed: " + "9" * 5000 + "\n",
        messages.says("config/yaml-is-characters-expected-whole-number-that-is", line=1, name="seed"),
    ),
    "a large number": (
        "seed: 99999999999999999999999\n",
        messages.says("config/yaml-is-expected-less-than", line=1, name="seed", found="99999999999999999999999"),
    ),
    "NUL": (
        "epochs: 7\0\n",
        messages.says("config/yaml-has-the-invisible-character-delete-it", line=1, character="U+0000"),
    ),
    "a line end that nobody sees": (
        "epochs: 7\n# x\u0085learning_rate: 0.2",
        messages.says("config/yaml-has-the-invisible-character-delete-it", line=2, character="U+0085"),
    ),
    "text that is turned": (
        "experiment_name: a\u202eb\n",
        messages.says("config/yaml-has-the-invisible-character-delete-it", line=1, character="U+202E"),
    ),
    "an escaped control character": (
        'experiment_name: "a\\e[31mb"\n',
        messages.says(
            "config/yaml-has-the-character-in-value-expected-text", line=1, name="experiment_name", character="U+001B"
        ),
    ),
    "half of a pair": (
        'experiment_name: "\\ud800"\n',
        messages.says(
            "config/yaml-has-the-character-in-value-expected-text", line=1, name="experiment_name", character="U+D800"
        ),
    ),
    "NUL in a path": (
        'checkpoint_dir: "a\\0b"\n',
        messages.says(
            "config/yaml-has-the-character-in-value-expected-text", line=1, name="checkpoint_dir", character="U+0000"
        ),
    ),
    "a control character in a key": (
        '"a\\e[31mb\\a": 1\n',
        messages.says("config/yaml-has-an-unknown-key", line=1, key="a\\x1b[31mb\\x07"),
    ),
    "an empty path": (
        "checkpoint_dir: ''\n",
        messages.says("config/yaml-is-expected-path", line=1, name="checkpoint_dir"),
    ),
    "no such user": (
        "checkpoint_dir: ~nobody-of-this-name/runs\n",
        messages.says(
            "config/yaml-is-expected-path-could-not-determine",
            line=1,
            name="checkpoint_dir",
            found="~nobody-of-this-name/runs",
        ),
    ),
    "a variable that is not set": (
        "checkpoint_dir: $NOT_SET_ANYWHERE/runs\n",
        (
            messages.says(
                "config/yaml-is-expected-value-without-not-set",
                line=1,
                name="checkpoint_dir",
                found="$NOT_SET_ANYWHERE/runs",
            )
        ),
    ),
    "a secret": (
        "checkpoint_dir: runs/${WANDB_API_KEY}\n",
        messages.says("config/yaml-is-runs-expected-value-without-wandb-api", line=1, name="checkpoint_dir"),
    ),
    "bytes of another encoding": (
        b"# a\nexperiment_name: \xe9\n",
        messages.says("config/yaml-is-not-utf-text-byte-save-the", line=2, byte="0xe9"),
    ),
    "UTF-16": (
        "epochs: 7\n".encode("utf-16"),
        messages.says("config/yaml-is-not-utf-text-byte-save-the", line=1, byte="0xff"),
    ),
    "a list": ("- a\n", messages.says("config/yaml-holds-sequence-expected-keys-with-values-such", line=1)),
    "one word": ("epochs\n", messages.says("config/yaml-holds-only-the-text-epochs-expected-keys", line=1)),
    "an end in the middle": ("epochs: {a: 1\n", messages.says("config/yaml-is-not-valid-yaml-expected-or", line=2)),
    "a percent sign": (
        "%YAML 9.9\n---\nepochs: 1\n",
        messages.says("config/yaml-is-not-valid-yaml-found-incompatible-yaml", line=1),
    ),
}

MEANT = {
    "1e-3 is a number": ("learning_rate: 1e-3\n", "learning_rate", 1e-3),
    "underscores between digits": ("epochs: 1_000\n", "epochs", 1000),
    "whole numbers with a point": ("epochs: 3.0\n", "epochs", 3),
    "numbers in quotes": ("epochs: '3'\n", "epochs", 3),
    "a date is a name": ("experiment_name: 2026-02-28\n", "experiment_name", "2026-02-28"),
    "so is what is no date": ("experiment_name: 2026-02-30\n", "experiment_name", "2026-02-30"),
    "a number is a name": ("experiment_name: 0123\n", "experiment_name", "0123"),
    "no is a name where a name is meant": ("experiment_name: no\n", "experiment_name", "no"),
    "and a switch where that is meant": ("deterministic: off\n", "deterministic", False),
    "yes": ("deterministic: yes\n", "deterministic", True),
    "null": ("budget: null\n", "budget", None),
    "nothing": ("budget:\n", "budget", None),
    "none in words": ("budget: none\n", "budget", None),
    "durations": ("budget: 1h30m\n", "budget", 5400.0),
    "anchors and aliases": ("keep_last: &n 7\nkeep_best: *n\n", "keep_best", 7),
    "a byte order mark": ("\ufeffepochs: 7\n", "epochs", 7),
    "line ends of Windows": ("seed: 1\r\nepochs: 7\r\n", "epochs", 7),
    "line ends of old Macs": ("seed: 1\repochs: 7\r", "epochs", 7),
    "the home folder": ("checkpoint_dir: ~/runs\n", "checkpoint_dir", Path("HOME/runs")),
    "a variable": ("checkpoint_dir: ${HOME}/runs\n", "checkpoint_dir", Path("HOME/runs")),
    "lists with commas": ("cameras: 3, 4\n", "cameras", (3, 4)),
    "lists": ("cameras:\n  - 3\n  - 4\n", "cameras", (3, 4)),
    "a section with nothing in it": ("training:\nmodel: {}\nepochs: 7\n", "epochs", 7),
    "nothing at all": ("", "epochs", 10),
    "a comment": ("# x\n---\n", "epochs", 10),
}  # fmt: skip


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    text, sentence = REFUSED[case]
    begun = time.process_time()
    with messages.raises(ConfigError, sentence) as caught:
        resolve(Example, train_file=write(tmp_path / "c.yaml", text))
    assert time.process_time() - begun < 2
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/c.yaml")
    assert len(said) < 500 + len(str(tmp_path))
    assert "\n" not in said
    assert not Path("PWNED").exists()


@pytest.mark.parametrize("case", MEANT)
def test_meant(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "HOME")
    text, key, value = MEANT[case]
    assert getattr(resolve(Example, train_file=write(tmp_path / "c.yaml", text)).config, key) == value


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (2**20 + 1))
    (tmp_path / "link.yaml").symlink_to("nowhere")
    for name, sentence in (
        ("", messages.says("config/is-folder-expected-yaml-file")),
        ("pipe.yaml", messages.says("config/not-a-regular-file", file="pipe.yaml")),
        ("large.yaml", messages.says("config/has-mb-expected-yaml-file", size="1.0", size2="1.0")),
        ("link.yaml", messages.says("config/does-not-exist", file="link.yaml")),
        ("there2.yaml", messages.says("config/does-not-exist-holds-did-you-2", file="large.yaml", mean="there.yaml")),
        ("there.yaml/x", messages.says("config/cannot-be-read-not-directory")),
        ("x" * 5000, messages.says("config/cannot-be-read-file-name-too")),
        ("a\0b", messages.says("config/cannot-be-read")),
    ):
        with messages.raises(ConfigError, sentence) as caught:
            resolve(Example, train_file=tmp_path / name)
        assert len(str(caught.value)) < 1000


def test_very_many_unknown_keys_are_not_all_named(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "\n".join(f"k{i}: 1" for i in range(3000)))
    with messages.raises(
        ConfigError, "config/has-an-unknown-key-3", path="c.yaml:1", key="k0", line=2, line2=11, more=2989
    ):
        resolve(Example, train_file=path)


def test_an_attached_input_goes_before_where_all_data_lie(tmp_path: Path) -> None:
    class Reading(Config):
        data_root: Path | None = setting(None, "data", aliases=("kaggle_datasets.mine",))

    for text in ("data_root: a\nkaggle_datasets: {mine: b, other: c}\n", "kaggle_datasets: {mine: b}\ndata_root: a\n"):
        found = resolve(Reading, environment_file=write(tmp_path / "e.yaml", f"paths: {{}}\n{text}"))
        assert found.config.data_root == Path("b")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"learning_rate": "inf"}, messages.says("config/learning-rate-is-expected-finite-number", name="inf")),
        ({"learning_rate": "nan"}, messages.says("config/learning-rate-is-expected-finite-number", name="nan")),
        ({"epochs": "010"}, messages.says("config/epochs-is-expected-number-without-leading", name="010")),
        ({"epochs": "0"}, messages.says("config/epochs", name=0, number=1)),
        ({"epochs": "9" * 5000},
            messages.says("config/epochs-is-characters-expected-whole-number")),
        ({"budget": "1:30"}, messages.says("config/budget-is-write", name="1:30")),
        ({"budget": "1e400s"}, messages.says("config/budget-is-expected-duration", name="1e400s")),
        ({"checkpoint_dir": ""}, messages.says("config/checkpoint-dir-is-expected-path")),
        ({"save_every": "999999999999999999999 steps"}, messages.says("config/expected-an-interval")),
    ],
)  # fmt: skip
def test_flags_set_their_values(flags: dict[str, str], sentence: str) -> None:
    with messages.raises(ConfigError, sentence):
        resolve(Example, flags=flags)


def test_a_home_folder_in_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells do not expand `--checkpoint-dir=~/runs`."""
    monkeypatch.setenv("HOME", "/folder/ada")
    assert resolve(Example, flags={"checkpoint_dir": "~/runs"}).config.checkpoint_dir == Path("/folder/ada/runs")


def test_no_duration_is_infinite() -> None:
    for text in ("9" * 400 + "s", "1e5s", "-5s", "१s"):
        with messages.raises(ValueError, "config/text-is-no-duration"):
            parse_seconds(text)


def test_the_launch_settings_use_the_same_loader(tmp_path: Path) -> None:
    place = tmp_path / "outlast-launch.yaml"
    write(place, "where: kaggle\nuser: 123\ninternet: off\nsecrets: true\n")
    found = read_settings(tmp_path)
    assert (found.where, found.user, found.options) == ("kaggle", "123", {"internet": False, "secrets": True})
    for text, sentence in (
        ("user: [\n", messages.says("config/is-not-valid-yaml-2", file="outlast-launch.yaml")),
        ("user: !!python/name:os.system\n", messages.says("config/user-has-the-tag", path="outlast-launch.yaml:1")),
        (b"user: \xff\n", messages.says("config/is-not-utf", number=1)),
        ("user: " + "[" * 3000, messages.says("config/nested-more-than-deep", deep=20)),
        ("internet: maybe\n", messages.says("config/internet-is-expected-true-or-false", name="maybe")),
        ("x" * 300 + ": 1\n", messages.says("config/there-is-no-setting-characters", characters=300)),
    ):
        write(place, text)
        with messages.raises(ConfigError, sentence):
            read_settings(tmp_path)
