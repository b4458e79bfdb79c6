"""A new password, wherever one is chosen: typed twice, and why it is not taken, in words."""

from collections.abc import Mapping

from services.portal.backend import Answer
from services.portal.languages import N_
from services.portal.visit import Visit


def typed_twice(visit: Visit, first: str, second: str) -> Mapping[str, str]:
    """What is wrong with two fields that have to hold the same; nothing else of a password is judged here."""
    if not visit.typed(first):
        return {first: visit.text(N_("Type a new password."))}
    if visit.typed(first) != visit.typed(second):
        return {second: visit.text(N_("The two passwords are not the same. Type the new one again."))}
    return {}


def not_taken(visit: Visit, answer: Answer) -> str | None:
    """Why auth does not take a new password, as its field says it; None for a refusal about something else."""
    bounds, told = visit.policy.password, answer.body if isinstance(answer.body, dict) else {}
    match answer.reason:
        case "password_short":
            least = told.get("min_length", bounds.min_length)
            return visit.text(
                N_("That is too short. It needs at least %(count)s letters, numbers or signs."), count=least
            )
        case "password_long" | "malformed_request" | "body_too_large":
            most = told.get("max_length", bounds.max_length)
            return visit.text(
                N_("That is too long. It may have %(count)s letters, numbers and signs."), count=most
            )
        case "password_common":
            return visit.text(
                N_("That is too easy to guess. Put a few words together that nobody would think of.")
            )
        case "password_used_before":
            days = int(told.get("history_days", 0))
            if days > 1:
                return visit.text(
                    N_("You had this password in the last %(days)s days. Choose one that is new."), days=days
                )
            return visit.text(N_("You had this password before. Choose one that is new."))
    return None
