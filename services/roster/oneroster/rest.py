"""What a OneRoster 1.2 rostering service answers over REST, turned into the files of a OneRoster 1.2 export.

Both bindings say the same things, so what was pulled is read, planned and reported as every export is. An item that is
not of the specification's shape refuses the whole: who answers one thing wrongly cannot be trusted with another.
A value that is missing or makes no sense goes into its row as it is, and the reader says what is wrong with it.

The specification: OneRoster 1.2 Rostering Service, REST Binding, of 1EdTech.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, TypeAlias

import msgspec

from shared.errors import Rejected

Collection = Literal["orgs", "users", "academicSessions", "classes", "enrollments"]
# In the order in which they are pulled. The others are always pulled whole: of what was modified only these.
COLLECTIONS: tuple[Collection, ...] = ("orgs", "users", "academicSessions", "classes", "enrollments")
OF_CLASSES: tuple[Collection, ...] = ("academicSessions", "classes", "enrollments")
MODIFIED: tuple[Collection, ...] = ("users", "enrollments")

# By the file's name in the export; of each collection what `files_of` makes.
HEADERS = {
    "orgs.csv": ("sourcedId", "status", "name", "type"),
    "users.csv": (
        "sourcedId", "status", "enabledUser", "username", "givenName", "familyName", "identifier", "grades",
        "primaryOrgSourcedId",
    ),
    "roles.csv": ("userSourcedId", "roleType", "role", "beginDate", "endDate", "orgSourcedId"),
    "academicSessions.csv": ("sourcedId", "startDate", "endDate"),
    "classes.csv": ("sourcedId", "status", "title", "schoolSourcedId", "termSourcedIds"),
    "enrollments.csv": ("userSourcedId", "classSourcedId", "role", "status", "beginDate", "endDate"),
}  # fmt: skip
# What is asked for, and nothing else of anybody.
FIELDS: Mapping[Collection, tuple[str, ...]] = {
    "orgs": HEADERS["orgs.csv"],
    "users": (*HEADERS["users.csv"][:-1], "primaryOrg", "roles"),
    "academicSessions": HEADERS["academicSessions.csv"],
    "classes": (*HEADERS["classes.csv"][:-2], "school", "terms"),
    "enrollments": ("sourcedId", "user", "class", *HEADERS["enrollments.csv"][2:]),
}
LONGEST_TEXT = 1000  # well above what the reader takes, so that it is refused there
# A line break or NUL within a value would break its row, or the file. The reader refuses any control character.
_BREAKING = dict.fromkeys(map(ord, "\0\n\r"), "\x01")

Text: TypeAlias = (
    str | int | None
)  # numbers have lost their zeros; which numbers are good is the reader's to say


class Reference(msgspec.Struct, rename="camel"):
    sourced_id: str | None = None


class Org(msgspec.Struct, rename="camel"):
    sourced_id: str
    status: str | None = None
    name: Text = None
    type: str | None = None


class Role(msgspec.Struct, rename="camel"):
    role: str | None = None
    role_type: str | None = None
    org: Reference | None = None
    begin_date: str | None = None
    end_date: str | None = None


class User(msgspec.Struct, rename="camel"):
    """`grades` is a list in the specification, and a text in some implementations."""

    sourced_id: str
    status: str | None = None
    enabled_user: bool | str | None = None
    username: Text = None
    given_name: str | None = None
    family_name: str | None = None
    identifier: Text = None
    grades: list[str] | str | None = None
    primary_org: Reference | None = None
    roles: list[Role] | None = None


class Session(msgspec.Struct, rename="camel"):
    sourced_id: str
    start_date: str | None = None
    end_date: str | None = None


class Class(msgspec.Struct, rename="camel"):
    sourced_id: str
    status: str | None = None
    title: Text = None
    school: Reference | None = None
    terms: list[Reference] | None = None


class Enrollment(msgspec.Struct, rename="camel"):
    sourced_id: str
    status: str | None = None
    role: str | None = None
    begin_date: str | None = None
    end_date: str | None = None
    user: Reference | None = None
    class_: Reference | None = msgspec.field(default=None, name="class")


Item: TypeAlias = Org | User | Session | Class | Enrollment
_DECODERS: dict[Collection, msgspec.json.Decoder[Any]] = {
    "orgs": msgspec.json.Decoder(Org),
    "users": msgspec.json.Decoder(User),
    "academicSessions": msgspec.json.Decoder(Session),
    "classes": msgspec.json.Decoder(Class),
    "enrollments": msgspec.json.Decoder(Enrollment),
}
_PAGE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


class NotJson(Exception):
    """A page that is no JSON object: cut off, most likely, and worth another try."""


def read_page(collection: Collection, body: bytes, offset: int) -> list[Item]:
    """The items of a page that begins at `offset`. Raises NotJson; Rejected `provider_unexpected` with the place."""
    try:
        page = _PAGE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(str(error)) from None
    if collection not in page:
        unexpected("collection_missing", collection=collection)
    try:
        raws = _ITEMS.decode(page[collection])
    except (msgspec.DecodeError, RecursionError) as error:
        unexpected("collection", collection=collection, detail=str(error)[:200])
    decoder, items = _DECODERS[collection], []
    for n, raw in enumerate(raws):
        try:
            items.append(decoder.decode(raw))
        except (msgspec.DecodeError, RecursionError) as error:
            detail, _, where = str(error).partition(" - at `$")
            field = where.strip(".`") or None
            unexpected("item", collection=collection, at=offset + n, field=field, detail=detail[:200])
    return items


def unexpected(problem: str, **details: Any) -> NoReturn:
    """The provider does not answer as the specification says. Raises Rejected."""
    given = {name: value for name, value in details.items() if value is not None}
    raise Rejected("provider_unexpected", problem=problem, **given)


def files_of(items: list[Item]) -> dict[str, str]:
    """The rows of a page's items, by file, without headers."""
    rows: dict[str, list[tuple[object, ...]]] = {}
    for item in items:
        file, row = _row(item)
        rows.setdefault(file, []).append(row)
        if isinstance(item, User):
            rows.setdefault("roles.csv", []).extend(_role(item, role) for role in item.roles or ())
    return {file: table(content) for file, content in rows.items()}


