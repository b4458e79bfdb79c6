"""The rules of claims: given what happened, when somebody asks, then this is recorded or refused."""

from datetime import timedelta
from typing import Any

import pytest

from services.claims import decider
from services.claims.decider import Account, Pupil, Wanted
from services.claims.events import (
    AccountClaimed,
    AccountReset,
    AccountRestored,
    ClaimOpened,
    ClaimRejected,
    WaiverRevoked,
)
from shared.errors import Rejected
from shared.messages import Event
from shared.policy import Policy
from tests.claims.given import (
    CCPS,
    HOUR,
    MINUTE,
    NOON,
    PERSON,
    SECOND,
    account,
    claimed,
    opened,
    policy,
    pupil,
    recorded,
    some,
    suspended,
    waived,
    was_reset,
)

UNIFORM = policy(claim_refusals="uniform")


def identify(
    *found: Pupil, last: str = "O'Neil", first: str = "Mary-Ann", number: str = "0123456", by: Policy = CCPS
) -> Pupil:
    return decider.identify(decider.read_claim(last, first, number, by), found, by)


def refused(*found: Pupil, **typed: Any) -> dict[str, Any]:
    """The secret of a uniform refusal; what everybody sees of it is always the same."""
    with pytest.raises(Rejected) as caught:
        identify(*found, **typed)
    assert (caught.value.reason, caught.value.details) == ("claim_refused", {})
    return caught.value.secret


def seal(
    state: Account, of: Pupil | None = None, at: Any = NOON, *, unknown: bool = False, **named: Any
) -> Event:
    """What is decided when auth has sealed a credential."""
    asked = {"claim_id": some("claim"), "credential_id": some("credential"), "generation": 0} | named
    who = None if unknown else of or pupil()
    events = decider.decide_claim(state, who, CCPS, sealed_at=at, **asked)
    assert len(events) == 1
    return events[0]


def reason(event: Event) -> str:
    assert isinstance(event, ClaimRejected)
    return event.reason


class TestWhatWasTyped:
    @pytest.mark.parametrize(
        ("number", "hint"),
        [
            ("O123456", "number_letter_o"),
            ("o12345", "number_letter_o"),
            ("123456", "number_length"),
            ("01234567", "number_length"),
            ("S0123456", "number_leading_s"),
            ("s123456", "number_leading_s"),
            ("0123-56", "number_malformed"),
            ("", "number_malformed"),
            ("０１２３４５", "number_length"),
        ],
    )
    def test_a_number_that_is_none_gets_the_hint_that_fits(self, number: str, hint: str) -> None:
        with pytest.raises(Rejected) as caught:
            decider.read_claim("O'Neil", "Mary-Ann", number, CCPS)
        assert caught.value.reason == hint
        assert not caught.value.secret

    @pytest.mark.parametrize(
        ("last", "first", "why", "field"),
        [
            ("", "Mary-Ann", "name_missing", "last_name"),
            ("O'Neil", " \u00a0", "name_missing", "first_name"),
            ("O" * 256, "Mary-Ann", "name_long", "last_name"),
            ("O'Neil", "M" * 256, "name_long", "first_name"),
        ],
    )
    def test_a_name_left_out_or_endless_is_said_plainly(
        self, last: str, first: str, why: str, field: str
    ) -> None:
        with pytest.raises(Rejected) as caught:
            decider.read_claim(last, first, "0123456", CCPS)
        assert (caught.value.reason, caught.value.details["field"]) == (why, field)

    def test_the_longest_name_is_read(self) -> None:
        assert decider.read_claim("O" * 255, "M", " 0123456 ", CCPS).number == "0123456"


