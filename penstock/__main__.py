"""Run the command line as `python -m penstock`."""

import sys

from penstock.main import main

sys.exit(main())
