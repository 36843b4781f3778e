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
    "merge keys": ("training:\n  <<: {learning_rate: 0.5}\n", r":2: training merges keys with '<<'"),
    "an alias inside of itself": ("training: &a\n  training: *a\n",
        r":2: training\.training has the alias \*a inside of what it stands for"),
    "the same in a list": ("epochs: &a [*a]\n", r":1: epochs has the alias \*a inside"),
    "an unknown alias": ("epochs: *nowhere\n", "is not valid YAML|nothing before it"),
    "a billion laughs": (LAUGHS, "makes more than 10000 values with its aliases"),
    "the same of lists": (LISTS, "makes more than 10000 values"),
    "twice": ("epochs: 1\nepochs: 2\n", r":2 gives 'epochs' a second time; it stands in line 1 already"),
    "twice in a section": ("training:\n  epochs: 1\n  epochs: 2\n",
        r":3: training gives 'epochs' a second time; it stands in line 2"),
    "twice by headings": ("training: {epochs: 1}\nepochs: 2\n",
        r":2 gives epochs a second time, as 'epochs'; it stands in line 1 already, as 'training\.epochs'"),
    "twice by aliases": ("learning_rate: 1.0\nlr: 2.0\n",
        r":2 gives learning_rate a second time, as 'lr'; it stands in line 1 already, as 'learning_rate'"),
    "tabs": ("training:\n\tepochs: 2\n", r":2 is not valid YAML.* Indent with spaces\."),
    "octal": ("epochs: 010\n",
        r":1: epochs is '010'; expected a number without leading zeros, which some read as octal: write 10\."),
    "octal seconds": ("learning_rate: 007.5\n", r"without leading zeros.*: write 7\.5\."),
    "octal of YAML 1.2": ("seed: 0o17\n", r":1: seed is '0o17'; expected a whole number\."),
    "hex": ("epochs: 0x10\n", r":1: epochs is '0x10'; expected a whole number\."),
    "exponents of whole numbers": ("epochs: 1e1\n", r":1: epochs is '1e1'; expected a whole number\."),
    "sexagesimal": ("epochs: 1:30\n", r":1: epochs is '1:30'; expected a whole number\."),
    "clock times": ("budget: 1:30\n", r":1: budget is '1:30'; expected a duration with units.*: write 1h30m or 90s\."),
    "longer clock times": ("budget: 11:30:00\n", r": write 11h30m00s\."),
    "seconds without a unit": ("budget: 90\n", r":1: budget is '90'; .*: write 90s\."),
    "infinity": ("learning_rate: .inf\n", r":1: learning_rate is '\.inf'; expected a number\."),
    "infinity as Python has it": ("learning_rate: inf\n", r":1: learning_rate is 'inf'; expected a finite number\."),
    "no number": ("learning_rate: .nan\n", r"expected a number\."),
    "no number as Python has it": ("clip: nan\n", r":1: clip is 'nan'; expected a finite number\."),
    "too large for a float": ("learning_rate: 1e999\n", r"expected a finite number\."),
    "an infinite budget": ("budget: .inf\n", r":1: budget is '\.inf'; expected a duration"),
    "code": ("epochs: !!python/object/apply:os.system ['touch PWNED']\n",
        r":1: epochs has the tag !!python/object/apply:os\.system; tags are not taken: write the value alone"),
    "an own tag": ("epochs: !foo 3\n", r":1: epochs has the tag !foo"),
    "a tag of a number": ("epochs: !!int abc\n", r":1: epochs has the tag !!int"),
    "binary": ("experiment_name: !!binary '=x'\n", r"has the tag !!binary"),
    "a set": ("epochs: !!set [a]\n", r"has the tag !!set"),
    "a list as a key": ("? [a, b]\n: 1\n", r":1 has a list or a mapping as a key; expected a name"),
    "a mapping as a key": ("epochs: {{a: b}: 1}\n", r":1: epochs has a list or a mapping as a key"),
    "an alias as a key": ("seed: &a 1\n*a : 2\n", r":2 has an alias as a key|not valid YAML"),
    "null as a key": ("~: 1\n", r":1 has an unknown key '~'"),
    "a key that YAML 1.1 reads as true": ("on: 1\n", r":1 has an unknown key 'on'"),
    "two documents": ("epochs: 1\n---\nepochs: 2\n", r":2 begins a second document; only one is taken"),
    "null where a number is needed": ("epochs:\n", r":1: epochs is 'none'; expected a whole number"),
    "a list for a number": ("epochs: [1]\n", r":1: epochs is '\[\"1\"\]'; expected a whole number"),
    "an empty mapping for a number": ("epochs: {}\n", r":1: epochs is '\{\}'; expected a whole number"),
    "a mapping in a list": ("cameras: [{a: 1}]\n", r":1: cameras is .*; expected a whole number"),
    "depth of lists": ("a: " + "[" * 5000 + "]" * 5000 + "\n", r":1: a is nested more than 20 deep"),
    "depth of mappings": ("a: " + "{a: " * 3000 + "}" * 3000 + "\n", r"is nested more than 20 deep"),
    "depth of blocks": ("".join(" " * i + "a:\n" for i in range(60)), r":2\d: .* is nested more than 20 deep"),
    "a long key": ("x" * 100_000 + ": 1\n", r":1 is not valid YAML"),
    "a number of 5000 digits": ("seed: " + "9" * 5000 + "\n",
        r"\(5000 characters\).*expected a whole number that is not that long"),
    "a large number": ("seed: 99999999999999999999999\n", r"expected less than 9223372036854775808"),
    "NUL": ("epochs: 7\0\n", r":1 has the invisible character U\+0000; delete it"),
    "a line end that nobody sees": ("epochs: 7\n# x\u0085learning_rate: 0.2",
        r":2 has the invisible character U\+0085"),
    "text that is turned": ("experiment_name: a\u202eb\n", r":1 has the invisible character U\+202E"),
    "an escaped control character": ('experiment_name: "a\\e[31mb"\n',
        r":1: experiment_name has the character U\+001B in a value"),
    "half of a pair": ('experiment_name: "\\ud800"\n', r":1: experiment_name has the character U\+D800 in a value"),
    "NUL in a path": ('checkpoint_dir: "a\\0b"\n', r":1: checkpoint_dir has the character U\+0000"),
    "a control character in a key": ('"a\\e[31mb\\a": 1\n', r":1 has an unknown key 'a\\x1b\[31mb\\x07'"),
    "an empty path": ("checkpoint_dir: ''\n", r":1: checkpoint_dir is ''; expected a path"),
    "no such user": ("checkpoint_dir: ~nobody-of-this-name/runs\n", r"expected a path; "),
    "a variable that is not set": ("checkpoint_dir: $NOT_SET_ANYWHERE/runs\n",
        (r":1: checkpoint_dir is '\$NOT_SET_ANYWHERE/runs'; "
        r"expected a value without \$NOT_SET_ANYWHERE, which is not set here")),
    "a secret": ("checkpoint_dir: runs/${WANDB_API_KEY}\n",
        r"expected a value without \$WANDB_API_KEY, which is named like a secret"),
    "bytes of another encoding": (b"# a\nexperiment_name: \xe9\n",
        r":2 is not UTF-8 text \(byte 0xe9\); save the file as UTF-8"),
    "UTF-16": ("epochs: 7\n".encode("utf-16"), r":1 is not UTF-8 text \(byte 0xff\)"),
    "a list": ("- a\n", r":1 holds a sequence; expected keys with values"),
    "one word": ("epochs\n", r":1 holds only the text 'epochs'; expected keys with values"),
    "an end in the middle": ("epochs: {a: 1\n", r":\d is not valid YAML"),
    "a percent sign": ("%YAML 9.9\n---\nepochs: 1\n", r"is not valid YAML"),
}  # fmt: skip

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
    with pytest.raises(ConfigError, match=sentence) as caught:
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


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (2**20 + 1))
    (tmp_path / "link.yaml").symlink_to("nowhere")
    for name, sentence in (
        ("", messages.says("config/is-folder-expected-yaml-file")),
        ("pipe.yaml", messages.says("config/is-no-ordinary-file-expected-yaml", file="pipe.yaml")),
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
def test_flags_mean_what_they_say(flags: dict[str, str], sentence: str) -> None:
    with messages.raises(ConfigError, sentence):
        resolve(Example, flags=flags)


def test_a_home_folder_in_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells do not expand `--checkpoint-dir=~/runs`."""
    monkeypatch.setenv("HOME", "/folder/ada")
    assert resolve(Example, flags={"checkpoint_dir": "~/runs"}).config.checkpoint_dir == Path("/folder/ada/runs")


def test_no_duration_is_infinite() -> None:
    for text in ("9" * 400 + "s", "1e5s", "-5s", "१s"):
        with pytest.raises(ValueError, match="expected a duration"):
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
