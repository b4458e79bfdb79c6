"""Files and folders of files that are configuration, read again when one changes."""

from pathlib import Path


def fingerprints(folder: Path, pattern: str) -> dict[str, tuple[int, ...]]:
    """By file name, what differs when its content or mode may: time, size, inode, mode. {}: no such folder."""
    found: dict[str, tuple[int, ...]] = {}
    for file in folder.glob(pattern):
        if seen := fingerprint(file):  # else renamed in between: the next look sees it
            found[file.name] = seen
    return found


def fingerprint(file: Path) -> tuple[int, ...]:
    """The same of one file; (): it is not there, or nobody may look."""
    try:
        stat = file.stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_mode