class TestWhoItIs:
    def test_the_exact_names_and_number_are_the_pupil(self) -> None:
        assert identify(pupil()) == pupil()

    @pytest.mark.parametrize("last", ["O’Neil", "  O'Neil ", "Oʼneil".replace("n", "N")])
    def test_what_a_keyboard_does_is_not_the_pupils_doing(self, last: str) -> None:
        assert identify(pupil(), last=last, first="Mary–Ann") == pupil()

    @pytest.mark.parametrize(
        ("field", "typed"), [("first", "Mary Ann"), ("first", "mary-ann"), ("last", "ONeil")]
    )
    def test_spelling_hyphens_apostrophes_and_case_count(self, field: str, typed: str) -> None:
        secret = refused(pupil(), **{field: typed})
        assert secret == {
            "reason": "names_differ",
            "person_id": PERSON,
            "differs": [f"{field}_name"],
        }

    def test_case_does_not_count_where_the_district_says_so(self) -> None:
        folded = policy(name_case="folded")
        assert identify(pupil(), first="MARY-ANN", by=folded) == pupil()
        assert refused(pupil(), first="MARY ANN", by=folded)["differs"] == ["first_name"]

    @pytest.mark.parametrize(
        ("found", "why"),
        [
            ([], "number_unknown"),
            ([pupil(enrolled=False)], "withdrawn"),
            ([pupil(), pupil(person_id=some("other"))], "number_conflict"),
            ([pupil(parked=True)], "history_parked"),
            ([pupil(), pupil(person_id=some("other"), enrolled=False, parked=True)], "history_parked"),
        ],
    )
    def test_anyone_but_exactly_one_enrolled_pupil_is_refused_alike(
        self, found: list[Pupil], why: str
    ) -> None:
        assert refused(*found)["reason"] == why

    def test_of_a_conflict_the_desk_learns_who_is_in_it(self) -> None:
        secret = refused(pupil(), pupil(person_id=some("other")))
        assert secret["persons"] == [str(PERSON), str(some("other"))]

    def test_a_withdrawn_pupil_under_the_same_number_is_in_nobodys_way(self) -> None:
        assert identify(pupil(person_id=some("other"), enrolled=False), pupil()) == pupil()


class TestTheWait:
    def test_opens_24_hours_after_the_basis_to_the_second(self) -> None:
        who = pupil(basis=NOON - 24 * HOUR)
        assert decider.open_claim(account(), who, CCPS, NOON, some("claim"))
        with pytest.raises(Rejected) as caught:
            decider.open_claim(account(), who, CCPS, NOON - timedelta(microseconds=1), some("claim"))
        assert caught.value.reason == "waiting_period"
        assert caught.value.details == {
            "eligible_at": "2026-11-22T12:00:00Z",
            "eligible_at_local": "2026-11-22T07:00:00-05:00",
            "time_zone": "America/New_York",
        }
        assert caught.value.secret["basis"] == "2026-11-21T12:00:00Z"

    def test_a_fraction_of_a_second_is_never_early_and_what_is_shown_is_when_it_opens(self) -> None:
        who = pupil(basis=NOON - 24 * HOUR - timedelta(microseconds=999_999))
        opens = decider.eligible_at(who, CCPS)
        assert opens == NOON
        assert decider.may_claim_at(NOON, account(), who, CCPS)
        assert not decider.may_claim_at(NOON - timedelta(microseconds=1), account(), who, CCPS)

    @pytest.mark.parametrize("who", [{"baseline": True}, {"kind": "staff", "number": "e12345"}])
    def test_the_baseline_and_staff_are_open_at_once(self, who: dict[str, Any]) -> None:
        entered = NOON + timedelta(milliseconds=250)
        assert decider.open_claim(account(), pupil(basis=entered, **who), CCPS, entered, some("claim"))

    def test_where_staff_waits_it_is_by_a_figure_of_its_own(self) -> None:
        waits = policy(staff_claim_delay_hours=2)
        assert decider.eligible_at(pupil(kind="staff", basis=NOON), waits) == NOON + 2 * HOUR
        assert decider.eligible_at(pupil(basis=NOON), waits) == NOON + 24 * HOUR

    def test_a_waiver_opens_at_once_and_its_end_closes_again(self) -> None:
        who = pupil(basis=NOON)
        assert decider.may_claim_at(NOON, account(waived()), who, CCPS)
        assert not decider.may_claim_at(
            NOON, account(waived(), WaiverRevoked(generation=0, actor="d")), who, CCPS
        )

    def test_a_waiver_survives_a_reset(self) -> None:
        assert decider.may_claim_at(NOON, account(waived(), was_reset()), pupil(basis=NOON), CCPS)

    def test_without_any_enrollment_there_is_nothing_to_waive(self) -> None:
        with pytest.raises(Rejected) as caught:
            decider.admit(account(waived()), pupil(basis=None), CCPS, NOON)
        assert caught.value.secret == {"reason": "enrollment_voided", "person_id": PERSON}

    def test_the_delay_is_the_districts(self) -> None:
        assert decider.eligible_at(pupil(basis=NOON), policy(claim_delay_hours=1)) == NOON + HOUR


