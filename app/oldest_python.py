"""Ends a command with a sentence if Python is too old.

Every command imports this first, before anything that an older Python lacks, so this file must run there.
"""

import sys

OLDEST = (3, 11)

if sys.version_info < OLDEST:
    sys.stderr.write(
        "error: Headstart needs Python {}.{} or newer; this is Python {}.{}. Make an environment with a newer one, and "
        "install requirements.txt there.\n".format(*OLDEST, *sys.version_info)
    )
    sys.exit(2)
