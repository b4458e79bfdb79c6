"""The routes by which people sign in to applications that speak SAML: for their browsers, and for the portal's page."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Meta

from services.auth import saml, saml_metadata, saml_rules
from services.auth.authorizing import Onward, read_once
from services.auth.calls import DISTRICT, Feature, ReturnQuery, redirect
from services.auth.saml_xml import LIMIT_BYTES
from shared.errors import Rejected
from shared.web import Body, Call, Reply, Route

log = structlog.get_logger(__name__)

FORM_LIMIT_BYTES = 2 * LIMIT_BYTES  # base64, in a form
PEM = "application/x-pem-file"
PARAMETERS = {"SAMLRequest", "RelayState", "SigAlg", "Signature", "posted"}


class CertificateQuery(Body, frozen=True, kw_only=True):
    next: Annotated[bool, Meta(description="The one that will sign after it.")] = False


class SignOnQuery(msgspec.Struct, frozen=True):
    """The HTTP-Redirect binding (SAML Bindings, 3.4.4); or `posted`, by which a form goes on."""

    SAMLRequest: str | None = None
    RelayState: str | None = None
    SigAlg: str | None = None
    Signature: str | None = None
    posted: str | None = None


class SignOnForm(msgspec.Struct, frozen=True):
    """The HTTP-POST binding (SAML Bindings, 3.5.4)."""

    SAMLRequest: str
    RelayState: str | None = None


class StartQuery(msgspec.Struct, frozen=True):
    RelayState: str | None = None


class AnswerBody(Body, frozen=True, kw_only=True):
    answer: Annotated[str, Meta(max_length=128, description="The word that the browser brought.")]


class AnswerView(msgspec.Struct, frozen=True, kw_only=True):
    """A form for the application: `SAMLResponse`, and `RelayState` if there is one, to be posted to `acs`; `origin` is
    the one site that the page's content security policy lets it go to."""

    application: str
    acs: str
    origin: str
    saml_response: str
    relay_state: str | None


class Saml(Feature):
    """Single sign-on for applications that speak SAML 2.0."""

    async def metadata(self, call: Call[None]) -> Reply:
        certificates = [keyed.certificate for keyed in self.auth.saml_keys.all()]
        name, where = saml.entity_id(self.auth, call.district), saml.sign_on_url(self.auth, call.district)
        written = saml_metadata.write(name, where, certificates)
        return Reply(200, written, {"Cache-Control": "max-age=300"}, saml_metadata.CONTENT_TYPE)

    async def certificate(self, call: Call[None]) -> Reply:
        found = self.auth.saml_keys.all()[int(call.query.next) :]
        if not found:
            raise Rejected("not_found")
        return Reply(200, found[0].certificate.public_bytes(Encoding.PEM), content_type=PEM)

    async def sign_on(self, call: Call[Any]) -> Reply:
        raw_query = call.request.raw_path.partition("?")[2]
        cookies, now = call.request.cookies, call.now
        return await self._told(
            call, lambda given: saml.begin(self.auth, call.policy, raw_query, given, cookies, now)
        )

    async def post(self, call: Call[Any]) -> Reply:
        return await self._told(call, lambda given: saml.post(self.auth, call.policy, given, call.now))

    async def start(self, call: Call[Any]) -> Reply:
        client_id, cookies, now = call.path["client_id"], call.request.cookies, call.now
        return await self._told(
            call,
            lambda given: saml.start(
                self.auth, call.policy, client_id, given.get("RelayState"), cookies, now
            ),
        )

    async def complete(self, call: Call[None]) -> Reply:
        authorization_id, cookies, now = call.uuid("authorization_id"), call.request.cookies, call.now
        return await self._told(
            call,
            lambda given: saml.complete(
                self.auth, call.policy, authorization_id, given.get("accepted", ""), cookies, now
            ),
        )

    async def _told(self, call: Call[Any], ask: Callable[[dict[str, str]], Awaitable[Onward]]) -> Reply:
        """What is the matter with a request its application's operator has to know; its person sees a page of the
        portal, or where there is none of ours."""
        try:
            return redirect(await ask(_given(call)))
        except Rejected as refusal:
            log.info("saml_request_refused", reason=refusal.reason, problem=refusal.details.get("problem"))
            portal = self.auth.kit.settings.portal_url
            if portal is None:
                raise
            return redirect(Onward(f"{portal}/{call.district}/sign-on/refused?reason={refusal.reason}"))

    async def answer(self, call: Call[AnswerBody]) -> Reply:
        found = await saml.redeem(self.auth, call.policy, call.body.answer, call.now)
        call.noted |= {"client": found.client_id, "person_id": found.person_id}
        return Reply(
            200,
            AnswerView(
                application=found.application,
                acs=found.acs,
                origin=saml_rules.origin_of(found.acs),
                saml_response=found.response,
                relay_state=found.relay_state,
            ),
        )

    def routes(self) -> list[Route]:
        home = f"{DISTRICT}/saml"
        sign_on: dict[str, Any] = {
            "success": {303: None}, "pairs": True, "page": True,
            "refusals": {
                "saml_request_invalid": 400, "application_unknown": 400, "acs_unknown": 400,
                "authorization_ended": 400,
            },
        }  # fmt: skip
        return [
            Route(
                "GET", f"{home}/metadata", self.metadata,
                summary="The district as a SAML 2.0 identity provider; the certificate that signs, and the next one.",
                produces=(saml_metadata.CONTENT_TYPE,), success={200: bytes}, needs_store=False,
            ),
            Route(
                "GET", f"{home}/certificate", self.certificate,
                summary="The certificate that signs, or the next one, as a file for administrators' pages.",
                query=CertificateQuery, produces=(PEM,), success={200: bytes}, needs_store=False,
            ),
            Route(
                "GET", f"{home}/sso", self.sign_on,
                summary="Where applications send people to sign in, by HTTP-Redirect.", query=SignOnQuery,
                **sign_on,
            ),
            Route(
                "POST", f"{home}/sso", self.post, summary="The same by HTTP-POST.", body=SignOnForm, form=True,
                body_limit=FORM_LIMIT_BYTES, **sign_on,
            ),
            Route(
                "GET", f"{home}/applications/{{client_id}}", self.start,
                summary="Signs in to an application that did not ask, if it is registered for that: a tile.",
                query=StartQuery, **sign_on,
            ),
            Route(
                "GET", f"{home}/authorizations/{{authorization_id}}/return", self.complete,
                summary="Where the portal sends the browser back to.", query=ReturnQuery, success={303: None},
                pairs=True, page=True, refusals={"authorization_ended": 400},
            ),
            Route(
                "POST", f"{home}/answers", self.answer, audit="saml_answer",
                summary="What a page posts to an application, once; for the portal, whose page that is.",
                body=AnswerBody, success={200: AnswerView}, refusals={"authorization_ended": 400},
            ),
        ]  # fmt: skip


def _given(call: Call[Any]) -> dict[str, str]:
    """Raises Rejected saml_request_invalid."""
    given, repeated = read_once(call.pairs)
    if PARAMETERS & set(repeated):
        raise Rejected("saml_request_invalid", problem="a parameter was given twice")
    return given
