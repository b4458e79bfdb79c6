"""The routes of auth, feature by feature; each turns an HTTP request into a command or a question, and what comes of it
into a reply."""

from functools import partial

from services.auth import sign_ons, tokens
from services.auth.applications_api import Applications
from services.auth.audit_api import Audit
from services.auth.authorize_api import Authorize
from services.auth.claiming_api import Claiming
from services.auth.clients_api import Clients
from services.auth.handlers import Auth
from services.auth.oauth_api import OAuth
from services.auth.recovery_api import Recoveries
from services.auth.registration_api import Registration
from services.auth.roles_api import Roles
from services.auth.saml_api import Saml
from services.auth.service_providers_api import ServiceProviders
from services.auth.sessions_api import Sessions, session_authenticator
from shared.web import Route

FEATURES = (
    Audit,
    Claiming,
    Sessions,
    Recoveries,
    Roles,
    OAuth,
    Authorize,
    Saml,
    Clients,
    Applications,
    ServiceProviders,
    Registration,
)


def routes(auth: Auth) -> list[Route]:
    """The table of routes; also teaches the kit how this service knows its callers."""
    auth.kit.authenticators["session"] = session_authenticator(auth)
    auth.kit.authenticators["client"] = partial(tokens.client_of, auth)
    auth.kit.authenticators["application"] = partial(sign_ons.person_of, auth)
    auth.kit.audit = auth.trail.note
    return [route for feature in FEATURES for route in feature(auth).routes()]
