"""Lists or deletes what runs keep for later ones: `python cache.py`, `python cache.py --clear`."""

import app.oldest_python  # noqa: F401

import datetime
from pathlib import Path

from app.cli import run_command
from app.config import DEFAULT_CACHE_DIR
from app.errors import RunError, UsageError, did_you_mean_path
from app.fields import Settings, settings
from app.flags import parse_flags


@settings
class CacheFlags(Settings):
    """List or delete decoded examples and outputs of frozen layers, which runs keep for later ones."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """Folder that the runs were given as --cache-dir."""

    clear: bool = False
    """Delete all entries except those that a run is computing now. A run that uses a deleted entry still finishes."""


def main() -> None:
    """Shows every entry with its size and last use, and deletes them for --clear."""
    flags = parse_flags(CacheFlags)
    from app.terminal import console, counted, show_stage
    from data.store import open_store

    if not flags.cache_dir.is_dir() and flags.cache_dir != DEFAULT_CACHE_DIR:
        hint = did_you_mean_path(flags.cache_dir)
        raise UsageError(f"--cache-dir must be a folder; '{flags.cache_dir}' is not one.{hint}")
    store = open_store(flags.cache_dir, cache_gb=0)
    entries = store.deletable()
    for entry in entries:
        used = datetime.datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M")
        mebibytes = f"{entry.size / 2**20:,.1f}" if entry.size >= 2**20 / 10 else "< 0.1"
        console.print(f"{used}  {mebibytes:>9} MiB  {entry.title}", markup=False)
    found, remaining = store.clear() if flags.clear else (entries, [])
    total = sum(entry.size for entry in found) / 2**20
    place = "deleted from" if flags.clear else "in"
    show_stage("cache", f"{counted(len(found), 'entry', 'entries')}, {total:,.1f} MiB, {place} {store.folder}")
    if remaining:
        reasons = "; ".join(sorted({reason for _, reason in remaining}))
        remain = counted(len(remaining), "entry remains", "entries remain")
        raise RunError(f"{remain} in '{store.folder}': {reasons}. Clear again when that has changed.")


if __name__ == "__main__":
    run_command(main)
