"""Those who run Homeroom for a district: is all well, what could not be taken, what the SIS's exports mean.

They are staff with the role `operator`, and see and do here what a district's operator may: what is of every district
(starting a rebuild, giving up an event of Homeroom's own) is not asked for.
"""

from services.portal.operations import imports, letters, overview

PAGES = [*overview.PAGES, *letters.PAGES, *imports.PAGES]
