"""THE RULES of the roster: what is recorded of a person when the district says something.

The district is never contradicted, only put in order. What it says comes late, twice and in any order, so
each statement bears a mark, its time and then its event's id: of two statements about the same thing the
greater mark counts, whichever came first. Enrollments add up instead: each counts for the waiting period
however late it comes, until it is voided. A pupil is enrolled while an enrollment that counts was said after the
last withdrawal. Of staff an employment is the enrollment, and leaving the withdrawal: the rules are the same. Whether
somebody is a student or staff is settled by what is recorded of them first; a person keeps one kind. Of each class the
newest statement counts, that the person is in it (or teaches it), or is not any more.

`State` is folded from what was recorded. `Said` keeps the marks, also those of statements that changed nothing
and so were never recorded: without them an old statement could undo a newer one that only confirmed what was
known.

A OneRoster export is a statement about every pupil of its district, as of one moment. Whom it has is enrolled by the
enrollment EXPORT, always the same one, so that a return keeps its basis. Whom it does not have is withdrawn; if it does
not even name them, then only if an earlier export did: an export takes away what exports have given, and nothing else.
Of classes it is the same: an export that names all of a person's takes away those that exports have ever named, and no
others.
EXPORT is never voided for good, since each export says anew how things are: whoever voids it says that the exports made
until then were in error about the person. The next one that has them brings them back.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime

import msgspec

from services.roster.events import (
    Assignment,
    ClassesChanged,
    EnrollmentVoided,
    Identity,
    NameCorrected,
    NumberChanged,
    PersonsMerged,
    PersonsSplit,
    PlacementChanged,
    StaffEmployed,
    StaffLeft,
    StudentEnrolled,
    StudentWithdrawn,
)
from shared.errors import Rejected
from shared.messages import Event, Recorded
from shared.policy import Kind, Policy

MAX_ENROLLMENTS = 100  # of one person, voided ones included
MAX_CLASSES = 100  # of one person at a time
CLASSES_TOLD = 15  # in one event, so that it keeps its bound however long their titles are
# The newest marks of classes that are remembered, of a person: several years of them. What is said of an older one when
# it is forgotten counts as new.
CLASS_MARKS = 400
EXPORT = "oneroster"  # the enrollment of whoever is in the district's exports
ABSENT = "absent"  # why an export does not have a person whom it does not name
VOIDED = "voided"  # why somebody left whom exports had in error


class Mark(msgspec.Struct, frozen=True, order=True):
    """Where a statement stands among those of its person: by its time, ties by its event's id."""

    time: datetime
    event_id: str


# --- What the district can say: the commands


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """`kind`: of whom only it can be said; None: of everybody."""

    mark: Mark
    source_id: str
    kind: Kind | None = None


class ExportedClasses(msgspec.Struct, frozen=True, kw_only=True):
    """What an export says of a person's classes. `whole`: all there are; otherwise what is not named stays as it is."""

    assigned: tuple[Assignment, ...] = ()
    unassigned: tuple[str, ...] = ()
    whole: bool = False


class CorrectPerson(Command, frozen=True, kw_only=True):
    """None: this was not said, and stays as it is. A student has a grade, a member of the staff a role."""

    kind: Kind = "student"
    number: str | None = None
    last_name: str | None = None
    first_name: str | None = None
    school: str | None = None
    grade: str | None = None
    role: str | None = None
    classes: ExportedClasses | None = None


class EnrollPerson(CorrectPerson, frozen=True, kw_only=True):
    """Says number and names always, unless it is a merged person's. `received_at`: the broker's append time, or the
    arrival over HTTP."""

    enrollment_id: str
    entered_at: datetime | None = None
    received_at: datetime
    baseline: bool = False


class WithdrawPerson(Command, frozen=True, kw_only=True):
    kind: Kind = "student"
    withdrawn_at: datetime
    reason: str | None = None


class VoidEnrollment(Command, frozen=True, kw_only=True):
    enrollment_id: str


class AssignClass(Command, frozen=True, kw_only=True):
    kind: Kind
    assignment: Assignment


class UnassignClass(Command, frozen=True, kw_only=True):
    class_id: str


class MissInExport(Command, frozen=True, kw_only=True):
    """As of the mark's time an export does not have the person as a student: `reason` says why, if only ABSENT."""

    reason: str


# --- What is known when deciding


class Enrollment(msgspec.Struct, frozen=True):
    basis: datetime
    baseline: bool


