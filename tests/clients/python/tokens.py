"""Access tokens as a stranger sees them: checked against the published key, and forged in the ways that must fail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def claims_checked_with(jwks: dict[str, Any], token: str) -> dict[str, Any]:
    """The claims of a token whose signature one of the published keys verifies; raises if none does."""
    head, body, signature = token.split(".")
    header = json.loads(_decode(head))
    assert header["alg"] == "EdDSA", header
    key = next(key for key in jwks["keys"] if key["kid"] == header["kid"])
    Ed25519PublicKey.from_public_bytes(_decode(key["x"])).verify(_decode(signature), f"{head}.{body}".encode())
    return json.loads(_decode(body))


def forgeries(jwks: dict[str, Any], token: str) -> dict[str, str]:
    """Copies of a good token that no server may believe, by what is wrong with them."""
    head, body, signature = token.split(".")
    header = json.loads(_decode(head))
    signed = f"{head}.{body}".encode()
    unsigned = _encode(json.dumps(header | {"alg": "none"}).encode()) + "." + body
    shared = _encode(json.dumps(header | {"alg": "HS256"}).encode()) + "." + body
    public = _decode(jwks["keys"][0]["x"])
    someone_else = json.loads(_decode(body)) | {"sub": "0190a000-0000-7000-8000-000000000000"}
    return {
        "signed by another key": f"{head}.{body}.{_encode(Ed25519PrivateKey.generate().sign(signed))}",
        "alg none": f"{unsigned}.",
        "the public key used as a shared secret": f"{shared}.{_encode(_hs256(public, shared))}",
        "the claims of someone else": f"{head}.{_encode(json.dumps(someone_else).encode())}.{signature}",
    }


def _hs256(secret: bytes, text: str) -> bytes:
    return hmac.new(secret, text.encode(), hashlib.sha256).digest()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
