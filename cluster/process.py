"""The code of a Ray worker, which runs in its own process."""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

from app.errors import RunError
from app.terminal import silence
from app.wheels import installed_versions

LIBRARIES = ("numpy", "pillow", "tensorflow", "keras")
"""Computing libraries, which need the same versions on all machines; so does OpenVINO, if installed."""


class Worker:
    """A process of Ray that runs jobs."""

    def __init__(self, folder: str, threads: int):
        """Sets up the process, before it imports TensorFlow.

        Args:
            folder: working directory, so that relative paths are those of the command.
            threads: number of threads for TensorFlow, and for reading examples.
        """
        os.chdir(folder)
        os.environ.update(TF_NUM_INTRAOP_THREADS=str(threads), TF_NUM_INTEROP_THREADS=str(threads))
        os.environ.update(LOKY_MAX_CPU_COUNT=str(threads), TF_FORCE_GPU_ALLOW_GROWTH="true")
        silence()

    def prepare(self, make: Callable[[], Callable[[Any], Any]], versions: dict[str, str]) -> None:
        """Prepares the function of the following jobs.

        Raises:
            RunError: this machine has other versions of libraries than the command.
        """
        if library_versions() != versions:
            raise RunError(f"A worker's machine has other versions: {library_versions()}, where {versions} is needed.")
        self._run: Any = None
        self._run = make()

    def run(self, job: Any) -> Any:
        """Runs a job."""
        return self._run(job)


def library_versions() -> dict[str, str]:
    """Returns the versions of the computing libraries."""
    optional = [name for name in ("openvino",) if importlib.util.find_spec(name) is not None]
    return installed_versions(*LIBRARIES, *optional)