class State(msgspec.Struct, frozen=True):
    """A person as recorded. `enrollments` holds the voided ones too; `enrolled` is what was told last."""

    kind: Kind | None = None
    identity: Identity | None = None
    school: str | None = None
    grade: str | None = None
    role: str | None = None
    enrolled: bool = False
    withdrawn: StudentWithdrawn | StaffLeft | None = None
    enrollments: Mapping[str, Enrollment] = {}
    voided: frozenset[str] = frozenset()
    classes: Mapping[str, Assignment] = {}

    @property
    def basis(self) -> datetime | None:
        """From when the waiting period counts: the earliest enrollment that was not voided."""
        return min((e.basis for i, e in self.enrollments.items() if i not in self.voided), default=None)

    @property
    def baseline(self) -> bool:
        return any(e.baseline for i, e in self.enrollments.items() if i not in self.voided)


class Withdrawal(msgspec.Struct, frozen=True):
    mark: Mark
    at: datetime
    reason: str | None = None


class Merge(msgspec.Struct, frozen=True):
    """The newest word on whether this record is another name of somebody else: `into` whom; none: it was split."""

    mark: Mark
    into: str | None


class Exported(msgspec.Struct, frozen=True):
    """Which classes exports have ever named, the latest last, and the newest export that named all of the person's: of
    each of these classes it said something, be it that the person is not in it."""

    mark: Mark | None = None
    classes: tuple[str, ...] = ()


class Said(msgspec.Struct, frozen=True):
    """The newest statement about each thing, by its mark. `export_voided`: the newest void of EXPORT. `classes`: by
    statements about one class. `height`: how many records were merged into this one in a row, the one into the other,
    at the most."""

    fields: Mapping[str, Mark] = {}
    enrollments: Mapping[str, Mark] = {}
    withdrawal: Withdrawal | None = None
    export_voided: Mark | None = None
    classes: Mapping[str, Mark] = {}
    exported: Exported = Exported()
    merge: Merge | None = None
    height: int = 0


IDENTITY = ("number", "last_name", "first_name")
PLACEMENT: Mapping[Kind, tuple[str, ...]] = {"student": ("school", "grade"), "staff": ("school", "role")}

initial = State()


def evolve(state: State, recorded: Recorded[Event]) -> State:
    change = msgspec.structs.replace
    match recorded.data:
        case StudentEnrolled() | StaffEmployed() as e:
            enrollments = {**state.enrollments, e.enrollment_id: Enrollment(e.basis, e.baseline)}
            state = change(state, kind=e.kind, enrollments=enrollments)
            if not e.current:
                return state
            placement = {name: getattr(e, name) for name in PLACEMENT[e.kind]}
            return change(state, identity=e.identity, enrolled=True, **placement)
        case NameCorrected(identity=identity, kind=kind) | NumberChanged(identity=identity, kind=kind):
            return change(state, kind=kind, identity=identity)
        case PlacementChanged(school=school, grade=grade, role=role):
            return change(state, school=school, grade=grade, role=role)
        case StudentWithdrawn() | StaffLeft() as e:
            return change(state, kind=e.kind, enrolled=False, withdrawn=e)
        case EnrollmentVoided(enrollment_id=enrollment_id):
            return change(state, voided=state.voided | {enrollment_id})
        case ClassesChanged(kind=kind, assigned=assigned, unassigned=unassigned):
            return change(state, kind=kind, classes=reassigned(state.classes, assigned, unassigned))
        case PersonsMerged(merged_person_id=merged) if merged == recorded.stream_id:
            return change(state, enrolled=False)
        case PersonsMerged() | PersonsSplit():
            return state
    raise AssertionError(f"roster records no {recorded.type}")


def hear(said: Said, command: Command) -> Said:
    """The marks once this statement was heard, whether or not it changed anything."""
    change = msgspec.structs.replace
    if isinstance(command, CorrectPerson):
        names = IDENTITY + PLACEMENT[command.kind]
        fields = {name: command.mark for name in names if _counts(said, command, name)}
        said = change(said, fields={**said.fields, **fields}) if fields else said
        said = _hear_classes(said, command.classes, command.mark) if command.classes else said
    match command:
        case EnrollPerson(mark=mark, enrollment_id=key) if _newer(mark, said.enrollments.get(key)):
            return change(said, enrollments={**said.enrollments, key: mark})
        case WithdrawPerson(mark=mark) if said.withdrawal is None or mark > said.withdrawal.mark:
            return change(said, withdrawal=Withdrawal(mark, command.withdrawn_at, command.reason))
        case MissInExport(mark=mark, reason=reason) if _withdraws(said, command):
            return change(said, withdrawal=Withdrawal(mark, mark.time, reason))
        case VoidEnrollment(mark=mark, enrollment_id=key) if key == EXPORT and _newer(
            mark, said.export_voided
        ):
            return change(said, export_voided=mark)
        case AssignClass(mark=mark) | UnassignClass(mark=mark):
            return _mark_classes(said, [_class_of(command)], mark)
    return said


