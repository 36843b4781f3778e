"""A switch that is given a value: refused, with what to write instead."""

from __future__ import annotations

import pytest
from tests import messages

from outlast.cli import main
from outlast.cli.parser import Parser
from outlast.errors import UsageError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "digits", "--mixed-precision", "false"],
            messages.says("cli/switch", flag="--mixed-precision", value="false", write="--no-mixed-precision"),
        ),
        (
            ["train", "digits", "--mixed_precision=False", "--epochs", "1"],
            messages.says("cli/switch", flag="--mixed-precision", value="False", write="--no-mixed-precision"),
        ),
        (
            ["config", "yolo", "--hardware.multi-gpu", "0"],
            messages.says("cli/switch-config", flag="--hardware.multi-gpu", value="0", write="--no-hardware.multi-gpu"),
        ),
        (
            ["train", "digits", "--deterministic", "TRUE"],
            messages.says("cli/switch-on", flag="--deterministic", value="TRUE"),
        ),
        (
            ["train", "digits", "--no-deterministic=no"],
            messages.says("cli/switch", flag="--no-deterministic", value="no", write="--deterministic"),
        ),
        (
            ["train", "digits", "--debug", "verbose"],
            messages.says("cli/switch-either", flag="--debug", value="verbose", no="--no-debug"),
        ),
        (["status", "--json", "false"], messages.says("cli/switch-off", verb="status", flag="--json", value="false")),
        (["runs", "--json=0"], messages.says("cli/switch-off", verb="runs", flag="--json", value="0")),
        (
            ["launch", "digits", "--on", "local", "--dry-run", "yes"],
            messages.says("cli/switch-launch", flag="--dry-run", value="yes"),
        ),
    ],
)
def test_a_switch_takes_no_value(
    words: list[str], message: messages.Message, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    messages.said(capsys.readouterr().err, message)


def test_a_switch_that_is_only_off() -> None:
    parser = Parser("outlast predict skeleton", "")
    parser.add_argument("--no-gif", action="store_true")
    with messages.raises(UsageError, "cli/switch-no", flag="--no-gif", value="False"):
        parser.parse(["--no-gif", "False"])


def test_an_unknown_flag_after_a_switch_is_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--bogus"]) == 2
    messages.said(capsys.readouterr().err, "cli/switch-then-flag", flag="--bogus")


def test_what_follows_a_switch_may_be_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Only "true" and "false" are taken for its value where the verb expects a name."""
    assert main(["status", "--json", "on"]) == 2
    messages.said(capsys.readouterr().err, "cli/switch-name", run="on")
