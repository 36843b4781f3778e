"""`python -m outlast.cli`, for where the script is not on the path."""

import sys

from outlast.cli import main

sys.exit(main())
