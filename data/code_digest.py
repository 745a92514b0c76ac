"""The code that makes a value, as part of the key by which the value is stored: changed code never gets old values."""

import hashlib
import inspect
import sys
from collections.abc import Callable


def code_digest(*makers: Callable) -> str:
    """Returns the SHA-256 of the source of the modules in which the functions or classes that make a value are defined.

    Modules whole, as a function may call others of its module. It belongs into a constant: once a module is imported,
    its file may be edited, and is then no longer the code that runs.
    """
    digest = hashlib.sha256()
    for name in sorted({maker.__module__ for maker in makers}):
        digest.update(inspect.getsource(sys.modules[name]).encode())
    return digest.hexdigest()
