"""The rules of the roster for two records that are one person: what the survivor is told of the other.

A merge is a statement about the merged record, and bears a mark like any other: the newest of merges and splits counts.
While it stands, whatever is said of the merged record is said of the survivor, in the words of the survivor's own
rules, so that it makes no difference what comes first:

- its enrollments count for the survivor, each under a name of its own (`brought`): who was known for long does not wait
  anew, and who came back under a second record is back;
- what was said of its number, names, school, grade or classes after the merge changes the survivor's; what was said
  before does not: the survivor's record is the one that stays;
- that it left, or is missing in an export, says nothing of the survivor: the record is gone, as the merge has said.
  Nor does an export that has it say of its classes that they are all of the survivor's.

A split voids what was brought, and the merged record is enrolled again if it was when they were merged. What was said
of it in between stays the survivor's; the district says it anew.
"""

from collections.abc import Iterator
from uuid import UUID, uuid5

import msgspec

from services.roster.decider import (
    IDENTITY,
    MAX_CLASSES,
    MAX_ENROLLMENTS,
    PLACEMENT,
    AssignClass,
    Command,
    CorrectPerson,
    EnrollPerson,
    Mark,
    Merge,
    Said,
    State,
    UnassignClass,
    VoidEnrollment,
    is_enrolled,
    newest_enrollment,
)
from services.roster.events import PersonsMerged, PersonsSplit, StaffEmployed, StudentEnrolled
from shared.errors import Rejected
from shared.messages import Event

SURVIVOR_UNKNOWN = "survivor_unknown"
MAX_CHAIN = 8  # records: who was merged into somebody who was merged, and so on


class MergePersons(Command, frozen=True, kw_only=True):
    """`source_id` stays."""

    merged_source_id: str


class SplitPersons(Command, frozen=True, kw_only=True):
    """`merged_source_id` is a person of its own again."""

    merged_source_id: str


def spoken_of(command: Command) -> list[str]:
    """The source ids of whom a statement speaks."""
    if isinstance(command, MergePersons | SplitPersons):
        return [command.source_id, command.merged_source_id]
    return [command.source_id]


def heard(said: Said, command: MergePersons | SplitPersons) -> Said:
    """What the merged record remembers. A merge that is said again changes nothing, not even its mark."""
    into = command.source_id if isinstance(command, MergePersons) else None
    if not _newer(said, command) or (said.merge and into and said.merge.into == into):
        return said
    return msgspec.structs.replace(said, merge=Merge(command.mark, into))


def merge(
    command: MergePersons,
    survivor: State,
    merged: State,
    said: Said,
    person_id: UUID,
    merged_person_id: UUID,
    *,
    above: int = 1,
) -> list[Event]:
    """What is recorded in both streams. The survivor has to be known: nobody is lost by a merge into nobody. Once they
    are, it makes no difference when the merge was said. `above`: the record that it is merged into, and those
    into which that one was merged."""
    if not _newer(said, command):
        return []
    if said.merge and said.merge.into is not None:
        if said.merge.into == command.source_id:
            return []
        raise Rejected("merged_already", into=said.merge.into)
    if survivor.identity is None:
        raise Rejected(SURVIVOR_UNKNOWN, source_id=command.source_id)
    if said.height + 1 + above > MAX_CHAIN:
        raise Rejected("merges_too_deep", limit=MAX_CHAIN)
    if merged.kind not in (None, survivor.kind):
        raise Rejected("kind_differs", known_as=merged.kind)
    if len(survivor.enrollments) + len(survivor.voided) + len(merged.enrollments) > MAX_ENROLLMENTS:
        raise Rejected("enrollments_too_many", limit=MAX_ENROLLMENTS)
    if len(survivor.classes.keys() | merged.classes.keys()) > MAX_CLASSES:
        raise Rejected("classes_too_many", limit=MAX_CLASSES)
    return [PersonsMerged(person_id=person_id, merged_person_id=merged_person_id)]


def raised(said: Said, height: int) -> Said:
    """What the survivor remembers of how many records are below it. A split takes nothing back: this only bounds."""
    return msgspec.structs.replace(said, height=max(said.height, height))


