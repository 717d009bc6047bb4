"""Holds what cima sent to code that nobody here wrote, and sends to the fakes with it.

    foreign.py CAPTURED.json

Each step prints a line that begins with "ok"; the first that fails ends it.
"""

import asyncio
import base64
import json
import ssl
import sys
import time
import warnings
from urllib.parse import urlsplit

import firebase_admin
import http_ece
from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsProductionClientProtocol
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from firebase_admin import credentials, messaging
from google.auth.exceptions import RefreshError
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


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def apns_client(captured, key):
    """aioapns, which is told where APNs is through a class; the port and the authority are all that is not Apple's."""

    class Here(APNsProductionClientProtocol):
        APNS_SERVER = captured["host"]
        APNS_PORT = captured["port"]

    async def quiet(*_):
        pass

    client = APNs(
        key=key,
        key_id=captured["key_id"],
        team_id=captured["team_id"],
        topic=captured["topic"],
        ssl_context=ssl.create_default_context(cadata=captured["authority"]),
        max_connection_attempts=1,
        err_func=quiet,
    )
    client.pool.protocol_class = Here
    return client


async def notifies(captured):
    """aioapns is served by the fake of APNs. The test has told the fake what to say to the first two."""
    client = apns_client(captured, captured["key"])

    async def says(token=captured["token"], client=client, text=captured["text"], **options):
        request = NotificationRequest(token, {"aps": {"alert": text}}, **options)
        answer = await asyncio.wait_for(client.send_notification(request), 10)
        assert answer.notification_id == request.notification_id
        return answer.status, answer.description, answer.timestamp

    said = await says()
    assert said == ("410", "Unregistered", captured["since"]), said
    ok("aioapns reads of the fake of APNs since when a token is gone")
    said = await says()
    assert said == ("429", "TooManyRequests", None), said
    ok("aioapns reads that it is too fast")
    said = await says()
    assert said == ("200", None, None), said
    said = await says(priority=10, time_to_live=60, collapse_key="foreign", push_type=PushType.ALERT)
    assert said == ("200", None, None), said
    ok("the fake of APNs takes notifications of aioapns, with what is optional and without")
    said = await says(token="no-token")
    assert said == ("400", "BadDeviceToken", None), said
    said = await says(priority=7)
    assert said == ("400", "BadPriority", None), said
    said = await says(text="a" * 4096)
    assert said == ("413", "PayloadTooLarge", None), said
    ok("aioapns reads what is wrong with a token, a header and a payload")
    forger = apns_client(captured, pem(ec.generate_private_key(ec.SECP256R1())))
    said = await says(client=forger)
    assert said == ("403", "InvalidProviderToken", None), said
    ok("aioapns is refused with another's key")
    forger.pool.close()
    client.pool.close()


def messages(captured):
    """firebase-admin is served by the fake of FCM and its token endpoint. The fake knows what to say to the first."""
    # cima sends to registration tokens; firebase-admin would rather have installation ids.
    warnings.filterwarnings("ignore", "Message.token is deprecated")
    # Where FCM is, is no option of firebase-admin.
    messaging._MessagingService.FCM_URL = captured["url"] + "/v1/projects/{0}/messages:send"
    message = messaging.Message(token="foreign", data={"text": captured["text"]})
    full = messaging.Message(
        token="foreign",
        notification=messaging.Notification(title="a title", body="a body"),
        data={"text": captured["text"]},
        android=messaging.AndroidConfig(priority="high", ttl=1.5, collapse_key="foreign"),
    )
    firebase_admin.initialize_app(credentials.Certificate(captured["credentials"]))

    def refused(kind, code):
        try:
            messaging.send(message)
        except kind as error:
            assert error.code == code, error.code
        else:
            raise AssertionError(f"no {kind.__name__}")

    refused(messaging.UnregisteredError, "NOT_FOUND")
    ok("firebase-admin reads of the fake of FCM that a token is gone")
    refused(messaging.QuotaExceededError, "RESOURCE_EXHAUSTED")
    ok("firebase-admin reads that it is too fast")
    start = time.monotonic()
    messaging.send(message)
    assert time.monotonic() - start >= 1
    ok("firebase-admin waits as long as it is told to and is served then")
    assert messaging.send(full).startswith("projects/safe-test/messages/")
    ok("the fake of FCM takes messages of firebase-admin, with what is optional and without")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = credentials.Certificate({**captured["credentials"], "private_key": pem(key)})
    try:
        messaging.send(message, app=firebase_admin.initialize_app(forged, name="forger"))
    except RefreshError as error:
        assert "invalid_grant" in str(error), error
        ok("firebase-admin gets no access token with another's key")
    else:
        raise AssertionError("another's key was taken")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        captured = json.load(file)
    decrypts(captured["webpush"])
    verifies(captured["webpush"])
    webhooks(captured["webhook"])
    sends(captured["sender"])
    asyncio.run(notifies(captured["apns"]))
    messages(captured["fcm"])


main()
