"""The rules of credentials: given what happened, when this is asked, then that is recorded or refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.auth import decider, pauses
from services.auth.decider import Answer, Claim, State
from services.auth.events import (
    CredentialActivated,
    CredentialDiscarded,
    CredentialLost,
    CredentialRevoked,
    CredentialsSet,
    CredentialSuspended,
    LockoutLifted,
    PasswordChanged,
    RecoveryCodeIssued,
    RecoveryRested,
    RoleGranted,
    RoleRevoked,
)
from services.auth.pauses import Failures
from shared.errors import Rejected
from shared.messages import Cause, Event, Recorded
from shared.policies import load_policy
from shared.policy import Kind, Policy, Role

POLICY = load_policy(Path(__file__).parents[2] / "policies" / "ccps.toml")
T0 = datetime(2026, 8, 3, 13, 0, tzinfo=UTC)
PERSON, CLAIM, OTHER_CLAIM, ONE, TWO, THREE = (UUID(int=n) for n in range(1, 7))
SEALED = CredentialsSet(claim_id=CLAIM, credential_id=ONE, generation=0)
LIVE = CredentialActivated(claim_id=CLAIM, credential_id=ONE, generation=0)
SUSPENDED = CredentialSuspended(cause="desk", generation=0, sessions_ended=0)
CHANGED = PasswordChanged(
    credential_id=TWO, previous_credential_id=ONE, generation=0, cause="change", actor="self"
)


def reset(generation: int = 1, sessions: int = 0, credential: UUID | None = ONE) -> CredentialRevoked:
    return CredentialRevoked(
        generation=generation, credential_id=credential, sessions_ended=sessions, cause="reset"
    )


def ticket(generation: int = 0, claim: UUID = CLAIM, minutes: int = 30) -> Claim:
    return Claim(claim, PERSON, generation, "S0123456", T0 + timedelta(minutes=minutes))


@dataclass
class History:
    """Events one minute apart, beginning at T0."""

    events: list[Event]
    recorded: list[Recorded[Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for n, event in enumerate(self.events):
            moment = T0 + timedelta(minutes=n)
            self.recorded.append(
                Recorded(
                    uuid4(), type(event).__name__, 1, "auth", "ccps", PERSON, n + 1, moment, event, Cause("c")
                )
            )

    @property
    def state(self) -> State:
        return reduce(decider.evolve, self.recorded, decider.initial)


def after(*events: Event) -> State:
    return History(list(events)).state


def refused(reason: str) -> pytest.RaisesExc[Rejected]:
    return pytest.raises(Rejected, match=f"^{reason}$")


class TestSealing:
    def test_the_last_step_records_which_credential_waits_for_which_claim(self) -> None:
        assert decider.seal(after(), ticket(), ONE, T0) == [SEALED]

    def test_a_sealed_claim_is_not_sealed_again(self) -> None:
        with refused("claim_sealed"):
            decider.seal(after(SEALED), ticket(), TWO, T0)

    def test_a_completed_claim_takes_no_more_passwords(self) -> None:
        with refused("claim_sealed"):
            decider.stage_password(after(SEALED, LIVE), ticket(), 1, POLICY, T0)

    def test_who_lost_against_another_browser_is_told_at_once(self) -> None:
        with refused("claim_rejected") as caught:
            decider.seal(after(SEALED, LIVE), ticket(claim=OTHER_CLAIM), TWO, T0)
        assert caught.value.details == {"cause": "account_claimed"}

    def test_a_rejected_claim_says_why(self) -> None:
        discarded = CredentialDiscarded(
            claim_id=CLAIM, credential_id=ONE, generation=0, reason="claim_expired"
        )
        with refused("claim_rejected") as caught:
            decider.seal(after(SEALED, discarded), ticket(), TWO, T0)
        assert caught.value.details == {"cause": "claim_expired"}

    def test_a_ticket_of_an_older_generation_is_void(self) -> None:
        with refused("claim_superseded"):
            decider.seal(after(reset(1)), ticket(generation=0), ONE, T0)

    def test_a_ticket_of_a_newer_generation_is_ahead_of_its_own_reset_and_good(self) -> None:
        assert decider.seal(after(SEALED, LIVE), ticket(generation=1, claim=OTHER_CLAIM), TWO, T0)

    @pytest.mark.parametrize(("minutes", "open_"), [(29.99, True), (30, False), (31, False)])
    def test_a_ticket_ends_at_its_moment(self, minutes: float, open_: bool) -> None:
        now = T0 + timedelta(minutes=minutes)
        if open_:
            assert decider.seal(after(), ticket(), ONE, now)
        else:
            with refused("claim_expired"):
                decider.seal(after(), ticket(), ONE, now)

    @pytest.mark.parametrize(("taken", "open_"), [(0, True), (9, True), (10, False)])
    def test_a_claim_takes_ten_passwords(self, taken: int, open_: bool) -> None:
        if open_:
            decider.stage_password(after(), ticket(), taken, POLICY, T0)
        else:
            with refused("claim_passwords_used_up"):
                decider.stage_password(after(), ticket(), taken, POLICY, T0)


class TestVerdicts:
    def test_an_accepted_claim_activates_what_was_sealed(self) -> None:
        assert decider.activate(after(SEALED), CLAIM, ONE, 0, kept=True) == [LIVE]

    def test_an_accepted_claim_without_its_vault_row_is_reported_lost(self) -> None:
        lost = [CredentialLost(claim_id=CLAIM, credential_id=ONE, generation=0)]
        assert decider.activate(after(SEALED), CLAIM, ONE, 0, kept=False) == lost
        assert decider.activate(after(SEALED, *lost), CLAIM, ONE, 0, kept=False) == []

    def test_an_accepted_claim_of_which_nothing_is_known_is_reported_lost(self) -> None:
        assert isinstance(decider.activate(after(), CLAIM, ONE, 0, kept=True)[0], CredentialLost)

    def test_told_twice_it_activates_once(self) -> None:
        assert decider.activate(after(SEALED, LIVE), CLAIM, ONE, 0, kept=True) == []
        assert decider.activate(after(SEALED, LIVE, CHANGED), CLAIM, ONE, 0, kept=True) == []

    def test_a_claim_that_a_reset_overtook_stays_dead(self) -> None:
        assert decider.activate(after(SEALED, reset(1)), CLAIM, ONE, 0, kept=True) == []

    def test_a_rejected_claim_is_discarded_once(self) -> None:
        discarded = decider.discard(after(SEALED), CLAIM, ONE, "account_claimed")
        assert discarded == [
            CredentialDiscarded(claim_id=CLAIM, credential_id=ONE, generation=0, reason="account_claimed")
        ]
        assert decider.discard(after(SEALED, *discarded), CLAIM, ONE, "account_claimed") == []

    def test_a_claim_that_is_live_cannot_be_rejected_any_more(self) -> None:
        assert decider.discard(after(SEALED, LIVE), CLAIM, ONE, "account_claimed") == []

    @pytest.mark.parametrize(
        ("events", "expected"),
        [
            ([], "open"),
            ([SEALED], "sealed"),
            ([SEALED, LIVE], "completed"),
            ([SEALED, LIVE, CHANGED], "completed"),
            ([SEALED, LIVE, reset(1)], "rejected"),
            ([SEALED, reset(1)], "rejected"),
            ([SEALED, CredentialLost(claim_id=CLAIM, credential_id=ONE, generation=0)], "rejected"),
        ],
    )
    def test_where_a_claim_stands(self, events: list[Event], expected: str) -> None:
        assert decider.claim_state(after(*events), CLAIM) == expected


class TestReset:
    def test_it_revokes_the_live_credential(self) -> None:
        assert decider.revoke(after(SEALED, LIVE), 1, 2) == [reset(1, 2, ONE)]

    def test_it_is_answered_also_when_there_was_nothing(self) -> None:
        assert decider.revoke(after(), 1, 0) == [reset(1, 0, None)]

    def test_it_is_answered_once(self) -> None:
        assert decider.revoke(after(SEALED, LIVE, reset(1)), 1, 0) == []

    def test_a_quick_second_claim_is_not_wiped_by_its_own_late_reset(self) -> None:
        second = CredentialsSet(claim_id=OTHER_CLAIM, credential_id=TWO, generation=1)
        state = after(SEALED, LIVE, second, reset(1))
        assert state.live is None
        assert decider.activate(state, OTHER_CLAIM, TWO, 1, kept=True) == [
            CredentialActivated(claim_id=OTHER_CLAIM, credential_id=TWO, generation=1)
        ]

    def test_what_was_sealed_before_it_is_gone(self) -> None:
        assert after(SEALED, reset(1)).sealed == ()


class TestPasswordChange:
    def test_who_showed_the_live_credential_may_change_it(self) -> None:
        assert decider.change_password(after(SEALED, LIVE), ONE, TWO, "change", "self") == [CHANGED]

    def test_who_showed_one_that_was_replaced_meanwhile_may_not(self) -> None:
        with refused("credential_replaced"):
            decider.change_password(after(SEALED, LIVE, CHANGED), ONE, THREE, "change", "self")

    def test_nobody_changes_what_a_reset_took_away(self) -> None:
        with refused("credential_replaced"):
            decider.change_password(after(SEALED, LIVE, reset(1)), ONE, TWO, "recovery", "self")


class TestHistory:
    HISTORY = (SEALED, LIVE, CHANGED, reset(1))  # ONE was in use until minute 2, TWO until minute 3

    def test_a_password_is_remembered_for_90_days_after_its_last_use_across_a_reset(self) -> None:
        ended = T0 + timedelta(minutes=2)
        state = after(*self.HISTORY)
        assert decider.remembered(state, POLICY, ended + timedelta(days=90, seconds=-1)) == [TWO, ONE]
        assert decider.remembered(state, POLICY, ended + timedelta(days=90)) == [TWO]
        assert decider.remembered(state, POLICY, ended + timedelta(days=91)) == []

    def test_the_present_one_is_remembered_however_old_it_is(self) -> None:
        assert decider.remembered(after(SEALED, LIVE), POLICY, T0 + timedelta(days=999)) == [ONE]

    def test_what_was_only_sealed_was_never_used(self) -> None:
        assert decider.remembered(after(SEALED, reset(1)), POLICY, T0) == []

    def test_a_district_may_remember_for_ever_and_fewer(self) -> None:
        forever = replace(POLICY, password=replace(POLICY.password, history_days=0))
        assert decider.remembered(after(*self.HISTORY), forever, T0 + timedelta(days=9999)) == [TWO, ONE]
        last = replace(POLICY, password=replace(POLICY.password, history_count=1))
        assert decider.remembered(after(*self.HISTORY), last, T0) == [TWO]
        assert decider.remembered(after(SEALED, LIVE, CHANGED), last, T0) == [TWO]


GRANTED = RoleGranted(role="desk", generation=0, actor="ops", roster_version=3)


def grant(state: State, role: Role = "desk", kind: Kind = "staff", **differing: bool) -> list[Event]:
    usual = {"employed": True, "own": False}
    return decider.grant_role(
        state, role, kind, **(usual | differing), roster_version=3, actor="ops", desk_ticket=None
    )


class TestRoles:
    def test_given_to_staff_who_have_claimed_and_once(self) -> None:
        assert grant(after(SEALED, LIVE)) == [GRANTED]
        assert grant(after(SEALED, LIVE, GRANTED)) == []

    @pytest.mark.parametrize(
        ("past", "differing", "reason"),
        [
            ((SEALED, LIVE), {"kind": "student"}, "not_staff"),
            ((SEALED, LIVE), {"own": True}, "role_own"),
            ((SEALED, LIVE), {"employed": False}, "has_left"),
            ((SEALED,), {}, "not_claimed"),
            ((SEALED, LIVE, SUSPENDED), {}, "account_suspended"),
        ],
    )
    def test_to_nobody_else(self, past: Sequence[Event], differing: dict[str, Any], reason: str) -> None:
        with refused(reason):
            grant(after(*past), **differing)

    def test_taken_back_once(self) -> None:
        revoked = RoleRevoked(role="desk", generation=0, cause="operator", actor="ops")
        state = after(SEALED, LIVE, GRANTED)
        assert decider.revoke_role(state, "desk", actor="ops", desk_ticket=None) == [revoked]
        assert decider.revoke_role(state, "operator", actor="ops", desk_ticket=None) == []
        assert after(SEALED, LIVE, GRANTED, revoked).roles == {}

    def test_reset_suspension_and_leaving_end_them(self) -> None:
        state = after(SEALED, LIVE, GRANTED)
        assert decider.revoke(state, 1, 0)[1:] == [RoleRevoked(role="desk", generation=1, cause="reset")]
        assert decider.suspend(state, "desk", 0, 0)[1:] == [
            RoleRevoked(role="desk", generation=0, cause="suspended")
        ]
        assert decider.leave(state, 4) == [RoleRevoked(role="desk", generation=0, cause="left")]
        assert decider.leave(state, 3) == []

    def test_a_role_may_do_what_those_below_it_may(self) -> None:
        desk, operator = after(SEALED, LIVE, GRANTED), after(SEALED, LIVE, replace(GRANTED, role="operator"))
        assert decider.may_act(desk, [], employed=True) == ["desk"]
        assert decider.may_act(operator, [], employed=True) == ["desk", "operator"]
        assert decider.may_act(operator, ["desk"], employed=True) == ["desk"]
        with refused("invalid_scope"):
            decider.may_act(desk, ["operator"], employed=True)

    @pytest.mark.parametrize("past", [(), (SEALED, LIVE)])
    def test_who_has_none_or_has_left_may_do_nothing(self, past: Sequence[Event]) -> None:
        with refused("role_missing"):
            decider.may_act(after(*past), [], employed=True)
        with refused("role_missing"):
            decider.may_act(after(SEALED, LIVE, GRANTED), [], employed=False)

    def test_who_holds_one_is_changed_by_a_role_above(self) -> None:
        desk = after(SEALED, LIVE, GRANTED)
        decider.refuse_not_below(after(SEALED, LIVE), by=1)
        decider.refuse_not_below(desk, by=2)
        for state, by in ((desk, 1), (after(SEALED, LIVE, replace(GRANTED, role="operator")), 2)):
            with refused("role_not_below"):
                decider.refuse_not_below(state, by)


class TestRecoveryRules:
    def test_a_code_is_for_an_account_that_exists(self) -> None:
        until = T0 + timedelta(minutes=10)
        for to_claim in (False, True):
            assert decider.issue_code(
                after(SEALED, LIVE), "desk-1", "T-7", until, to_claim=to_claim, by=1
            ) == [RecoveryCodeIssued(generation=0, actor="desk-1", desk_ticket="T-7", expires_at=until)]
        with refused("not_claimed"):
            decider.issue_code(after(SEALED), "desk-1", None, until, to_claim=False, by=1)

    def test_or_for_claiming_one_where_the_district_asks_for_a_code(self) -> None:
        until = T0 + timedelta(minutes=10)
        for past, generation in ((after(), 0), (after(SEALED, LIVE, reset(1)), 1)):
            assert decider.issue_code(past, "desk-1", None, until, to_claim=True, by=1) == [
                RecoveryCodeIssued(generation=generation, actor="desk-1", expires_at=until)
            ]

    def test_questions_rest_once_a_day(self) -> None:
        until = T0 + timedelta(hours=15)
        rested = decider.rest(after(SEALED, LIVE), until)
        assert rested == [RecoveryRested(generation=0, until=until)]
        assert decider.rest(after(SEALED, LIVE, *rested), until) == []
        assert decider.rest(after(SEALED, LIVE, *rested), until + timedelta(days=1))

    def test_a_lockout_is_lifted_when_there_is_one(self) -> None:
        lifted = [LockoutLifted(generation=0, actor="desk-1")]
        assert decider.lift_lockout(after(SEALED, LIVE), "desk-1", None, locked=True) == lifted
        assert decider.lift_lockout(after(SEALED, LIVE), "desk-1", None, locked=False) == []
        rested = RecoveryRested(generation=0, until=T0)
        assert decider.lift_lockout(after(SEALED, LIVE, rested), "desk-1", None, locked=False) == lifted

    def test_the_day_is_the_districts(self) -> None:
        late = datetime(2026, 8, 4, 3, 59, tzinfo=UTC)  # 23:59 on the third in New York
        assert decider.day_of(POLICY, late) == ("2026-08-03", datetime(2026, 8, 4, 4, 0, tzinfo=UTC))
        assert decider.day_of(POLICY, late + timedelta(minutes=1))[0] == "2026-08-04"

    def test_the_day_on_which_the_clocks_change_ends_at_midnight_too(self) -> None:
        _, tomorrow = decider.day_of(POLICY, datetime(2026, 11, 1, 12, 0, tzinfo=UTC))
        assert tomorrow == datetime(2026, 11, 2, 5, 0, tzinfo=UTC)


class TestPasswords:
    OWN = ("Johnson", "Mary-Ann", "0123456", "S0123456")

    def accept(self, typed: str, policy: Policy = POLICY) -> str:
        return decider.accept_password(typed, self.OWN, frozenset({"password1", "iloveyou"}), policy)

    @pytest.mark.parametrize(
        "typed", ["zwölf Kühe", "aaaaaaab", "🐴🔋📎🔩🐴🔋📎🔩", " with blanks ", "x" * 256]
    )
    def test_any_character_and_no_composition_rule(self, typed: str) -> None:
        assert self.accept(typed) == typed

    @pytest.mark.parametrize(
        ("typed", "reason"),
        [
            ("seven77", "password_short"),
            ("e\u0301" * 7, "password_short"),  # fourteen code points, seven characters once composed
            ("x" * 257, "password_long"),
            ("password1", "password_common"),
            ("PassWord1", "password_common"),
            (" iloveyou ", "password_common"),
            ("s0123456", "password_common"),
            ("Johnson123", "password_common"),
            ("maryannjohnson", "password_common"),
            ("Mary-Ann", "password_common"),
        ],
    )
    def test_refused(self, typed: str, reason: str) -> None:
        with refused(reason):
            self.accept(typed)

    def test_a_name_within_a_longer_password_does_no_harm(self) -> None:
        assert self.accept("johnson keeps bees")

    def test_it_is_hashed_in_one_form_whatever_the_keyboard_composed(self) -> None:
        assert self.accept("cafe\u0301s 12") == self.accept("caf\u00e9s 12")

    def test_the_bounds_are_the_districts(self) -> None:
        with refused("password_short") as caught:
            self.accept("elevenchars", replace(POLICY, password=replace(POLICY.password, min_length=12)))
        assert caught.value.details == {"min_length": 12}


def answers(*pairs: tuple[str, str]) -> list[Answer]:
    return [Answer(q, a) for q, a in pairs]


MAY = answers(("birth_month", "May"), ("birth_year", "2011"), ("favorite_season", "fall"))


class TestAnswers:
    def test_may_2011_and_fall_are_answers(self) -> None:
        assert (
            decider.accept_answers(MAY, POLICY, T0) == "birth_month=5\nbirth_year=2011\nfavorite_season=fall"
        )

    def test_order_case_accents_and_blanks_do_not_count(self) -> None:
        typed = answers(
            ("middle_name", "  josé   MARÍA "), ("birth_month", "mayo"), ("school_mascot", "Bees")
        )
        again = answers(("school_mascot", "bees"), ("middle_name", "Jose Maria"), ("birth_month", "5"))
        assert decider.accept_answers(typed, POLICY, T0) == decider.read_answers(again, 3, POLICY)

    @pytest.mark.parametrize(
        ("given_", "reason"),
        [
            (MAY[:2], "answers_wrong_count"),
            ([*MAY, Answer("middle_name", "Ann")], "answers_wrong_count"),
            ([MAY[0], MAY[0], MAY[1]], "answers_repeated"),
            ([*MAY[:2], Answer("shoe_size", "38")], "answer_invalid"),
            ([*MAY[:2], Answer("favorite_season", "monsoon")], "answer_invalid"),
            ([*MAY[:2], Answer("middle_name", "A")], "answer_invalid"),
        ],
    )
    def test_refused(self, given_: Sequence[Answer], reason: str) -> None:
        with refused(reason):
            decider.accept_answers(given_, POLICY, T0)

    def test_in_a_recovery_as_many_must_be_answered_as_were_asked(self) -> None:
        with refused("answers_wrong_count"):
            decider.read_answers(MAY[:2], 3, POLICY)

    def test_in_a_recovery_answers_to_other_questions_are_wrong_ones(self) -> None:
        other = [Answer("shoe_size", "38"), *MAY[1:]]
        assert decider.read_answers(other, 3, POLICY) != decider.accept_answers(MAY, POLICY, T0)

    def test_in_a_recovery_what_nobody_can_have_answered_is_pointed_out(self) -> None:
        with refused("answer_invalid"):
            decider.read_answers([Answer("birth_month", "Janember"), *MAY[1:]], 3, POLICY)

    @given(st.permutations(MAY))
    def test_any_order_is_the_same_secret(self, shuffled: list[Answer]) -> None:
        assert decider.accept_answers(shuffled, POLICY, T0) == decider.accept_answers(MAY, POLICY, T0)


class TestPauses:
    def left(self, count: int, seconds: float = 0, known: bool = False) -> float:
        failures = Failures(count, T0)
        return pauses.pause_left(
            failures, POLICY, T0 + timedelta(seconds=seconds), known=known
        ).total_seconds()

    def test_it_grows_to_sixty_seconds_and_for_a_known_device_no_further(self) -> None:
        grows = [self.left(n) for n in (0, 3, 4, 5, 6, 7, 8, 9, 50)]
        assert grows == [0, 0, 2, 4, 8, 16, 32, 60, 60]
        assert (self.left(51), self.left(10_000, known=True)) == (600, 60)

    def test_it_ends_by_itself(self) -> None:
        assert self.left(4, 1.5) == 0.5
        assert self.left(4, 2) == 0
        assert self.left(4, 3600) == 0

    def test_who_never_failed_waits_for_nothing(self) -> None:
        assert pauses.pause_left(None, POLICY, T0) == timedelta(0)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What can happen to one person: claims sealed, judged, repeated, changed and reset, in any order."""
    state, events, generation = decider.initial, [], 0
    for step in draw(
        st.lists(st.sampled_from(["seal", "activate", "lose", "discard", "change", "reset"]), max_size=25)
    ):
        claim, credential = uuid4(), uuid4()
        sealed = draw(st.sampled_from(state.sealed)) if state.sealed else None
        new: list[Event] = []
        if step == "seal":
            ahead = draw(st.integers(0, 1))
            try:
                new = decider.seal(state, ticket(generation + ahead, claim), credential, T0)
            except Rejected:
                new = []
        elif step in ("activate", "lose") and sealed:
            new = decider.activate(
                state, sealed.claim_id, sealed.credential_id, sealed.generation, kept=step == "activate"
            )
        elif step == "discard" and sealed:
            new = decider.discard(state, sealed.claim_id, sealed.credential_id, "account_claimed")
        elif step == "change" and state.live:
            new = decider.change_password(state, state.live.credential_id, credential, "change", "self")
        elif step == "reset":
            generation += 1
            new = decider.revoke(state, generation, 0)
        events += new
        state = after(*events)
    return events


