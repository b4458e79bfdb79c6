"""Runs claims: `python -m services.claims`."""

from services.claims.app import SPEC
from shared.service import main

if __name__ == "__main__":
    main(SPEC)
