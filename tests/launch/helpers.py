"""What the tests of launching share."""

from __future__ import annotations

from tests.standins.kaggle import Standin

RELAY = ("relay", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "walk", "--ask-every", "0.1")


def over(standin: Standin, slug: str) -> None:
    session = standin.world.kernels["ada", slug].versions[-1].session
    assert session
    assert session.over.wait(60)


def launch(laptop, *flags: str) -> None:
    done = laptop("launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "walk", *flags)
    assert done.returncode == 0, done.stderr


def relay(laptop, *flags: str):
    return laptop(*RELAY, *flags)