class TestProperties:
    @settings(max_examples=150, deadline=None)
    @given(histories())
    def test_nothing_below_the_generation_is_ever_usable(self, events: list[Event]) -> None:
        state = after(*events)
        if state.live:
            assert state.live.generation >= state.generation
        assert all(c.generation >= state.generation for c in state.sealed)

    @settings(max_examples=150, deadline=None)
    @given(histories())
    def test_every_answer_of_claims_may_be_heard_again(self, events: list[Event]) -> None:
        state = after(*events)
        for event in events:
            match event:
                case CredentialActivated(claim_id=claim, credential_id=credential, generation=generation):
                    assert decider.activate(state, claim, credential, generation, kept=True) == []
                case CredentialDiscarded(claim_id=claim, credential_id=credential, reason=reason):
                    assert decider.discard(state, claim, credential, reason) == []
                case CredentialRevoked(generation=generation):
                    assert decider.revoke(state, generation, 0) == []

    @settings(max_examples=150, deadline=None)
    @given(histories())
    def test_a_credential_is_live_sealed_or_used_and_never_two_of_these(self, events: list[Event]) -> None:
        state = after(*events)
        names = [c.credential_id for c in state.sealed] + [u.credential_id for u in state.used]
        names += [state.live.credential_id] if state.live else []
        assert len(names) == len(set(names))
