"""What signs for SAML: keys of its own beside those of tokens, each known by a certificate that it signed itself.

Applications are given a certificate by hand, so a new key is told in the metadata two weeks before it signs; keys of
ID tokens are turned without a word to anybody. A certificate is made of its key alone: every process, and the same
process tomorrow, makes the same one.
"""

import hashlib
import time
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

from services.auth.saml_responses import Keyed
from shared.errors import Unavailable
from shared.keys import Key, Signer, made_at
from shared.settings import Settings

SERVICE = "saml"  # of the files' names; they lie among auth's own
SIGNS_AFTER = timedelta(days=14)
COUNTS_FOR = timedelta(days=3652)
_LOOK_AGAIN_AFTER_S = 1.0


class SamlKeys:
    """The keys of this process, read again when their files change."""

    def __init__(self, settings: Settings) -> None:
        self._signer = Signer(settings.signing_key_dir, SERVICE, SIGNS_AFTER)
        self._looked_at = 0.0
        self._keyed: dict[str, Keyed] = {}  # by kid

    def all(self) -> list[Keyed]:
        """The one that signs, and those that will. Raises Unavailable when there is none."""
        if time.monotonic() - self._looked_at > _LOOK_AGAIN_AFTER_S:
            self._looked_at = time.monotonic()
            self._signer.refresh()
        keys = {str(key.kid): key for key in self._signer.keys("RS256")}
        if not keys:
            raise Unavailable("saml_key", retry_after_s=60)
        self._keyed = {kid: self._keyed.get(kid) or _certified(kid, key) for kid, key in keys.items()}
        return list(self._keyed.values())

    def current(self) -> Keyed:
        return self.all()[0]


def _certified(kid: str, key: Key) -> Keyed:
    private, since = key.raw_value, made_at(kid)
    assert isinstance(private, RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Homeroom SAML {kid}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(int.from_bytes(hashlib.sha256(kid.encode()).digest()[:16]) | 1)
        .not_valid_before(since)
        .not_valid_after(since + COUNTS_FOR)
        .sign(private, hashes.SHA256())  # PKCS #1 v1.5: nothing in it is random
    )
    return Keyed(private, certificate)
