"""Sign somebody in with SAML 2.0 and python3-saml, which is most of what a web application needs.

Settings come from the environment: IDENTITY_PROVIDER ({auth}/v1/districts/{district}), ENTITY_ID, ACS, KEY and
CERTIFICATE (PEM). What a web framework would do is done by printing and reading: METADATA is for the operator who
registers this application; the browser goes to what GO says; its form comes in as two words, SAMLResponse and
RelayState.
"""

import json
import os
from base64 import b64encode
from urllib.parse import urlsplit

import requests
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML

POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"

provider = os.environ["IDENTITY_PROVIDER"]
there = urlsplit(os.environ["ACS"])

metadata = requests.get(f"{provider}/saml/metadata", timeout=10).text
problem = OneLogin_Saml2_XML.validate_xml(metadata, "saml-schema-metadata-2.0.xsd")
if isinstance(problem, str):
    raise SystemExit(problem)
settings = {
    "strict": True,
    "sp": {
        "entityId": os.environ["ENTITY_ID"],
        "assertionConsumerService": {"url": os.environ["ACS"], "binding": POST},
        "NameIDFormat": PERSISTENT,
        "x509cert": os.environ["CERTIFICATE"],
        "privateKey": os.environ["KEY"],
    },
    "security": {
        "authnRequestsSigned": True, "wantAssertionsSigned": True, "wantMessagesSigned": True, "wantNameId": True,
        "rejectDeprecatedAlgorithm": True, "wantAttributeStatement": False,
    },
}  # fmt: skip
settings["idp"] = OneLogin_Saml2_IdPMetadataParser.parse(metadata)["idp"]


def request(form: dict[str, str]) -> dict[str, object]:
    """What the web framework knows of the request."""
    return {
        "https": "on", "http_host": there.netloc, "script_name": there.path, "get_data": {}, "post_data": form,
    }  # fmt: skip


own = OneLogin_Saml2_Settings(settings, sp_validation_only=True).get_sp_metadata()
print("METADATA", b64encode(own if isinstance(own, bytes) else own.encode()).decode(), flush=True)
input()

asking = OneLogin_Saml2_Auth(request({}), settings)
print("GO", asking.login(return_to="/shelf"), flush=True)

response, relay_state = input().split(" ")
answered = OneLogin_Saml2_Auth(request({"SAMLResponse": response, "RelayState": relay_state}), settings)
answered.process_response(request_id=asking.get_last_request_id())  # which this browser's session keeps
if answered.get_errors():
    raise SystemExit(f"{answered.get_errors()}: {answered.get_last_error_reason()}")
user = {
    "name_id": answered.get_nameid(), "session": answered.get_session_index(), "relay_state": relay_state,
    "attributes": {name: values[0] for name, values in answered.get_attributes().items()},
}  # fmt: skip
print("USER", json.dumps(user), flush=True)
