"""Shared options of the commands that need a trained run."""

from __future__ import annotations

from argparse import ArgumentParser

from outlast_recipes.common import run_options

PARTS = {"ema": "averaged", "best": "best on validation", "model": "as trained"}


def add_run_arguments(parser: ArgumentParser) -> None:
    """Declare the run, its checkpoint and its weights, and the device."""
    run_options.add_run_arguments(parser, PARTS)
    parser.add_argument("--device", default="auto", help="device: cpu, cuda, cuda:0 or auto (default: auto)")