class TestOpening:
    def test_a_claim_lives_as_long_as_its_ticket(self) -> None:
        at = NOON + timedelta(microseconds=5)
        assert decider.open_claim(account(), pupil(), CCPS, at, some("claim")) == [
            ClaimOpened(claim_id=some("claim"), generation=0, expires_at=NOON + 30 * MINUTE)
        ]

    def test_a_claimed_account_cannot_be_claimed_again(self) -> None:
        with pytest.raises(Rejected) as caught:
            decider.open_claim(account(opened(), claimed()), pupil(), CCPS, NOON, some("next"))
        assert (caught.value.reason, caught.value.details) == ("account_claimed", {"username": "S0123456"})
        assert caught.value.secret == {
            "reason": "account_claimed", "person_id": PERSON, "claimed_at": "2026-11-22T12:00:00Z",
        }  # fmt: skip

    def test_unless_it_was_reset(self) -> None:
        state = account(opened(), claimed(), was_reset())
        assert decider.open_claim(state, pupil(), CCPS, NOON, some("next")) == [
            ClaimOpened(claim_id=some("next"), generation=1, expires_at=NOON + 30 * MINUTE)
        ]

    def test_an_open_claim_that_is_asked_for_again_is_recorded_once(self) -> None:
        assert decider.open_claim(account(opened()), pupil(), CCPS, NOON, some("claim")) == []

    def test_two_browsers_may_both_begin(self) -> None:
        assert decider.open_claim(account(opened()), pupil(), CCPS, NOON, some("other"))

    def test_claims_of_one_day_are_bounded_and_the_moment_of_the_next_is_told(self) -> None:
        days = policy(claims_a_day=2)
        state = account((NOON - 23 * HOUR, opened("a")), (NOON - HOUR, opened("b")))
        with pytest.raises(Rejected) as caught:
            decider.open_claim(state, pupil(), days, NOON, some("c"))
        assert caught.value.reason == "claims_exhausted"
        assert caught.value.details["retry_at"] == "2026-11-22T13:00:00Z"
        assert caught.value.details["retry_after_s"] == 3600
        assert decider.open_claim(state, pupil(), days, NOON + HOUR, some("c"))

    def test_a_reset_gives_new_tries(self) -> None:
        state = account(opened("a"), opened("b"), was_reset())
        assert decider.open_claim(state, pupil(), policy(claims_a_day=2), NOON, some("c"))

    @pytest.mark.parametrize(
        ("state", "who"),
        [(account(opened(), claimed()), pupil()), (account(), pupil(basis=NOON))],
        ids=["claimed", "waiting"],
    )
    def test_a_uniform_district_tells_nobody_why(self, state: Account, who: Pupil) -> None:
        with pytest.raises(Rejected) as told:
            decider.open_claim(state, who, CCPS, NOON, some("next"))
        with pytest.raises(Rejected) as untold:
            decider.open_claim(state, who, UNIFORM, NOON, some("next"))
        assert (untold.value.reason, untold.value.details) == ("claim_refused", {})
        assert untold.value.secret["reason"] == told.value.reason


