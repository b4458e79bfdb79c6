"""The sample district: 2,000 pupils, their classes and the staff, as an SIS would publish them, with the names that
trip portals up.

Everything follows from the seed but the moments, which are counted back from an anchor. Publishing again is harmless:
within the hour every event has the id and the content that it had, and later each pupil's enrollment is the same one.
"""

import asyncio
import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from aiokafka import AIOKafkaProducer

from services.cli.pupil import cloud_event, kafka_record
from shared import clock
from shared.messages import rfc3339

PUPILS = 2000
SEED = 20260803
SOURCE = "/sample/sis"
NEW_SHARE = 0.08  # of the pupils were entered less than a day ago, and still have to wait
LARGEST_CLASS = 28
DESK = 4  # people of the help desk, who belong to no school
STRUCTURED_EVERY = 7
SENT_AT_ONCE = 500
_NAMESPACE = UUID("8f3f6b52-6a43-4f0e-9a0c-5d1f3b7a2c11")

_SCHOOLS = {
    ("K", "01", "02", "03", "04", "05"): (
        "Arnold Elementary",
        "Kemp Primary",
        "Lake Ridge Elementary",
        "M. D. Roberts Academy",
        "Swint Elementary",
    ),
    ("06", "07", "08"): ("Adamson Middle", "Mundy's Mill Middle", "Pointe South Middle"),
    ("09", "10", "11", "12"): ("Jonesboro High", "Mundy's Mill High", "Mt. Zion High"),
}
_LAST = """
Adams Allen Anderson Bailey Baker Banks Barnes Bell Bennett Brooks Brown Bryant Butler Campbell Carter Chen Clark
Coleman Collins Cook Cooper Cox Davis Diaz Edwards Ellis Evans Fisher Flores Ford Foster Garcia Gibson Gomez Gonzalez
Gordon Graham Gray Green Griffin Hall Hamilton Harris Harrison Hayes Henderson Hernandez Hill Holmes Howard Hughes
Hunter Jackson James Jenkins Johnson Jones Jordan Kelly Kennedy Kim King Le Lee Lewis Long Lopez Marshall Martin
Martinez Mason Mitchell Moore Morales Morgan Morris Murphy Murray Myers Nelson Nguyen Ortiz Owens Parker Patel
Patterson Perez Perry Peterson Phillips Pham Powell Price Ramirez Ramos Reed Reyes Reynolds Richardson Rivera Roberts
Robinson Rodriguez Rogers Ross Russell Sanchez Sanders Scott Simmons Singh Smith Stewart Sullivan Taylor Thomas
Thompson Torres Tran Tucker Turner Walker Wallace Ward Washington Watson West White Williams Wilson Wood Woods Wright
"""
_FIRST = """
Aaliyah Aaron Abigail Adam Aiden Alex Alexis Amari Amelia Amir Andrea Andrew Angel Anthony Ariana Ashley Aubrey Ava
Benjamin Brandon Brianna Caleb Camila Cameron Carlos Carter Chloe Christian Christopher Daniel David Diego Dylan
Elijah Elizabeth Emily Emma Ethan Eva Gabriel Genesis Gianna Grace Hannah Isaac Isabella Isaiah Jacob Jada James
Jaylen Jayden Jasmine Jeremiah Jordan Jose Joseph Joshua Josiah Juan Kayla Kennedy Kevin Khalil Kimberly Kingston
Laila Landon Layla Leah Liam Logan London Lucas Luis Madison Malik Maria Mason Mateo Matthew Maya Melanie Mia Michael
Micah Miguel Naomi Natalie Nathan Nevaeh Nia Noah Nyla Olivia Omar Paris Penelope Precious Quincy Samuel Santiago Sara
Savannah Serenity Skylar Sofia Sophia Taylor Trinity Tyler Valeria Victoria William Xavier Zachary Zara Zion Zoe
"""
# What a form must not choke on: each of these is somebody's name, to the letter.
_AWKWARD_LAST = (
    "O'Neil", "D'Angelo", "N'Diaye", "O’Shaughnessy", "De La Cruz", "van der Berg", "de los Santos y Rivera",
    "St. John", "Smith-Jones", "Al-Amin", "Núñez", "Muñoz-Ibáñez", "Nguyễn", "Þórsdóttir", "Müller", "Çelik",
    "Ó Briain", "Washington Jr.", "Baker III", "King, IV", "O", "Ng", "Wu", "McDonald", "MacDonald", "DuBois",
    "LaShawn-Price", "Uvuvwevwevwe Onyetenyevwe", "Keihanaikukauakahihuliheekahaunaele",
    "Wolfeschlegelsteinhausenbergerdorff-Featherstonehaugh de la Concepción y Villanueva del Río",
)  # fmt: skip
_AWKWARD_FIRST = (
    "Mary Ann", "Mary-Ann", "MaryAnn", "D'Andre", "Ja'Nya", "Ke'Shawn", "Jean-Luc", "José", "Zoë", "Chloë", "Renée",
    "Siân", "A", "J", "T J", "T.J.", "DeShawn", "LaToya", "Xochiquétzal", "Maximiliano de Jesús", "Nguyệt", "Søren",
    "Aleksándra", "Prince-Emmanuel Oluwaseun", "Ma. Fernanda", "X Æ A-12",
)  # fmt: skip


Data = dict[str, Any]


