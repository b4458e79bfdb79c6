"""Runs the portal: `python -m services.portal`."""

from services.portal.app import main

if __name__ == "__main__":
    main()