class TestCompleting:
    def test_a_sealed_credential_claims_the_account(self) -> None:
        assert seal(account(opened())) == AccountClaimed(
            claim_id=some("claim"), credential_id=some("credential"), generation=0, sealed_at=NOON
        )

    def test_two_browsers_one_wins_and_the_other_is_told(self) -> None:
        state = account(opened(), opened("other"), claimed())
        lost = seal(state, claim_id=some("other"), credential_id=some("others"))
        assert reason(lost) == "account_claimed"

    def test_the_time_of_sealing_counts_not_the_time_of_hearing(self) -> None:
        late = account((NOON - HOUR, opened(expires_at=NOON)))
        assert isinstance(seal(late, at=NOON), AccountClaimed)
        assert reason(seal(late, at=NOON + timedelta(microseconds=1))) == "claim_expired"

    def test_a_reset_in_between_supersedes_the_claim(self) -> None:
        assert reason(seal(account(opened(), was_reset()))) == "claim_superseded"

    def test_a_claim_that_was_never_opened_here_is_unknown(self) -> None:
        assert reason(seal(account())) == "claim_unknown"
        assert reason(seal(account(opened()), generation=1)) == "claim_unknown"

    @pytest.mark.parametrize(
        ("who", "why"),
        [
            (pupil(enrolled=False), "not_enrolled"),
            (pupil(parked=True), "not_enrolled"),
            (pupil(basis=None), "not_enrolled"),
            (pupil(namesakes=1), "number_conflict"),
            (pupil(basis=NOON - 24 * HOUR + SECOND), "waiting_period"),
        ],
        ids=["withdrawn", "parked", "voided", "conflict", "waiting"],
    )
    def test_what_changed_since_the_beginning_still_counts(self, who: Pupil, why: str) -> None:
        assert reason(seal(account(opened()), who)) == why

    def test_somebody_the_roster_does_not_know_claims_nothing(self) -> None:
        assert reason(seal(account(opened()), unknown=True)) == "not_enrolled"

    @pytest.mark.parametrize("past", [[claimed()], [claimed(), was_reset()]])
    def test_the_same_credential_is_decided_once(self, past: list[Event]) -> None:
        again = decider.decide_claim(
            account(opened(), *past), pupil(), CCPS,
            claim_id=some("claim"), credential_id=some("credential"), generation=0, sealed_at=NOON,
        )  # fmt: skip
        assert again == []

    def test_a_second_credential_for_one_claim_changes_nothing_about_it(self) -> None:
        state = account(opened(), claimed())
        second = seal(state, credential_id=some("second"))
        assert reason(second) == "account_claimed"
        after = account(opened(), claimed(), second)
        assert decider.claim_state(after, after.claims[0], NOON) == ("completed", None)

    def test_a_claim_that_was_rejected_stays_rejected(self) -> None:
        state = account(opened(), seal(account(opened()), pupil(enrolled=False)))
        assert reason(seal(state, credential_id=some("second"))) == "not_enrolled"

    def test_a_rejected_credential_is_not_decided_again(self) -> None:
        rejected = seal(account(opened()), pupil(enrolled=False))
        state = account(opened(), rejected)
        same = {"claim_id": some("claim"), "credential_id": some("credential"), "generation": 0}
        assert decider.decide_claim(state, pupil(), CCPS, sealed_at=NOON, **same) == []


