"""Opens everything in a folder in a process of its own, and measures what that takes: `open_all`.

Whatever is opened is read, or refused in a sentence; within a minute of processor time, and within 2 GB of memory with
all that was opened before.
"""

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MOST_BYTES, MOST_SECONDS = 2_000_000_000, 60
READ = "read"


def open_all(kind: str, folder: Path) -> dict[str, str]:
    """Returns what became of each thing in a folder, by its name: READ, or the sentence that refuses it.

    Args:
        kind: a name in `OPENERS`.
        folder: of what is opened.
    """
    command = [sys.executable, "-m", "tests.bounded", kind, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    *opened, peak = map(json.loads, done.stdout.splitlines())
    assert peak < MOST_BYTES
    assert {name: seconds for name, _, seconds in opened if seconds > MOST_SECONDS} == {}
    assert {name: outcome for name, outcome, _ in opened if re.search(r"[\x00-\x1f\x7f]", outcome)} == {}
    return {name: outcome for name, outcome, _ in opened}


def open_picture(path: Path) -> None:
    from data.content import content_of
    from data.images.decode import decode_with_signature

    with content_of(path, path.parent) as content:
        decode_with_signature(content, 224, "crop")


def open_run(path: Path) -> None:
    import numpy as np

    from inference.load import load_model, read_run
    from inference.run_record import read_metrics, read_predictions

    run = read_run(path)
    read_metrics(run)
    read_predictions(path)
    size = run.config.data.image_size
    assert np.isfinite(load_model(run)(np.zeros((1, size, size, 3), np.float32))).all()


def open_weights(path: Path) -> None:
    from models.backbones import find
    from models.weights import check_available

    check_available(find("mobilenet"), str(path))


def open_table(path: Path) -> None:
    from data.sources import load_source

    load_source(str(path), path.parent)


OPENERS: dict[str, Callable[[Path], None]] = {
    "pictures": open_picture,
    "runs": open_run,
    "weights": open_weights,
    "tables": open_table,
}


def main() -> None:
    """Prints, for each thing, its name, what became of it and the seconds; and last the most bytes of memory."""
    from app.errors import UsageError
    from data.content import UnreadableError

    kind, folder = sys.argv[1:]
    for path in sorted(Path(folder).iterdir()):
        started = time.process_time()
        try:
            OPENERS[kind](path)
            outcome = READ
        except (UsageError, UnreadableError) as error:
            outcome = str(error)
        print(json.dumps([path.name, outcome, time.process_time() - started]))
    print(max(_peak(), 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))


def _peak() -> int:
    """The most memory that this process has had, bytes; `getrusage` would begin with that of the process before."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


if __name__ == "__main__":
    main()