def _hear_classes(said: Said, told: ExportedClasses, mark: Mark) -> Said:
    named, known = [a.class_id for a in told.assigned], said.exported
    if not told.whole:
        said = _mark_classes(said, [*named, *told.unassigned], mark)
    elif _newer(mark, known.mark):
        known = Exported(mark, known.classes)
    if named:
        rest = [key for key in known.classes if key not in set(named)]
        known = Exported(known.mark, (*rest, *named)[-CLASS_MARKS:])
    return said if known == said.exported else msgspec.structs.replace(said, exported=known)


def _mark_classes(said: Said, keys: Iterable[str], mark: Mark) -> Said:
    newer = {key: mark for key in keys if _newer(mark, said.classes.get(key))}
    if not newer:
        return said
    newest = sorted({**said.classes, **newer}.items(), key=lambda of: of[1])[-CLASS_MARKS:]
    return msgspec.structs.replace(said, classes=dict(newest))


# --- The decisions: each answers with what is recorded, nothing when nothing changes


def decide(state: State, said: Said, command: Command, policy: Policy) -> list[Event]:
    if command.kind is not None and state.kind not in (None, command.kind):
        raise Rejected("kind_differs", known_as=state.kind)
    match command:
        case EnrollPerson():
            return enroll_person(state, said, command, policy) + export_classes(state, said, command)
        case CorrectPerson():
            return correct_person(state, said, command) + export_classes(state, said, command)
        case WithdrawPerson():
            return withdraw_person(state, said, command)
        case MissInExport():
            return miss_in_export(state, said, command)
        case VoidEnrollment():
            return void_enrollment(state, said, command)
        case AssignClass():
            return assign_class(state, said, command)
        case UnassignClass():
            return unassign_class(state, said, command)
    raise AssertionError(f"no rule for {type(command).__name__}")


def enroll_person(state: State, said: Said, command: EnrollPerson, policy: Policy) -> list[Event]:
    key, heard = command.enrollment_id, hear(said, command)
    known = state.enrollments.get(key)
    _refuse_too_many(state, key)
    basis = basis_of(command.entered_at, command.received_at, policy)
    basis = min(basis, known.basis) if known else basis
    baseline = command.baseline or (known is not None and known.baseline)

    first = not state.enrollments
    enrolled = is_enrolled(heard, state.voided)
    brings_back = enrolled and not state.enrolled
    counts = key not in state.voided and known != Enrollment(basis, baseline)
    if not (first or brings_back or counts):
        return _differences(state, said, command)

    current = first or (enrolled and command.mark == _newest(heard, state.voided))
    identity, placement = _identity(state, said, command), _placement(state, said, command)
    tells = StaffEmployed if command.kind == "staff" else StudentEnrolled
    told = tells(
        enrollment_id=key,
        identity=identity,
        **placement,
        entered_at=command.entered_at,
        received_at=command.received_at,
        basis=basis,
        baseline=baseline,
        current=current,
    )
    events: list[Event] = [told]
    if not current:
        events += _differences(state, said, command)
    if key in state.voided:
        events.append(EnrollmentVoided(enrollment_id=key))
    if first and not enrolled:
        events += _leaving(heard, command.kind)
    if first:
        events += _classes_changed(command.kind, list(state.classes.values()))
    return events


def correct_person(state: State, said: Said, command: CorrectPerson) -> list[Event]:
    return _differences(state, said, command)


def withdraw_person(state: State, said: Said, command: WithdrawPerson) -> list[Event]:
    heard = hear(said, command)
    told = _departure(command.kind, command.withdrawn_at, command.reason)
    older = said.withdrawal is not None and command.mark <= said.withdrawal.mark
    if older or is_enrolled(heard, state.voided) or (state.withdrawn == told and not state.enrolled):
        return []
    return [told]


def miss_in_export(state: State, said: Said, command: MissInExport) -> list[Event]:
    """Told of the enrolled only: every export misses again whoever left long ago."""
    heard = hear(said, command)
    if heard is said or not state.enrolled or is_enrolled(heard, state.voided):
        return []
    return [_departure(state.kind, command.mark.time, command.reason)]