class TestHowAClaimStands:
    @pytest.mark.parametrize(
        ("past", "stands"),
        [
            ([], ("open", None)),
            ([claimed()], ("completed", None)),
            ([opened("other"), claimed("other")], ("rejected", "account_claimed")),
            ([was_reset()], ("rejected", "claim_superseded")),
            ([claimed(), was_reset()], ("rejected", "claim_superseded")),
        ],
    )
    def test_it_is_open_until_something_ends_it(
        self, past: list[Event], stands: tuple[str, str | None]
    ) -> None:
        state = account(opened(), *past)
        claim = state.claim(some("claim"))
        assert claim
        assert decider.claim_state(state, claim, NOON) == stands

    def test_it_says_why_it_was_rejected(self) -> None:
        state = account(opened(), seal(account(opened()), pupil(enrolled=False)))
        assert decider.claim_state(state, state.claims[0], NOON) == ("rejected", "not_enrolled")

    def test_it_expires_after_its_last_second(self) -> None:
        state = account(opened(expires_at=NOON))
        assert decider.claim_state(state, state.claims[0], NOON) == ("open", None)
        assert decider.claim_state(state, state.claims[0], NOON + SECOND) == ("expired", None)


class TestResets:
    named = {"batch_id": some("batch"), "actor": "desk-1", "desk_ticket": "T-9"}  # noqa: RUF012
    event = AccountReset(
        generation=1, batch_id=some("batch"), cause="desk", actor="desk-1", desk_ticket="T-9"
    )

    @pytest.mark.parametrize("past", [[], [opened()], [opened(), claimed()]])
    def test_a_single_reset_raises_the_generation_claimed_or_not(self, past: list[Event]) -> None:
        assert decider.reset(account(*past), **self.named) == [self.event]

    def test_a_reset_account_is_unclaimed(self) -> None:
        state = account(opened(), claimed(), was_reset())
        assert not state.claimed
        assert (state.generation, state.claimed_at, state.reset_at) == (1, None, NOON)

    def test_a_list_resets_what_was_claimed_when_it_was_frozen(self) -> None:
        state = account(opened(), claimed())
        assert decider.reset_listed(state, generation=0, as_of=NOON, **self.named) == [self.event]

    @pytest.mark.parametrize(
        ("state", "as_of", "why"),
        [
            (account(), NOON, "not_claimed"),
            (account(opened()), NOON, "not_claimed"),
            (account(opened(), claimed()), NOON - SECOND, "claimed_since"),
            (account(opened(), claimed(), was_reset()), NOON, "reset_since"),
        ],
    )
    def test_a_list_never_touches_what_moved_on(self, state: Account, as_of: Any, why: str) -> None:
        with pytest.raises(Rejected) as caught:
            decider.reset_listed(state, generation=0, as_of=as_of, **self.named)
        assert caught.value.reason == why

    def test_a_lost_credential_resets_its_account(self) -> None:
        state = account(opened(), claimed())
        lost = decider.reset_lost(state, claim_id=some("claim"), generation=0, batch_id=some("batch"))
        assert lost == [
            AccountReset(generation=1, batch_id=some("batch"), cause="credential_lost", actor="auth")
        ]
        assert decider.reset_lost(state, claim_id=None, generation=0, batch_id=some("batch")) == lost

    @pytest.mark.parametrize(
        ("past", "claim"),
        [
            ([opened()], "claim"),
            ([opened(), claimed("other")], "claim"),
            ([opened(), claimed(), was_reset()], "claim"),
        ],
        ids=["unclaimed", "another's", "older"],
    )
    def test_a_lost_credential_that_opens_nothing_is_passed_over(self, past: list[Event], claim: str) -> None:
        asked = {"claim_id": some(claim), "generation": 0, "batch_id": some("batch")}
        assert decider.reset_lost(account(*past), **asked) == []


def wanted(accounts: int, **differing: Any) -> Wanted:
    return Wanted(**({"accounts": accounts, "extent": "lines"} | differing))


