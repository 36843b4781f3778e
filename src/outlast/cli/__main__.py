"""`python -m outlast.cli`, for where the script is not on the path."""

import os
import sys

import outlast
from outlast.cli import main

# Python has put the working folder first on its path, which the command `outlast` does not: nothing is imported from
# there unasked.
if sys.path and sys.path[0] in ("", os.getcwd()) and os.path.dirname(outlast.__path__[0]) != os.getcwd():  # noqa: PTH109, PTH120
    del sys.path[0]

sys.exit(main())