def void_enrollment(state: State, said: Said, command: VoidEnrollment) -> list[Event]:
    if command.enrollment_id == EXPORT:
        return _void_export(state, said, command)
    if command.enrollment_id in state.voided:
        return []
    _refuse_too_many(state, command.enrollment_id)
    voided = EnrollmentVoided(enrollment_id=command.enrollment_id)
    if state.enrolled and not is_enrolled(said, state.voided | {command.enrollment_id}):
        return [voided, *_leaving(said, state.kind)]  # it was a return that never was
    return [voided]


def _void_export(state: State, said: Said, command: VoidEnrollment) -> list[Event]:
    heard = hear(said, command)
    if state.enrolled and not is_enrolled(heard, state.voided):
        return [_departure(state.kind, command.mark.time, VOIDED)]
    return []


def assign_class(state: State, said: Said, command: AssignClass) -> list[Event]:
    key = command.assignment.class_id
    assignment = msgspec.structs.replace(command.assignment, exported=key in said.exported.classes)
    if not _newer(command.mark, _class_mark(said, key)) or state.classes.get(key) == assignment:
        return []
    _refuse_too_many_classes(state.classes.keys() | {key})
    return _classes_changed(command.kind, [assignment])


def unassign_class(state: State, said: Said, command: UnassignClass) -> list[Event]:
    key = command.class_id
    if state.kind is None or key not in state.classes or not _newer(command.mark, _class_mark(said, key)):
        return []
    return [ClassesChanged(kind=state.kind, unassigned=[key])]


def export_classes(state: State, said: Said, command: CorrectPerson) -> list[Event]:
    """What an export's word on a person's classes changes: those that it names, and those that exports have named and
    it does not. Also an old word is heard: it makes a class one that the newest export has taken away."""
    told = command.classes
    if told is None:
        return []
    heard, named = hear(said, command).exported, {a.class_id: a for a in told.assigned}
    assigned, unassigned = [], []
    for key in dict.fromkeys((*sorted(named), *told.unassigned, *(heard.classes if told.whole else ()))):
        words = [(_class_mark(said, key), state.classes.get(key)), (command.mark, named.get(key))]
        if key in heard.classes and key not in said.exported.classes:
            words.append((said.exported.mark, None))
        marks = [(mark, word) for mark, word in words if mark is not None]
        word = max(marks, key=lambda of: of[0])[1]
        if word is not None:
            word = msgspec.structs.replace(word, exported=word.exported or key in heard.classes)
        if word is not None and word != state.classes.get(key):
            assigned.append(word)
        elif word is None and key in state.classes:
            unassigned.append(key)
    _refuse_too_many_classes((state.classes.keys() | {a.class_id for a in assigned}) - set(unassigned))
    return _classes_changed(command.kind, assigned, unassigned)


def reassigned(
    classes: Mapping[str, Assignment], assigned: Iterable[Assignment], unassigned: Iterable[str]
) -> dict[str, Assignment]:
    """A person's classes, by their ids, once some of them are told to have changed."""
    changed = {**classes, **{a.class_id: a for a in assigned}}
    for key in unassigned:
        changed.pop(key, None)
    return changed


def holds(assignment: Assignment, day: date) -> bool:
    """Whether an assignment is in force on one of the district's days."""
    begins_on, ends_on = assignment.begins_on, assignment.ends_on
    return (begins_on is None or begins_on <= day) and (ends_on is None or day <= ends_on)


def taught(teacher: Iterable[Assignment], pupil: Iterable[Assignment], day: date) -> list[str]:
    """The classes, by id, that one person teaches and the other is in on that day; with none, the one is no teacher of
    the other, and has no business with them."""
    teaches = {a.class_id for a in teacher if a.role == "teacher" and holds(a, day)}
    return sorted(
        a.class_id for a in pupil if a.role == "student" and a.class_id in teaches and holds(a, day)
    )


def basis_of(entered_at: datetime | None, received_at: datetime, policy: Policy) -> datetime:
    """From when an enrollment counts. An entry in the future, or too far back to be one: as received."""
    if entered_at is None or not received_at - policy.max_backdate <= entered_at <= received_at:
        return received_at
    return entered_at


def needs_second_person(affected: int, enrolled: int, policy: Policy) -> bool:
    """Whether an import withdraws, or renumbers, so many of the enrolled that somebody else looks at it first."""
    rule = policy.imports
    return affected > rule.approval_above or affected * 100 > enrolled * rule.approval_above_percent


def approve_import(author: str, approver: str, *, human: bool) -> None:
    """Somebody lets an import go on that waits: a person, and another one than who asked for it."""
    if not human:
        raise Rejected("person_required")
    if approver == author:
        raise Rejected("approver_is_author")


# --- What they are made of


def _newer(mark: Mark, than: Mark | None) -> bool:
    return than is None or mark > than


