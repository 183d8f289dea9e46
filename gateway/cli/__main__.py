"""`python -m gateway.cli` is `deltawire`."""

import sys

from gateway.cli import main

sys.exit(main())