def split(
    command: SplitPersons, survivor: Said, merged: Said, person_id: UUID, merged_person_id: UUID
) -> list[Event]:
    """What is recorded in both streams; nothing unless the one was merged into the other."""
    if not _newer(merged, command) or merged.merge is None or merged.merge.into != command.source_id:
        return []
    if survivor.merge and survivor.merge.into:  # what was brought has been brought on
        raise Rejected("merged_already", into=survivor.merge.into)
    return [PersonsSplit(person_id=person_id, merged_person_id=merged_person_id)]


def told_survivor(command: Command, merged_person_id: UUID, into: Merge) -> Command | None:
    """What a statement about a merged record says of the survivor; None: nothing."""
    assert into.into is not None
    change = msgspec.structs.replace
    match command:
        case EnrollPerson(enrollment_id=key):
            brought = _brought(merged_person_id, into, key)
            told = change(command, source_id=into.into, enrollment_id=brought, classes=None)
            if command.mark > into.mark:
                return told
            return change(
                told, number=None, last_name=None, first_name=None, school=None, grade=None, role=None
            )
        case CorrectPerson(mark=mark):
            return change(command, source_id=into.into, classes=None) if mark > into.mark else None
        case AssignClass(mark=mark) | UnassignClass(mark=mark):
            return change(command, source_id=into.into) if mark > into.mark else None
        case VoidEnrollment(enrollment_id=key):
            return change(command, source_id=into.into, enrollment_id=_brought(merged_person_id, into, key))
    return None


def brings(merged: State, said: Said, at: Mark) -> Iterator[Command]:
    """What is said anew at the merge: everything that was said of the other, each with its own mark."""
    kind = merged.kind or "student"
    for key, mark in said.enrollments.items():
        if known := merged.enrollments.get(key):
            yield EnrollPerson(
                mark=mark, source_id="", kind=kind, enrollment_id=key,
                received_at=known.basis, baseline=known.baseline,
            )  # fmt: skip
    for key in merged.voided:
        yield VoidEnrollment(mark=at, source_id="", enrollment_id=key)
    for key, mark in said.classes.items():
        if assignment := merged.classes.get(key):
            yield AssignClass(mark=mark, source_id="", kind=kind, assignment=assignment)
        else:
            yield UnassignClass(mark=mark, source_id="", class_id=key)
    for name in IDENTITY + PLACEMENT[kind]:
        held = merged.identity if name in IDENTITY else merged
        if held is not None and (mark_of_it := said.fields.get(name)):
            yield CorrectPerson(mark=mark_of_it, source_id="", kind=kind, **{name: getattr(held, name)})


def takes_back(survivor: State, merged_person_id: UUID, command: SplitPersons) -> Iterator[VoidEnrollment]:
    """What the survivor is told at a split: nothing that was brought counts."""
    for key in survivor.enrollments.keys() - survivor.voided:
        if key.startswith(f"{merged_person_id}/"):
            yield VoidEnrollment(mark=command.mark, source_id=command.source_id, enrollment_id=key)


def comes_back(merged: State, said: Said) -> list[Event]:
    """Told right after a split, of somebody who was enrolled at the merge."""
    key = newest_enrollment(said, merged.voided)
    known = merged.enrollments.get(key or "")
    if known is None or key is None or merged.identity is None or not is_enrolled(said, merged.voided):
        return []
    tells = StaffEmployed if merged.kind == "staff" else StudentEnrolled
    placement = {name: getattr(merged, name) for name in PLACEMENT[merged.kind or "student"]}
    return [
        tells(
            enrollment_id=key, identity=merged.identity, **placement, received_at=known.basis,
            basis=known.basis, baseline=known.baseline, current=True,
        )
    ]  # fmt: skip


def _newer(said: Said, command: MergePersons | SplitPersons) -> bool:
    return said.merge is None or command.mark > said.merge.mark


def _brought(merged_person_id: UUID, into: Merge, enrollment_id: str) -> str:
    """The survivor's name for an enrollment of the merged; after a split and another merge, a new one."""
    return f"{merged_person_id}/{uuid5(merged_person_id, f'{into.mark.event_id}/{enrollment_id}')}"
