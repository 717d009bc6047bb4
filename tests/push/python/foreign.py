"""Holds what cima sent to code that nobody here wrote, and sends to the fake push service with it.

    foreign.py CAPTURED.json

Each step prints a line that begins with "ok"; the first that fails ends it.
"""

import base64
import json
import sys
from urllib.parse import urlsplit

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from py_vapid import Vapid02
from pywebpush import webpush
from standardwebhooks import Webhook, WebhookVerificationError


def unbase64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def ok(what):
    print("ok", what)


def decrypts(captured):
    """http-ece opens the body that a browser would get."""
    private = int.from_bytes(unbase64(captured["private"]), "big")
    key = ec.derive_private_key(private, ec.SECP256R1())
    opened = http_ece.decrypt(
        unbase64(captured["body"]), private_key=key, auth_secret=unbase64(captured["auth"]), version="aes128gcm"
    )
    assert json.loads(opened) == captured["plain"], opened
    ok("http-ece decrypts a Web Push message of cima")


def verifies(captured):
    """py-vapid verifies who sent it."""
    assert Vapid02.verify(captured["authorization"])
    token = captured["authorization"].removeprefix("vapid t=").split(",")[0]
    claims = json.loads(unbase64(token.split(".")[1]))
    address = urlsplit(captured["endpoint"])
    assert claims["aud"] == f"{address.scheme}://{address.netloc}", claims
    ok("py-vapid verifies the signature of cima")
    head, payload, _ = token.split(".")
    forged = captured["authorization"].replace(payload, payload[:-2] + ("AA" if payload[-2:] != "AA" else "BB"))
    try:
        assert not Vapid02.verify(forged)
    except Exception:  # it has several ways to say no
        pass
    ok("py-vapid refuses a forged one")


def webhooks(captured):
    """standardwebhooks verifies, with either secret of a rotation."""
    for secret in captured["secrets"]:
        assert Webhook(secret).verify(captured["body"], captured["headers"])["type"] == "alert.emergency"
    ok("standardwebhooks verifies a webhook of cima with both secrets")
    try:
        Webhook(captured["secrets"][0]).verify(captured["body"] + " ", captured["headers"])
    except WebhookVerificationError:
        ok("standardwebhooks refuses a changed one")
    else:
        raise AssertionError("a changed body was taken")


def sends(captured):
    """pywebpush is served by the fake push service."""
    key = load_pem_private_key(captured["vapid"].encode(), None)
    answer = webpush(
        captured["subscription"],
        data=captured["text"],
        vapid_private_key=Vapid02(private_key=key),
        vapid_claims={"sub": "mailto:foreign@example.org"},
        ttl=60,
        headers={"urgency": "high", "topic": "foreign"},
    )
    assert answer.status_code == 201, answer
    ok("the fake push service takes a message of pywebpush")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        captured = json.load(file)
    decrypts(captured["webpush"])
    verifies(captured["webpush"])
    webhooks(captured["webhook"])
    sends(captured["sender"])


main()
