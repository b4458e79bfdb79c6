"""Whatever is asked in whatever order, and however often: what must hold of every account's history."""

from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.claims import decider
from services.claims.events import AccountClaimed, AccountReset, ClaimOpened, ClaimRejected
from shared.errors import Rejected
from shared.messages import Event
from tests.claims.given import CCPS, HOUR, MINUTE, NOON, pupil, recorded, some


class AnAccount(RuleBasedStateMachine):
    """Pupils, auth, the SIS and the help desk, each doing what it may, while time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.account, self.now = decider.initial, NOON
        self.pupil = pupil(basis=NOON - 23 * HOUR)
        self.history: list[Event] = []
        self.claims: list[tuple[Any, int]] = []  # claim and generation, as their tickets say
        self.sealed: list[dict[str, Any]] = []

    def ask(self, decide: Any, *args: Any, **named: Any) -> list[Event]:
        try:
            events: list[Event] = decide(self.account, *args, **named)
        except Rejected:
            return []
        for event in events:
            self.account = decider.evolve(
                self.account, recorded(event, version=self.account.version + 1, at=self.now)
            )
            self.history.append(event)
        return events

    @rule(minutes=st.integers(0, 90))
    def time_goes_on(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule(enrolled=st.booleans(), namesakes=st.integers(0, 1), parked=st.booleans())
    def the_roster_changes(self, enrolled: bool, namesakes: int, parked: bool) -> None:
        self.pupil = msgspec.structs.replace(
            self.pupil, enrolled=enrolled, namesakes=namesakes, parked=parked
        )

    @rule()
    def a_browser_begins(self) -> None:
        claim_id = some(f"claim {len(self.claims)}")
        for event in self.ask(decider.open_claim, self.pupil, CCPS, self.now, claim_id):
            assert isinstance(event, ClaimOpened)
            assert event.expires_at - self.now <= timedelta(minutes=CCPS.ticket_minutes)
            self.claims.append((claim_id, event.generation))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), delay=st.integers(0, 60))
    def auth_seals_and_claims_hears_of_it_later(self, data: st.DataObject, delay: int) -> None:
        claim_id, generation = data.draw(st.sampled_from(self.claims))
        sealed = {
            "claim_id": claim_id,
            "credential_id": some(f"credential {len(self.sealed)}"),
            "generation": generation,
            "sealed_at": self.now,
        }
        self.sealed.append(sealed)
        self.now += delay * MINUTE
        assert len(self.ask(decider.decide_claim, self.pupil, CCPS, **sealed)) == 1

    @precondition(lambda self: self.sealed)
    @rule(data=st.data())
    def a_decided_credential_of_its_claim_is_heard_of_again(self, data: st.DataObject) -> None:
        sealed = data.draw(st.sampled_from(self.sealed))
        claim = self.account.claim(sealed["claim_id"])
        if claim and claim.credential_id == sealed["credential_id"]:
            assert self.ask(decider.decide_claim, self.pupil, CCPS, **sealed) == []

    @rule(generation=st.integers(0, 3), listed=st.booleans())
    def the_desk_resets(self, generation: int, listed: bool) -> None:
        asked = {"batch_id": some("batch"), "actor": "desk-1", "desk_ticket": None}
        before = self.account
        if not listed:
            assert len(self.ask(decider.reset, **asked)) == 1
        elif self.ask(decider.reset_listed, generation=generation, as_of=self.now, **asked):
            assert before.claimed
            assert before.generation == generation

    @rule()
    def the_desk_waives_or_revokes(self) -> None:
        asked = {"actor": "desk-1", "desk_ticket": None}
        if self.account.waiver:
            self.ask(decider.revoke_waiver, **asked)
        else:
            self.ask(decider.waive, reason=None, **asked)

    @rule(generation=st.integers(0, 3))
    def auth_loses_a_credential(self, generation: int) -> None:
        lost = {"claim_id": None, "generation": generation, "batch_id": some("lost")}
        self.ask(decider.reset_lost, **lost)
        assert self.ask(decider.reset_lost, **lost) == []

    @invariant()
    def an_account_is_claimed_at_most_once_in_a_generation(self) -> None:
        claimed = Counter(e.generation for e in self.history if isinstance(e, AccountClaimed))
        assert all(count == 1 for count in claimed.values())

    @invariant()
    def generations_only_rise_and_by_one(self) -> None:
        risen = [e.generation for e in self.history if isinstance(e, AccountReset)]
        assert risen == list(range(1, len(risen) + 1))
        assert self.account.generation == len(risen)

    @invariant()
    def every_sealed_credential_is_decided_once(self) -> None:
        decided = Counter(
            e.credential_id for e in self.history if isinstance(e, AccountClaimed | ClaimRejected)
        )
        assert decided == Counter(sealed["credential_id"] for sealed in self.sealed)

    @invariant()
    def who_claimed_had_opened_in_that_generation_and_sealed_in_time(self) -> None:
        opened = {e.claim_id: e for e in self.history if isinstance(e, ClaimOpened)}
        for event in self.history:
            if isinstance(event, AccountClaimed):
                assert opened[event.claim_id].generation == event.generation
                assert event.sealed_at <= opened[event.claim_id].expires_at

    @invariant()
    def every_remembered_claim_stands_somehow(self) -> None:
        states = [decider.claim_state(self.account, claim, self.now) for claim in self.account.claims]
        assert states.count(("completed", None)) <= 1
        assert all((reason is not None) == (state == "rejected") for state, reason in states)


TestAnAccount = AnAccount.TestCase
TestAnAccount.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