class TestASecondPerson:
    @pytest.mark.parametrize("human", [True, False])
    def test_a_short_list_waits_for_nobody_whoever_asks(self, human: bool) -> None:
        for extent in ("lines", "school"):
            assert decider.list_waits(wanted(CCPS.approval_above, extent=extent), CCPS, human=human) is False

    def test_a_long_list_waits_and_is_a_persons(self) -> None:
        long = wanted(CCPS.approval_above + 1)
        assert decider.list_waits(long, CCPS, human=True) is True
        with pytest.raises(Rejected) as caught:
            decider.list_waits(long, CCPS, human=False)
        assert (caught.value.reason, caught.value.details) == ("person_required", {"approval_above": 25})

    @pytest.mark.parametrize("how", [{"staff": True}, {"extent": "all_students"}])
    def test_staff_and_all_students_wait_however_few_they_are(self, how: Any) -> None:
        assert decider.list_waits(wanted(1, **how), CCPS, human=True) is True
        with pytest.raises(Rejected, match="person_required"):
            decider.list_waits(wanted(1, **how), CCPS, human=False)

    def test_who_has_reset_many_alone_needs_somebody_for_the_next_list(self) -> None:
        bound = CCPS.resets_alone_a_day
        for human in (True, False):
            assert decider.list_waits(wanted(3, alone=bound - 3), CCPS, human=human) is False
        beyond = wanted(3, alone=bound - 2)
        assert decider.list_waits(beyond, CCPS, human=True) is True
        with pytest.raises(Rejected) as caught:
            decider.list_waits(beyond, CCPS, human=False)
        assert caught.value.reason == "resets_exhausted"
        assert caught.value.details == {"resets_alone_a_day": bound}

    def test_who_has_reset_many_alone_resets_no_single_account_more(self) -> None:
        bound = CCPS.resets_alone_a_day
        decider.allow_single(wanted(1, alone=bound - 1), CCPS)
        with pytest.raises(Rejected, match="resets_exhausted"):
            decider.allow_single(wanted(1, alone=bound), CCPS)

    def test_a_single_account_that_needs_a_second_person_is_not_reset_at_once(self) -> None:
        for of, rules in ((wanted(1, staff=True), CCPS), (wanted(1), policy(approval_above=0))):
            with pytest.raises(Rejected, match="approval_required"):
                decider.allow_single(of, rules)

    def test_somebody_else_approves_it(self) -> None:
        decider.approve_list("desk-1", "desk-2", CCPS, human=True, by=1, held=0)

    @pytest.mark.parametrize(
        ("approver", "human", "why"),
        [
            ("desk-1", True, "approver_is_author"),
            ("machine", False, "person_required"),
            ("desk-1", False, "person_required"),
        ],
    )
    def test_neither_who_asked_nor_a_machine_approves_it(self, approver: str, human: bool, why: str) -> None:
        with pytest.raises(Rejected) as caught:
            decider.approve_list("desk-1", approver, CCPS, human=human, by=1, held=0)
        assert caught.value.reason == why


class TestWaivers:
    def test_said_twice_recorded_once(self) -> None:
        asked = {"actor": "desk-1", "desk_ticket": "T-1", "reason": "moved in today"}
        assert decider.waive(account(), **asked) == [waived()]
        assert decider.waive(account(waived()), **asked) == []

    def test_only_a_waiver_can_be_revoked(self) -> None:
        asked = {"actor": "desk-1", "desk_ticket": None}
        assert decider.revoke_waiver(account(), **asked) == []
        assert decider.revoke_waiver(account(waived()), **asked) == [
            WaiverRevoked(generation=0, actor="desk-1")
        ]


