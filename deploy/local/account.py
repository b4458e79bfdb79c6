"""Which account runs PostgreSQL and Kafka. PostgreSQL refuses root, so root hands both to an unprivileged account."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Account:
    """The account of the databases' processes; `uid` is None when they simply run as the caller."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls, name: str = "nobody") -> "Account":
        """The caller's own account, or the one of this name when the caller is root. KeyError: no such account."""
        if os.geteuid() != 0:
            return cls()
        entry = pwd.getpwnam(name)
        return cls(entry.pw_uid, entry.pw_gid)

    def spawn_options(self) -> dict[str, Any]:
        """Options of subprocess.Popen that start a process as this account."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, folder: Path, mode: int = 0o700) -> Path:
        """Make the folder if needed and hand it, and all that is in it, to the account."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
        if self.uid is not None and self.gid is not None:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)
        return folder

    def can_read(self, file: Path) -> bool:
        if self.uid is None:
            return os.access(file, os.R_OK)
        return (
            subprocess.run(["test", "-r", file], cwd="/", check=False, **self.spawn_options()).returncode == 0
        )

    def reachable(self, folder: Path, probe: str, copies: Path) -> Path:
        """`folder`, or a copy of it under `copies` when the account cannot read `folder/probe` (an environment under
        root's home, or installed with a strict umask). Only for packages: their size is known."""
        if self.can_read(folder / probe):
            return folder
        if not (folder / probe).exists():
            raise FileNotFoundError(f"{folder / probe} is missing: is the environment complete?")
        copy = copies / folder.parent.name / folder.name
        if not self.can_read(copy / probe):
            _copy_readable(folder, copy)
            # Where a wheel's own shared libraries lie; its programs look for them at this place beside their package.
            libraries = folder.parent.with_name(f"{folder.parent.name}.libs")
            if libraries.exists():
                _copy_readable(libraries, copies / libraries.name)
        return copy


def _copy_readable(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    for path in [*target.rglob("*"), target]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
