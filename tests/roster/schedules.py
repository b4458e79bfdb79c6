"""The classes of a school year, for exports made in tests: sections of 28 pupils with seven classes each, and who
teaches them. Half of the classes last one term, half the year; the days are in academicSessions.csv.
"""

import re
from collections.abc import Sequence

PERIODS = 7
SECTION = 28
SUBJECTS = ("Algebra", "Biology", "English 9", "U.S. History", "Español", "Art", "Homeroom")

SESSIONS = [
    [
        "sourcedId",
        "status",
        "dateLastModified",
        "title",
        "type",
        "startDate",
        "endDate",
        "parentSourcedId",
        "schoolYear",
    ],
    ["y", "", "", "The year", "schoolYear", "2026-07-01", "2027-06-30", "", "2027"],
    ["y1", "", "", "First term", "term", "2026-08-03", "2027-01-04", "y", "2027"],
    ["y2", "", "", "Second term", "term", "2027-01-04", "2027-05-29", "y", "2027"],
]
COURSES = [
    ["sourcedId", "status", "dateLastModified", "schoolYearSourcedId", "title", "courseCode", "orgSourcedId"],
    *(["k" + str(n), "", "", "y", subject, f"10{n}", "d"] for n, subject in enumerate(SUBJECTS)),
]
CLASSES = re.split(
    " ",
    "sourcedId status dateLastModified title grades courseSourcedId classCode classType location schoolSourcedId"
    " termSourcedIds subjects subjectCodes periods",
)
ENROLLMENTS = re.split(
    " ",
    "sourcedId status dateLastModified classSourcedId schoolSourcedId userSourcedId role primary beginDate endDate",
)


def class_id(section: int, period: int) -> str:
    return f"c{section}-{period}"


def schedule(students: Sequence[str], teachers: Sequence[str], schools: int) -> dict[str, list[list[str]]]:
    """The files, by name: sections of the students in their order; each teacher has the classes that come to them."""
    classes, enrollments = [CLASSES], [ENROLLMENTS]
    for section in range(-(-len(students) // SECTION)):
        school = f"s{section % schools}"
        for period, subject in enumerate(SUBJECTS):
            key = class_id(section, period)
            terms = "y1,y2" if period % 2 else "y1"
            title = "" if period == 0 else f"{subject} {section + 1}"
            kind = "homeroom" if period == PERIODS - 1 else "scheduled"
            classes.append(
                [key, "", "", title, "09", f"k{period}", "", kind, "", school, terms, "", "", str(period)]
            )
            members = [
                (student, "student", "") for student in students[section * SECTION : (section + 1) * SECTION]
            ]
            if teachers:
                members.append((teachers[(section * PERIODS + period) % len(teachers)], "teacher", "true"))
            for who, role, primary in members:
                enrollments.append(
                    [f"{key}/{who}", "", "", key, school, who, role, primary, "2026-08-03", ""]
                )
    return {"academicSessions": SESSIONS, "courses": COURSES, "classes": classes, "enrollments": enrollments}