class TestSuspension:
    """Each cause stands and ends by itself; an account is open when none stands."""

    GONE = pupil(enrolled=False)

    def test_who_left_is_suspended_when_the_grace_is_over(self) -> None:
        assert decider.suspend_departed(account(), self.GONE) == [suspended()]
        assert decider.suspend_departed(account(opened(), claimed()), self.GONE) == [suspended()]

    @pytest.mark.parametrize("who", [pupil(enrolled=False), pupil(basis=None), None])
    def test_so_is_whoever_has_no_enrollment_that_counts(self, who: Pupil | None) -> None:
        assert decider.suspend_departed(account(), who) == [suspended()]

    def test_who_is_back_is_not(self) -> None:
        assert decider.suspend_departed(account(), pupil()) == []

    def test_said_twice_it_is_recorded_once(self) -> None:
        both = account(suspended(), suspended("desk"))
        assert decider.suspend_departed(both, self.GONE) == []
        assert decider.suspend(both, actor="desk-2", desk_ticket=None) == []
        assert decider.restore_returned(account(suspended("desk"))) == []
        assert decider.restore(account(suspended()), actor="desk-1", desk_ticket=None) == []

    def test_a_return_does_not_lift_what_the_desk_closed(self) -> None:
        both = account(suspended(), suspended("desk"))
        returned = decider.restore_returned(both)
        assert returned == [AccountRestored(cause="withdrawn", generation=0)]
        left = account(suspended(), suspended("desk"), *returned)
        assert [each.cause for each in left.suspensions] == ["desk"]

    def test_the_desk_does_not_open_the_account_of_who_left(self) -> None:
        both = account(suspended(), suspended("desk"))
        restored = decider.restore(both, actor="desk-2", desk_ticket="T-2")
        assert restored == [AccountRestored(cause="desk", generation=0, actor="desk-2", desk_ticket="T-2")]
        left = account(suspended(), suspended("desk"), *restored)
        assert [each.cause for each in left.suspensions] == ["withdrawn"]

    def test_a_claimed_account_opens_again_as_it_was(self) -> None:
        state = account(opened(), claimed(), suspended(), AccountRestored(cause="withdrawn", generation=0))
        assert (state.claimed, state.suspended) == (True, False)

    def test_a_reset_account_stays_suspended(self) -> None:
        assert account(opened(), claimed(), suspended("desk"), was_reset()).suspended

    def test_a_suspended_account_cannot_be_claimed_and_says_so_to_its_own_pupil(self) -> None:
        with pytest.raises(Rejected) as caught:
            decider.admit(account(suspended("desk")), pupil(), CCPS, NOON)
        assert (caught.value.reason, caught.value.details) == ("account_suspended", {})
        assert caught.value.secret["causes"] == ["desk"]
        with pytest.raises(Rejected) as caught:
            decider.admit(account(suspended("desk")), pupil(), UNIFORM, NOON)
        assert (caught.value.reason, caught.value.secret["reason"]) == ("claim_refused", "account_suspended")

    def test_an_open_claim_ends_with_it(self) -> None:
        state = account(opened(), suspended("desk"))
        (claim,) = state.claims
        assert decider.claim_state(state, claim, NOON) == ("rejected", "account_suspended")

    def test_a_credential_sealed_for_it_is_rejected_for_that_reason(self) -> None:
        """In the event the word is one that readers knew before there were suspensions."""
        rejected = seal(account(opened(), suspended("desk")))
        assert isinstance(rejected, ClaimRejected)
        assert (rejected.reason, rejected.suspended) == ("claim_superseded", True)
        state = account(opened(), suspended("desk"), rejected, AccountRestored(cause="desk", generation=0))
        assert decider.claim_state(state, state.claims[0], NOON) == ("rejected", "account_suspended")

    def test_a_graduate_stays_longer(self) -> None:
        """From the moment at which the roster heard of it, whatever day the district says it was."""
        assert decider.open_until(NOON, CCPS, graduated=False) == NOON + 72 * HOUR
        assert decider.open_until(NOON, CCPS, graduated=True) == NOON + 90 * 24 * HOUR


def test_claims_remembered_are_bounded() -> None:
    state = account(*(opened(f"claim {n}") for n in range(decider.CLAIMS_KEPT + 20)))
    assert len(state.claims) == decider.CLAIMS_KEPT
    assert state.claims[-1].claim_id == some(f"claim {decider.CLAIMS_KEPT + 19}")


def test_the_fold_knows_whose_account_it_is() -> None:
    state = decider.evolve(decider.initial, recorded(opened(), version=7))
    assert (state.person_id, state.district, state.version) == (recorded(opened()).stream_id, "ccps", 7)