def table(rows: list[tuple[object, ...]]) -> str:
    """CSV in which everything is quoted, so that nothing in a value can be taken for the file's own."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def collections(classes: bool) -> tuple[Collection, ...]:
    """What is pulled of a district, and where nobody wants to know of classes."""
    return tuple(each for each in COLLECTIONS if classes or each not in OF_CLASSES)


def manifest(mode: Literal["bulk", "delta"], source: str, *, classes: bool) -> str:
    """manifest.csv. Orgs, terms and classes are always pulled whole."""
    modes = {each: mode if each in MODIFIED else "bulk" for each in collections(classes)}
    return table(
        [
            ("propertyName", "value"),
            ("manifest.version", "1.0"),
            ("oneroster.version", "1.2"),
            ("file.roles", mode),
            *((f"file.{name}", said) for name, said in modes.items()),
            ("source.systemName", source),
        ]
    )


def _row(item: Item) -> tuple[str, tuple[object, ...]]:
    """The file and the row of an item."""
    match item:
        case Org():
            return "orgs.csv", (item.sourced_id, item.status, item.name, item.type)
        case User():
            return "users.csv", _user(item)
        case Session():
            return "academicSessions.csv", (item.sourced_id, item.start_date, item.end_date)
        case Class():
            terms = ",".join(term.sourced_id or "" for term in item.terms or ())
            return "classes.csv", (item.sourced_id, item.status, item.title, _id(item.school), terms)
        case Enrollment():
            days = item.begin_date, item.end_date
            return "enrollments.csv", (_id(item.user), _id(item.class_), item.role, item.status, *days)


def _id(reference: Reference | None) -> str | None:
    return reference.sourced_id if reference else None


def _user(user: User) -> tuple[object, ...]:
    grades = user.grades if isinstance(user.grades, str) else next(iter(user.grades or ()), None)
    return (
        user.sourced_id, user.status, user.enabled_user, user.username, user.given_name, user.family_name,
        user.identifier, grades, _id(user.primary_org),
    )  # fmt: skip


def _role(user: User, role: Role) -> tuple[object, ...]:
    return user.sourced_id, role.role_type, role.role, role.begin_date, role.end_date, _id(role.org)


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text[:LONGEST_TEXT].translate(_BREAKING)
