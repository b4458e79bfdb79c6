"""The help desk's pages, for staff with a role: see why something fails, and set it right.

Everything is asked of the services with the person's own token (`access`), so that it is recorded under their name; and
whatever changes an account asks for the ticket's number first.

Pages, under /{district}/desk:
    /                        whom somebody looks for
    /people/{person_id}      who it is, how the account stands, what happened to it
    /people/{person_id}/...  what can be done about it (`acts`)
    /refusals/{reference}    what happened to somebody who reads out a code
    /tickets, /waiting       lists that are reset; those that wait for a colleague
    /year                    a school's pupils, or all, claim again
    /unclaimed, /first-day   who has not claimed yet; how it goes, minute by minute
"""

from services.portal.desk import acts, first_day, people, person, tickets, unclaimed, year

PAGES = [
    *people.PAGES,
    *person.PAGES,
    *acts.PAGES,
    *tickets.PAGES,
    *year.PAGES,
    *unclaimed.PAGES,
    *first_day.PAGES,
]
