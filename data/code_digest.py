"""Digests of code for the keys of stored values: changed code never gets values that older code computed."""

import hashlib
import inspect
import sys
from collections.abc import Callable


def code_digest(*makers: Callable) -> str:
    """Returns the SHA-256 of the source of the modules that define the given functions or classes.

    It covers whole modules, because a function may call others of its module. Compute it at import, as a constant: a
    file edited later is no longer the code that runs.
    """
    digest = hashlib.sha256()
    for name in sorted({maker.__module__ for maker in makers}):
        digest.update(inspect.getsource(sys.modules[name]).encode())
    return digest.hexdigest()