def pupils(anchor: datetime) -> list[Data]:
    """The enrollments, as the data of `StudentEnrolled`. Always the same persons; the anchor moves their moments."""
    dice = random.Random(SEED)
    numbers = dice.sample(range(100_000, 1_000_000), PUPILS)
    return [_pupil(dice, index, number, anchor) for index, number in enumerate(numbers)]


def _pupil(dice: random.Random, index: int, number: int, anchor: datetime) -> Data:
    grade = dice.choice([grade for grades in _SCHOOLS for grade in grades])
    school = dice.choice(next(schools for grades, schools in _SCHOOLS.items() if grade in grades))
    hours_ago = dice.uniform(0.5, 22) if dice.random() < NEW_SHARE else dice.uniform(25, 29 * 24)
    return {
        "source_id": str(uuid5(_NAMESPACE, f"pupil {index}")),
        "number": f"{number:07}",
        "last_name": _name(dice, index, _LAST.split(), _AWKWARD_LAST),
        "first_name": _name(dice, index, _FIRST.split(), _AWKWARD_FIRST),
        "school": school,
        "grade": grade,
        "entered_at": _ago(anchor, hours_ago),
        "enrollment_id": f"sample-{index:04}",
    }


def _name(dice: random.Random, index: int, usual: list[str], awkward: tuple[str, ...]) -> str:
    """Every awkward name occurs, in the first pupils; after them one in eight has one."""
    if index < len(awkward):
        return awkward[index]
    return dice.choice(awkward) if dice.random() < 0.125 else dice.choice(usual)


def _ago(anchor: datetime, hours: float) -> str:
    return rfc3339((anchor - timedelta(hours=hours)).replace(microsecond=0))


def classes(enrolled: list[Data]) -> list[tuple[Data, list[Data]]]:
    """A school's pupils of one grade, in as few classes of one size as hold them: what `ClassAssigned` says of each
    class, and who is in it."""
    together: dict[tuple[str, str], list[Data]] = defaultdict(list)
    for pupil in enrolled:
        together[pupil["school"], pupil["grade"]].append(pupil)
    found: list[tuple[Data, list[Data]]] = []
    for (school, grade), all_of_them in sorted(together.items()):
        rooms = math.ceil(len(all_of_them) / LARGEST_CLASS)
        for room in range(rooms):
            about = {
                "class_id": f"sample-class-{len(found):03}",
                "title": f"{grade}-{room + 1}",
                "school": school,
            }
            found.append((about, all_of_them[room::rooms]))
    return found


def staff(anchor: datetime, rooms: list[tuple[Data, list[Data]]]) -> list[Data]:
    """As the data of `StaffEmployed`: a teacher for each class, in their order; a principal for each school; a desk."""
    dice = random.Random(SEED + 1)
    posts: list[tuple[str, str | None]] = [("teacher", about["school"]) for about, _ in rooms]
    posts += [("principal", school) for schools in _SCHOOLS.values() for school in schools]
    posts += [("help desk", None)] * DESK
    numbers = dice.sample(range(10_000, 100_000), len(posts))
    return [
        {
            "source_id": str(uuid5(_NAMESPACE, f"staff {index}")),
            "number": f"e{number}",
            "last_name": _name(dice, PUPILS, _LAST.split(), _AWKWARD_LAST),
            "first_name": _name(dice, PUPILS, _FIRST.split(), _AWKWARD_FIRST),
            "role": role,
            "school": school,
            "entered_at": _ago(anchor, dice.uniform(25, 29 * 24)),
            "employment_id": f"sample-staff-{index:03}",
        }
        for index, ((role, school), number) in enumerate(zip(posts, numbers, strict=True))
    ]


def events(anchor: datetime) -> list[Data]:
    """The whole district as CloudEvents: everybody first, then who is in which class."""
    enrolled = pupils(anchor)
    rooms = classes(enrolled)
    employed = staff(anchor, rooms)
    told = [_event("StudentEnrolled", pupil, pupil, anchor) for pupil in enrolled]
    told += [_event("StaffEmployed", person, person, anchor) for person in employed]
    for (about, members), teacher in zip(rooms, employed, strict=False):
        for person, role in [(teacher, "teacher"), *((pupil, "student") for pupil in members)]:
            said = {"source_id": person["source_id"], "role": role, **about}
            told.append(_event("ClassAssigned", said, person, anchor))
    return told


def _event(kind: str, data: Data, person: Data, anchor: datetime) -> Data:
    """Said when the person was entered. One statement of a kind for each person and anchor."""
    what = rfc3339(anchor) if "number" in data else f"{rfc3339(anchor)} {data['class_id']}"
    return cloud_event(
        kind,
        data,
        source=SOURCE,
        now=datetime.fromisoformat(person["entered_at"]),
        event_id=str(uuid5(_NAMESPACE, f"{what} {data['source_id']}")),
    )


async def publish(producer: AIOKafkaProducer, topic: str, *, anchor: datetime | None = None) -> int:
    """Publish the district on its ingress topic; how many events. `anchor`: the last full hour, unless it is given.

    Most go in Kafka's binary mode, some in structured mode, as district systems differ.
    """
    anchor = anchor or clock.now().astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    told = events(anchor)
    for start in range(0, len(told), SENT_AT_ONCE):
        sent = [
            await producer.send(topic, **kafka_record(event, structured=(start + n) % STRUCTURED_EVERY == 0))
            for n, event in enumerate(told[start : start + SENT_AT_ONCE])
        ]
        await asyncio.gather(*sent)
    return len(told)
