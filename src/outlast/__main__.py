"""`python -m outlast`: the command `outlast`, for where it is not on the path."""

from outlast.cli import as_module

as_module()
