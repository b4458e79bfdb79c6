"""A file of keys or peppers, read again when it changes: whoever turns keys starts nothing anew."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from shared import metrics
from shared.folder import fingerprint
from shared.settings import SettingsInvalid

T = TypeVar("T")
LOOK_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class KeyFile(Generic[T]):
    """What the file holds (`value`). One that is missing, half written or wrong by now is reported once, in the log and
    in a metric, and what held before stays in force.

    `read` raises SettingsInvalid, whose message says where and never what. `refresh` may be called from any thread.
    """

    def __init__(self, kind: str, file: Path, read: Callable[[Path], T]) -> None:
        self._kind, self._file, self._read = kind, file, read
        self._lock = threading.Lock()
        self._seen = fingerprint(file)  # before it is read: a change in between is seen by the next look
        self.value = read(file)
        metrics.refused_keys.labels(kind).set(0)

    def refresh(self) -> bool:
        """Looks whether the file changed; True if it holds something else now."""
        with self._lock:
            seen = fingerprint(self._file)
            if seen == self._seen:
                return False
            self._seen = seen
            try:
                self.value = self._read(self._file)
            except SettingsInvalid as error:
                log.error("key_file_refused", kind=self._kind, why=str(error))
                metrics.refused_keys.labels(self._kind).set(1)
                return False
            log.info("key_file_read", kind=self._kind)
            metrics.refused_keys.labels(self._kind).set(0)
            return True
