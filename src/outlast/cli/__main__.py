"""`python -m outlast.cli`: as `python -m outlast`."""

from outlast.cli import as_module

as_module()