def _counts(said: Said, command: CorrectPerson, name: str) -> bool:
    return getattr(command, name) is not None and _newer(command.mark, said.fields.get(name))


def newest_enrollment(said: Said, voided: frozenset[str]) -> str | None:
    """The enrollment that was said last, of those that count."""
    marks = {key: mark for key, mark in said.enrollments.items() if key not in voided}
    if EXPORT in marks and not _newer(marks[EXPORT], said.export_voided):
        del marks[EXPORT]
    return max(marks, key=marks.__getitem__, default=None)


def _newest(said: Said, voided: frozenset[str]) -> Mark | None:
    key = newest_enrollment(said, voided)
    return None if key is None else said.enrollments[key]


def is_enrolled(said: Said, voided: frozenset[str]) -> bool:
    """Whether an enrollment that counts was said after the last withdrawal."""
    newest = _newest(said, voided)
    return newest is not None and (said.withdrawal is None or newest > said.withdrawal.mark)


def _leaving(said: Said, kind: Kind | None) -> list[Event]:
    """What is told of somebody who is not enrolled any more, or from the beginning, though enrollments stand."""
    if said.withdrawal is not None:
        return [_departure(kind, said.withdrawal.at, said.withdrawal.reason)]
    if said.export_voided is not None:
        return [_departure(kind, said.export_voided.time, VOIDED)]
    return []


def _withdraws(said: Said, command: MissInExport) -> bool:
    if command.reason == ABSENT and EXPORT not in said.enrollments:
        return False
    return said.withdrawal is None or command.mark > said.withdrawal.mark


def _identity(state: State, said: Said, command: CorrectPerson) -> Identity:
    """Number and names once this was said; what it leaves out, or says too late, stays."""
    told = {name: getattr(command, name) for name in IDENTITY if _counts(said, command, name)}
    if state.identity is not None:
        return msgspec.structs.replace(state.identity, **told)
    if len(told) < len(IDENTITY):
        raise Rejected("person_unknown", source_id=command.source_id)
    return Identity(source_id=command.source_id, **told)


def _placement(state: State, said: Said, command: CorrectPerson) -> dict[str, str | None]:
    names = PLACEMENT[command.kind]
    return {name: getattr(command if _counts(said, command, name) else state, name) for name in names}


def _departure(kind: Kind | None, at: datetime, reason: str | None) -> StudentWithdrawn | StaffLeft:
    if kind == "staff":
        return StaffLeft(left_at=at, reason=reason)
    return StudentWithdrawn(withdrawn_at=at, reason=reason)


def _differences(state: State, said: Said, command: CorrectPerson) -> list[Event]:
    before, after = state.identity, _identity(state, said, command)
    placement = _placement(state, said, command)
    events: list[Event] = []
    if before is None or (before.last_name, before.first_name) != (after.last_name, after.first_name):
        events.append(NameCorrected(identity=after, kind=command.kind))
    if before is None or before.number != after.number:
        events.append(NumberChanged(identity=after, kind=command.kind))
    if placement != {name: getattr(state, name) for name in placement}:
        events.append(PlacementChanged(**placement))
    return events


def _class_of(command: AssignClass | UnassignClass) -> str:
    return command.assignment.class_id if isinstance(command, AssignClass) else command.class_id


def _class_mark(said: Said, key: str) -> Mark | None:
    """The newest statement about a class: of it alone, or of all classes of the person."""
    alone, whole = said.classes.get(key), said.exported.mark if key in said.exported.classes else None
    return alone if whole is None or (alone is not None and alone > whole) else whole


def _classes_changed(
    kind: Kind, assigned: Sequence[Assignment], unassigned: Sequence[str] = ()
) -> list[Event]:
    parts = range(0, max(len(assigned), len(unassigned)), CLASSES_TOLD)
    told = [(list(assigned[n : n + CLASSES_TOLD]), list(unassigned[n : n + CLASSES_TOLD])) for n in parts]
    return [ClassesChanged(kind=kind, assigned=some, unassigned=others) for some, others in told]


def _refuse_too_many_classes(classes: Collection[str]) -> None:
    if len(classes) > MAX_CLASSES:
        raise Rejected("classes_too_many", limit=MAX_CLASSES)


def _refuse_too_many(state: State, enrollment_id: str) -> None:
    """A limit that only a source can reach that invents a new enrollment_id whenever it repeats itself."""
    if len(state.enrollments.keys() | state.voided | {enrollment_id}) > MAX_ENROLLMENTS:
        raise Rejected("enrollments_too_many", limit=MAX_ENROLLMENTS)
