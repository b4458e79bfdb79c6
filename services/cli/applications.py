"""The applications that people sign in to with their district account, as an operator registers them."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
from cyclopts import App, Parameter

from services.cli import saml_applications
from services.cli.client import AsJson, Failed, Homeroom, Json, Yes, confirm, connect, out, show
from services.cli.operations import OPERATIONS
from services.cli.saml_applications import SamlSaid

APPLICATIONS, CLIENTS = f"{OPERATIONS}/applications", f"{OPERATIONS}/clients"
REGISTRATION_TOKENS = f"{OPERATIONS}/registration-tokens"
COLUMNS = "id", "name", "type", "redirect_uris", "scopes", "districts"

application = App(name="application", help="Applications that people sign in to with their district account.")
registration_token = App(
    name="registration-token", help="Tokens with which applications register themselves (RFC 7591)."
)
application.command(registration_token)

Uris = Annotated[
    list[str] | None,
    Parameter(name="--redirect-uri", negative="", help="Where codes are sent, exactly; may be repeated."),
]
AfterLogout = Annotated[
    list[str] | None,
    Parameter(name="--post-logout-redirect-uri", negative="", help="Where those go who have signed out."),
]
Scopes = Annotated[
    list[str] | None,
    Parameter(name="--scope", negative="", help="openid, profile, school, offline_access; may be repeated."),
]
Districts = Annotated[
    list[str] | None, Parameter(name="--district", negative="", help="Whose people sign in.")
]
Pkce = Annotated[
    Literal["required", "optional"] | None,
    Parameter(help="optional only for a confidential application that knows no PKCE."),
]
Algorithm = Annotated[Literal["RS256", "ES256"] | None, Parameter(help="What its ID tokens are signed by.")]
BackChannel = Annotated[
    str | None,
    Parameter(name="--backchannel-logout-uri", help="Where it is told that a session has ended; https."),
]
Keys = Annotated[
    Path | None,
    Parameter(help="File with a JWK set of public keys, by which it shows who it is (private_key_jwt)."),
]
Pushed = Annotated[
    Literal["required", "optional"] | None,
    Parameter(help="required: what it asks for counts only when it pushed it ahead (RFC 9126)."),
]
Minutes = Annotated[int | None, Parameter(help="How long an access token counts: 1 to 60, 10 by default.")]


def _complete(
    *_: object, saml: bool = False, type: str | None = None, redirect_uri: list[str] | None = None, **more: object
) -> None:  # fmt: skip
    """What an application has to say of itself depends on what it speaks."""
    if not saml and more.get("said_of_saml") is not None:
        raise ValueError("that is for --saml")
    if not saml and (type is None or not redirect_uri):
        raise ValueError("--type and --redirect-uri are needed, or --saml")


@application.command(validator=_complete)
async def add(
    name: str,
    *,
    saml: Annotated[bool, Parameter(negative="", help="It speaks SAML 2.0; else OpenID Connect.")] = False,
    type: Annotated[
        Literal["web", "native", "spa"] | None,
        Parameter(
            help="web has a server and keeps a secret; native and spa run at their user and keep none."
        ),
    ] = None,
    redirect_uri: Uris = None,
    post_logout_redirect_uri: AfterLogout = None,
    scope: Scopes = None,
    districts: Districts = None,
    pkce: Pkce = None,
    id_token_algorithm: Algorithm = None,
    access_token_minutes: Minutes = None,
    backchannel_logout_uri: BackChannel = None,
    keys: Keys = None,
    pushed: Pushed = None,
    sector: Annotated[
        str | None, Parameter(help="Applications of one sector know a person by one pairwise name.")
    ] = None,
    said_of_saml: SamlSaid | None = None,
    json: AsJson = False,
) -> None:
    """Register an application. The secret of one that can keep it is shown once, here."""
    if saml:
        async with connect() as homeroom:
            served = districts or [homeroom.site.district]
            show(
                await saml_applications.register(homeroom, name, served, said_of_saml or SamlSaid(), sector),
                json,
            )
        return
    said = {
        "redirect_uris": redirect_uri,
        "post_logout_redirect_uris": post_logout_redirect_uri,
        "scopes": scope,
        "pkce": pkce,
        "id_token_algorithm": id_token_algorithm,
        "access_token_minutes": access_token_minutes,
        "backchannel_logout_uri": backchannel_logout_uri,
        "keys": _read(keys),
        "pushed": pushed,
        "sector": sector,
    }
    async with connect() as homeroom:
        body: Json = {"name": name, "type": type, "districts": districts or [homeroom.site.district]}
        body |= {key: value for key, value in said.items() if value is not None}
        made = (await homeroom.post("auth", APPLICATIONS, body, role="operator")).body
        issuer = f"{homeroom.site.services['auth']}/v1/districts/{body['districts'][0]}"
        show(made | {"discovery": f"{issuer}/.well-known/openid-configuration"}, json)


@application.command(name="list")
async def list_all(*, json: AsJson = False) -> None:
    """Which applications there are; never a secret."""
    async with connect() as homeroom:
        found = (await homeroom.get("auth", APPLICATIONS, role="operator"))["applications"]
        speaking_saml = await saml_applications.list_all(homeroom)
        if json:
            show([*found, *speaking_saml], json)
            return
        if found or not speaking_saml:
            show(found, json, *COLUMNS)
        if speaking_saml:
            show(speaking_saml, json, *saml_applications.SHOWN)


@application.command(name="show")
async def show_one(application_id: str, *, json: AsJson = False) -> None:
    """All that is registered of one application."""
    async with connect() as homeroom:
        show(await _find(homeroom, application_id), json)


@application.command
async def change(
    application_id: str,
    *,
    name: str | None = None,
    redirect_uri: Uris = None,
    post_logout_redirect_uri: AfterLogout = None,
    scope: Scopes = None,
    districts: Districts = None,
    pkce: Pkce = None,
    id_token_algorithm: Algorithm = None,
    access_token_minutes: Minutes = None,
    backchannel_logout_uri: BackChannel = None,
    keys: Keys = None,
    pushed: Pushed = None,
    said_of_saml: SamlSaid | None = None,
    json: AsJson = False,
) -> None:
    """Change what an application is called or may do; what is not said stays, and what is said takes its place."""
    said = {
        "name": name,
        "redirect_uris": redirect_uri,
        "post_logout_redirect_uris": post_logout_redirect_uri,
        "scopes": scope,
        "districts": districts,
        "pkce": pkce,
        "id_token_algorithm": id_token_algorithm,
        "access_token_minutes": access_token_minutes,
        "backchannel_logout_uri": backchannel_logout_uri,
        "keys": _read(keys),
        "pushed": pushed,
    }
    async with connect() as homeroom:
        found = await _find(homeroom, application_id)
        if "entity_id" in found:
            await saml_applications.change(homeroom, found, name, districts, said_of_saml or SamlSaid())
            show(await _find(homeroom, application_id), json)
            return
        body = {key: found[key] if value is None else value for key, value in said.items()}
        await homeroom.call("operator", "PUT", "auth", f"{APPLICATIONS}/{application_id}", body)
        show(await _find(homeroom, application_id), json)


@application.command
async def remove(application_id: str, *, yes: Yes = False) -> None:
    """Shut an application out, for good: all that it holds of anybody is worth nothing at once."""
    async with connect() as homeroom:
        found = await _find(homeroom, application_id)
        confirm(f"Shut out {found['name']} for good?", yes)
        await homeroom.call("operator", "DELETE", "auth", f"{CLIENTS}/{application_id}")
        out.print("removed")


@application.command
async def rotate(
    application_id: str,
    *,
    overlap: Annotated[int, Parameter(help="Minutes for which the present secret still counts.")] = 60,
    json: AsJson = False,
) -> None:
    """Give an application a new secret, shown once, here."""
    async with connect() as homeroom:
        if (await _find(homeroom, application_id)).get("authentication") != "secret":
            raise Failed("no_secret", "this application keeps no secret")
        body = {"overlap_minutes": overlap}
        made = await homeroom.post("auth", f"{CLIENTS}/{application_id}/rotate", body, role="operator")
        show(made.body, json)


@registration_token.command(name="add")
async def add_token(
    name: str,
    *,
    redirect_host: Annotated[
        list[str],
        Parameter(negative="", help="At which its addresses have to be, app.example.org; may be repeated."),
    ],
    scope: Scopes = None,
    district: Annotated[str | None, Parameter(help="Whose people sign in.")] = None,
    uses: Annotated[int, Parameter(help="How many applications it is good for.")] = 1,
    days: Annotated[int, Parameter(help="For how long.")] = 7,
    json: AsJson = False,
) -> None:
    """Let somebody (NAME) register applications; the token is shown once, here."""
    async with connect() as homeroom:
        body: Json = {
            "name": name, "district": district or homeroom.site.district, "redirect_hosts": redirect_host,
            "uses": uses, "days": days,
        } | ({"scopes": scope} if scope else {})  # fmt: skip
        made = (await homeroom.post("auth", REGISTRATION_TOKENS, body, role="operator")).body
        url = f"{homeroom.site.services['auth']}/v1/districts/{body['district']}/register"
        show(made | {"registration_endpoint": url}, json)


@registration_token.command(name="list")
async def list_tokens(*, json: AsJson = False) -> None:
    """Which of them still count; never a token."""
    async with connect() as homeroom:
        found = (await homeroom.get("auth", REGISTRATION_TOKENS, role="operator"))["registration_tokens"]
        show(found, json, "id", "name", "district", "redirect_hosts", "scopes", "uses_left", "expires_at")


@registration_token.command(name="remove")
async def remove_token(token_id: str) -> None:
    """Let nobody register with it any more; what was registered stays."""
    async with connect() as homeroom:
        await homeroom.call("operator", "DELETE", "auth", f"{REGISTRATION_TOKENS}/{quote(token_id, safe='')}")
        out.print("removed")


def _read(keys: Path | None) -> list[Json] | None:
    if keys is None:
        return None
    try:
        return msgspec.json.decode(keys.read_bytes(), type=dict[str, list[Json]])["keys"]
    except (OSError, msgspec.MsgspecError, KeyError) as error:
        raise Failed("file_unreadable", f"{keys} holds no JWK set: {error}") from None


async def _find(homeroom: Homeroom, application_id: str) -> Json:
    found = (await homeroom.get("auth", APPLICATIONS, role="operator"))["applications"]
    for each in [*found, *await saml_applications.list_all(homeroom)]:
        if each["id"] == application_id:
            return dict(each)
    raise Failed("application_unknown", f"no application has the id {application_id}")
