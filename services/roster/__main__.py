"""`python -m services.roster`"""

from services.roster.app import SPEC
from shared.service import main

main(SPEC)
