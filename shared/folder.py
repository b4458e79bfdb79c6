"""Folders whose files are configuration, read again when one changes."""

from pathlib import Path


def fingerprints(folder: Path, pattern: str) -> dict[str, tuple[int, ...]]:
    """By file name, what differs when its content or mode may: time, size, inode, mode. {}: no such folder."""
    found: dict[str, tuple[int, ...]] = {}
    for file in folder.glob(pattern):
        try:
            stat = file.stat()
        except OSError:
            continue  # renamed in between: the next look sees it
        found[file.name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_mode)
    return found
