"""Runs auth: `python -m services.auth`."""

import sys

from services.auth.app import SPEC
from shared.service import main
from shared.settings import SettingsInvalid

if __name__ == "__main__":
    try:
        main(SPEC)
    except SettingsInvalid as error:
        sys.exit(f"homeroom auth: {error}")
