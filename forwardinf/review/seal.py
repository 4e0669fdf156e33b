"""Who made a pack, and when: a signature by a key of one's own (Ed25519), and a time stamp by a server (RFC 3161)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from rfc3161_client import TimestampRequestBuilder, VerificationError, VerifierBuilder, decode_timestamp_response

from ..errors import DamagedAsset, InvalidSettings
from ..files.identity import canonical

PATIENCE = 30.0  # seconds for the time stamp server's answer
LARGEST_ANSWER = 1 << 20  # bytes


def load_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file; raises InvalidSettings where there is none that signs by Ed25519."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidSettings(f"The signing key “{path.name}” cannot be read: use PEM, no password.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidSettings(f"“{path.name}” is no Ed25519 key. Make one by `openssl genpkey -algorithm ed25519`.")
    return key


def load_public_key(path: Path) -> str:
    """The hexadecimal digits of a public key in a PEM file; raises InvalidSettings."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"The public key “{path.name}” cannot be read as PEM.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidSettings(f"“{path.name}” is no Ed25519 public key.")
    return key.public_bytes_raw().hex()


def signature_of(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature of a manifest with the public key that it can be checked by, as JSON; the same for the same key."""
    return _as_json(key.public_key().public_bytes_raw(), key.sign(manifest))


def _as_json(public: bytes, signature: bytes) -> bytes:
    return canonical({"algorithm": "Ed25519", "public_key": public.hex(), "signature": signature.hex()})


def signer_of(manifest: bytes, signature: bytes) -> str:
    """The public key (hexadecimal) whose signature of the manifest this is; raises DamagedAsset where it is none."""
    try:
        fields = json.loads(signature)
        public, sealed = bytes.fromhex(fields["public_key"]), bytes.fromhex(fields["signature"])
        Ed25519PublicKey.from_public_bytes(public).verify(sealed, manifest)
    except (InvalidSignature, ValueError, KeyError, TypeError) as error:
        raise DamagedAsset("The signature is not one of this manifest.") from error
    if signature != _as_json(public, sealed):
        raise DamagedAsset("The file of the signature is not as it was written.")
    return public.hex()


def stamped(manifest: bytes, server: str) -> bytes:
    """The time stamp that a server gives a manifest, of which it sees the SHA-256 alone; raises InvalidSettings."""
    request = TimestampRequestBuilder().data(manifest).build()
    asked = urllib.request.Request(
        server,
        request.as_bytes(),
        {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            token: bytes = answer.read(LARGEST_ANSWER)
        decode_timestamp_response(token)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InvalidSettings(
            f"The time stamp server gave no usable answer ({error}). Check FORWARDINF_TIMESTAMP_URL, or unset it."
        ) from error
    return token


def stamped_at(manifest: bytes, token: bytes, authority: Path | None) -> str:
    """When a manifest was stamped, in ISO 8601; raises DamagedAsset where the stamp is of something else.

    With the certificate of an `authority` (PEM), the stamp must be one of a server that it certified.
    """
    try:
        response = decode_timestamp_response(token)
        told, made = response.tst_info.message_imprint, response.tst_info.gen_time
        if bytes(told.message) != _imprint(manifest, told.hash_algorithm.dotted_string):
            raise DamagedAsset("The time stamp is of another manifest.")
        if authority is not None:
            root = x509.load_pem_x509_certificate(authority.read_bytes())
            VerifierBuilder().add_root_certificate(root).build().verify_message(response, manifest)
    except (ValueError, VerificationError) as error:
        raise DamagedAsset(f"The time stamp cannot be verified: {error}") from error
    except OSError as error:
        raise InvalidSettings(
            f"The certificate of the time stamp’s authority cannot be read: {error.strerror}"
        ) from error
    return made.isoformat().replace("+00:00", "Z")


def _imprint(manifest: bytes, algorithm: str) -> bytes:
    import hashlib

    names = {"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512"}
    if algorithm not in names:
        raise DamagedAsset("The time stamp uses a hash that is not known here.")
    return hashlib.new(names[algorithm], manifest).digest()
