"""A Chromium for tests in a real browser: `python -m tests.support.chromium` sees to it that there is one.

HOMEROOM_CHROMIUM names one; otherwise it is the machine's own, or the one that Playwright fetched. Where there is none,
Debian's is installed if that may be done without asking: as root. HOMEROOM_NO_BROWSER=1 leaves those tests out.
The headless shell, where there is one, comes first: the same engine without a desktop browser around it, in two thirds
of the time.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.async_api import Browser, Playwright
from playwright.sync_api import sync_playwright

NAMES = ("chromium-headless-shell", "chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
ON_A_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", "chromium-headless-shell")
MISSING = f"""The portal's tests need a Chromium, and there is none. One of these gives it to them:
    sudo {" ".join(INSTALL)}            (Debian)
    .venv/bin/playwright install --with-deps chromium
    export HOMEROOM_CHROMIUM=/path/to/chromium
HOMEROOM_NO_BROWSER=1 leaves these tests out."""
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def unwanted() -> bool:
    return os.environ.get("HOMEROOM_NO_BROWSER") == "1"


def find() -> Path | None:
    """The program. A name that leads nowhere is a mistake to be told, not a reason to take another one."""
    if named := os.environ.get("HOMEROOM_CHROMIUM"):
        return Path(named)
    for name in (*NAMES, ON_A_MAC):
        if found := shutil.which(name):
            return Path(found)
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return own if own.exists() else None


async def launch(playwright: Playwright, program: Path) -> Browser:
    """Without a screen. As root Chromium refuses to run in its sandbox."""
    return await playwright.chromium.launch(
        executable_path=program, args=list(QUIET), chromium_sandbox=os.geteuid() != 0
    )


def install() -> Path | None:
    """Debian's, where the package manager may be asked; the machine's lists of packages may be old."""
    if os.geteuid() != 0 or not shutil.which(INSTALL[0]) or not _is_debian():
        return None
    print("Installing Debian's Chromium for the portal's tests (once) ...", flush=True)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (INSTALL, (INSTALL[0], "update"), INSTALL):
        done = subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False)
        if done.returncode == 0 and command is INSTALL:
            break
    return find()


def _is_debian() -> bool:
    try:
        return platform.freedesktop_os_release().get("ID") == "debian"
    except OSError:
        return False


if __name__ == "__main__":
    if not unwanted() and not (find() or install()):
        sys.exit(MISSING)
