"""Applications that speak SAML, as an operator registers them: what `homeroom application` does for these."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from services.cli.client import Failed, Homeroom, Json
from services.cli.operations import OPERATIONS

APPLICATIONS = f"{OPERATIONS}/saml-applications"
KEPT = (
    "name", "districts", "entity_id", "acs", "certificates", "name_id", "email_domain", "attributes", "unsolicited",
)  # fmt: skip
SHOWN = "id", "name", "entity_id", "acs", "name_id", "districts"


@Parameter(name="*")
@dataclass
class SamlSaid:
    """What is said of an application that speaks SAML."""

    entity_id: Annotated[str | None, Parameter(help="SAML: by what name it asks, exactly.")] = None
    acs: Annotated[
        list[str] | None,
        Parameter(
            negative="", help="SAML: where it takes responses, exactly; may be repeated, the default first."
        ),
    ] = None
    certificate: Annotated[
        list[Path] | None,
        Parameter(
            negative="",
            help="SAML: file with a certificate that it signs with; each request has to be, then.",
        ),
    ] = None
    metadata: Annotated[
        Path | None, Parameter(help="SAML: file with its metadata, in place of the three above.")
    ] = None
    name_id: Annotated[
        Literal["persistent", "email", "username"] | None,
        Parameter(help="SAML: by what name it knows a person; persistent (a name of its own) by default."),
    ] = None
    email_domain: Annotated[str | None, Parameter(help="SAML: of addresses, username@domain.")] = None
    attributes: Annotated[
        list[str] | None,
        Parameter(
            name="--attribute", negative="",
            help="SAML: what it is told, NAME=WHAT; WHAT is username, email, name, first_name, last_name, kind, number"
            " or district; may be repeated.",
        ),
    ] = None  # fmt: skip
    unsolicited: Annotated[
        bool | None,
        Parameter(help="SAML: it takes responses that it did not ask for, so that a tile can lead to it."),
    ] = None

    def read(self) -> Json:
        """As the service takes it. Raises Failed file_unreadable, attribute_invalid."""
        found: Json = {
            "entity_id": self.entity_id,
            "name_id": self.name_id,
            "email_domain": self.email_domain,
            "unsolicited": self.unsolicited,
        }
        if self.acs is not None:
            found["acs"] = [{"url": url, "index": index} for index, url in enumerate(self.acs)]
        if self.certificate is not None:
            found["certificates"] = [_text(file) for file in self.certificate]
        if self.metadata is not None:
            found["metadata"] = _text(self.metadata)
        if self.attributes is not None:
            found["attributes"] = dict(_attribute(each) for each in self.attributes)
        return {name: value for name, value in found.items() if value is not None}


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError) as error:
        raise Failed("file_unreadable", f"{file}: {error}") from None


def _attribute(said: str) -> tuple[str, str]:
    name, sign, what = said.rpartition("=")
    if not sign:
        raise Failed("attribute_invalid", f"{said} is not NAME=WHAT")
    return name, what


async def register(
    homeroom: Homeroom, name: str, districts: list[str], said: SamlSaid, sector: str | None
) -> Json:
    """The new application, and what is told to it of the district."""
    body: Json = {"name": name, "districts": districts} | said.read()
    if sector is not None:
        body["sector"] = sector
    made: Json = (await homeroom.post("auth", APPLICATIONS, body, role="operator")).body
    saml = f"{homeroom.site.services['auth']}/v1/districts/{districts[0]}/saml"
    return made | {"metadata": f"{saml}/metadata", "sso": f"{saml}/sso"}


async def list_all(homeroom: Homeroom) -> list[Json]:
    found = (await homeroom.get("auth", APPLICATIONS, role="operator"))["applications"]
    return [dict(each) for each in found]


async def change(
    homeroom: Homeroom, found: Json, name: str | None, districts: list[str] | None, said: SamlSaid
) -> None:
    new = said.read()
    body = {key: found[key] for key in KEPT} | new
    if "metadata" in new:  # it says these itself
        for key in ("entity_id", "acs", "certificates"):
            body.pop(key)
    body |= {"name": name or found["name"], "districts": districts or found["districts"]}
    await homeroom.call("operator", "PUT", "auth", f"{APPLICATIONS}/{found['id']}", body)
