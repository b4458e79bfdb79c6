"""What auth does by itself: resting questions are announced, what has expired goes, the first operator client is
made."""

from datetime import timedelta

import msgspec
import structlog

from services.auth import audit, audit_topic, devices, logout_notices, recovery, tokens, webhooks
from services.auth.activity import FLUSH_EVERY_S
from services.auth.handlers import Auth
from services.auth.oidc_rules import CODE_KEPT
from shared import clock
from shared.expiry import Expiring
from shared.key_file import LOOK_EVERY_S
from shared.supervisor import Worker, every

EXPIRING = (
    # A while after the ticket's end, so that a repeat of the last step still finds what it did.
    Expiring("staging", "expires_at", timedelta(days=1)),
    Expiring("session", "expires_at"),
    Expiring("recovery", "expires_at"),
    Expiring("recovery_code", "expires_at"),
    Expiring("wrong_password", "last_at", timedelta(days=1)),
    Expiring("failure_budget", "at", timedelta(days=1)),
    Expiring("known_device", "last_at", devices.KEPT),
    Expiring("known_device", "last_at", timedelta(days=7), "NOT returned"),
    Expiring("recovery_try", "until", timedelta(days=1)),
    Expiring("previous_secret", "until"),
    Expiring("sign_in_minute", "minute", timedelta(days=2)),
    Expiring("audit", "at", audit.KEPT),
    Expiring("revoked", "at", timedelta(minutes=10)),
    Expiring("authorization_request", "expires_at"),
    Expiring("authorization_code", "expires_at", CODE_KEPT),
    Expiring("browser_session", "expires_at"),
    Expiring("sign_on", "expires_at"),
    Expiring("application_token", "expires_at"),
    Expiring("logout_notice", "expires_at"),
    Expiring("webhook_line", "expires_at"),
    Expiring("client_assertion", "expires_at"),
    Expiring("registration_token", "expires_at"),
    Expiring("saml_answer", "expires_at"),
    Expiring("saml_request", "expires_at"),
)
ANNOUNCE_EVERY_S = 2.0
USES_EVERY_S = 1.0
ANNOUNCE_ROWS = 100
LAST_TRY_MAY_TAKE = timedelta(seconds=5)
BOOTSTRAP_EVERY_S = 10.0
BOOTSTRAP_CLIENT = "bootstrap_client"

log = structlog.get_logger(__name__)


def workers(auth: Auth) -> list[Worker]:
    db = auth.kit.db
    found = [
        Worker("announce-rests", "projector", every(ANNOUNCE_EVERY_S, lambda: announce(auth))),
        Worker("logout-notices", "projector", lambda: logout_notices.run(auth)),
        Worker("sign-ins", "api", every(FLUSH_EVERY_S, lambda: auth.tally.flush(auth.kit.db))),
        Worker("revocations", "api", lambda: auth.remembered.follow(db.dsn)),
        Worker("audit", "api", lambda: auth.trail.keep_written(db)),
        Worker("audit-topic", "relay", lambda: audit_topic.run(auth.kit.settings)),
        Worker("audit-unsent", "relay", every(audit_topic.COUNT_EVERY_S, lambda: audit_topic.count(db))),
        Worker("webhooks", "relay", lambda: webhooks.run(auth)),
        Worker("webhooks-untold", "relay", every(webhooks.COUNT_EVERY_S, lambda: webhooks.count(db))),
        Worker("peppers", "api", every(LOOK_EVERY_S, auth.hasher.refresh)),
        Worker("uses", "api", lambda: auth.uses.keep_written(db, USES_EVERY_S)),
    ]
    if auth.kit.settings.bootstrap_client_file is not None and "api" in auth.kit.settings.roles:
        # Whoever finds auth ready may ask for the operator's token at once.
        auth.kit.readiness.waits_for(BOOTSTRAP_CLIENT, "starting")
        found.append(Worker("bootstrap", "api", every(BOOTSTRAP_EVERY_S, lambda: bootstrap(auth))))
    return found


async def announce(auth: Auth) -> None:
    now = clock.now()
    await recovery.announce_rests(auth, now, now - LAST_TRY_MAY_TAKE, ANNOUNCE_ROWS)


async def bootstrap(auth: Auth) -> None:
    """Looks again and again: the file may come later, or name another client."""
    file = auth.kit.settings.bootstrap_client_file
    assert file is not None
    try:
        if await tokens.ensure_bootstrap_client(auth, file, clock.now()):
            log.info("bootstrap_client_made")
        auth.kit.readiness.has(BOOTSTRAP_CLIENT)
    except (OSError, msgspec.MsgspecError) as error:
        auth.kit.readiness.waits_for(BOOTSTRAP_CLIENT, f"its file cannot be read: {type(error).__name__}")
