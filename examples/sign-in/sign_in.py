"""Sign somebody in with Authlib: `pip install authlib requests`, then
`ISSUER=… CLIENT_ID=… CLIENT_SECRET=… REDIRECT_URI=… AFTER=… python sign_in.py`.

It prints the address to open, and reads the address that the browser came back to.
"""

import json
import os
import secrets

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet

env = os.environ
found = requests.get(f"{env['ISSUER']}/.well-known/openid-configuration", timeout=10).json()
assert found["issuer"] == env["ISSUER"]
app = OAuth2Session(
    env["CLIENT_ID"],
    env["CLIENT_SECRET"],
    redirect_uri=env["REDIRECT_URI"],
    scope="openid profile offline_access",
    code_challenge_method="S256",
    token_endpoint=found["token_endpoint"],
)
verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
go, state = app.create_authorization_url(found["authorization_endpoint"], code_verifier=verifier, nonce=nonce)
print("GO", go, flush=True)


def verified(token, nonce=None):
    """The claims of an ID token; keys are asked for anew, since they rotate."""
    keys = KeySet.import_key_set(requests.get(found["jwks_uri"], timeout=10).json())
    opened = jwt.decode(token["id_token"], keys, algorithms=["RS256"])
    claims = CodeIDToken(
        opened.claims,
        opened.header,
        params={"nonce": nonce, "access_token": token["access_token"]},
        options={"iss": {"value": env["ISSUER"]}, "aud": {"value": env["CLIENT_ID"]}},
    )
    claims.validate()
    return claims


back = input()  # the address that the browser came back to
token = app.fetch_token(authorization_response=back, state=state, code_verifier=verifier)
verified(token, nonce)
print("USER", json.dumps(app.get(found["userinfo_endpoint"]).json()), flush=True)

input()  # later
token = app.refresh_token(found["token_endpoint"], refresh_token=token["refresh_token"])
print("AGAIN", verified(token)["sub"], flush=True)
print(
    "OUT",
    f"{found['end_session_endpoint']}?id_token_hint={token['id_token']}&post_logout_redirect_uri={env['AFTER']}",
)
