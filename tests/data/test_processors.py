"""As many threads work as this process may use processors, not as many as the machine has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOUND = """
import os, sys, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pathlib import Path
from app.config import TrainConfig
from data.sources import load_source
from data.images.kind import picture_reader
from data.prepare import prepare_data
from inference.files import find_files, read_batches
before, counts = threading.active_count(), []
config = TrainConfig.of(data=sys.argv[1], cache_dir=Path(sys.argv[2]), image_size=16)
count = lambda _: counts.append(threading.active_count() - before)
prepare_data(load_source(config.data.data, config.run.cache_dir), config, count)
for _ in read_batches(find_files([config.data.data]), picture_reader(16), 4):
    count(0)
print(max(counts))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a processor")
def test_pictures_are_decoded_by_as_many_threads_as_there_are_processors_for_them(make_folder, tmp_path):
    command = [sys.executable, "-c", BOUND, str(make_folder(count=12)), str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_nothing_counts_the_processors_of_the_whole_machine():
    parts = {path: path.relative_to(ROOT).parts for path in ROOT.rglob("*.py")}
    others = ("tests", "venv")
    sources = [path for path, names in parts.items() if not any(name in others or name[0] == "." for name in names)]
    assert len(sources) > 100
    assert [path for path in sources if "os.cpu_count" in path.read_text(encoding="utf-8")] == []
