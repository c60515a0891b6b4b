"""`python -m foveate`: the command line, also for torchrun."""

import sys

from foveate.apps.cli import main

sys.exit(main())
