"""Ends a command under an older Python with a sentence.

Every command imports this first, before anything that an older Python lacks; so it is written for those to read.
"""

import sys

OLDEST = (3, 11)

if sys.version_info < OLDEST:
    sys.stderr.write(
        "error: Headstart needs Python {}.{} or newer; this is Python {}.{}. Make an environment with a newer one, and "
        "install requirements.txt there.\n".format(*OLDEST, *sys.version_info)
    )
    sys.exit(2)
