"""Files that hold a secret: whole or not at all, and for their owner's eyes."""

import os
from pathlib import Path


def write_private(file: Path, content: bytes) -> None:
    """Replace a file as one step, readable by its owner only."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
    new.replace(file)
