"""`python -m deltawire` is the `deltawire` command."""

import sys

from deltawire.gateway.cli import main

sys.exit(main())
