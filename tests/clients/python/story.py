"""One story of two people, played through cima's public contract: Ada is in danger, Bo is the one she trusts.

    python story.py --url http://127.0.0.1:8080 [--contact-url http://127.0.0.1:8081]

`--contact-url` lets Bo talk to another node than Ada.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from cima import Answer, Api, Fix, Frame, Mark, Phone, Stream, Unexpected
from tokens import claims_checked_with, forgeries

HOME = (59.3293, 18.0686)
"""Ada's home, degrees north and east; her fence is a circle around it."""

FENCE_RADIUS_M = 150
METRES_PER_DEGREE = 111_200
PASSWORD = "correct horse battery staple"


# --- telling the story -------------------------------------------------------------------------------------------


@contextmanager
def step(what: str) -> Iterator[None]:
    """One step: a line when it passed, its reason when it did not."""
    began = time.monotonic()
    try:
        yield
    except Exception as reason:
        print(f"FAIL python  {what}\n     {type(reason).__name__}: {reason}", file=sys.stderr, flush=True)
        raise SystemExit(1) from reason
    print(f"ok   python  {what} ({1000 * (time.monotonic() - began):.0f} ms)", flush=True)


def check(holds: Any, otherwise: str, seen: Any) -> None:
    """Fails with what was expected and what was seen instead."""
    if not holds:
        raise Unexpected(f"{otherwise}; seen: {seen}")


def is_problem(answer: Answer, status: int, code: str) -> None:
    """Checks a refusal: RFC 9457, with the contract's stable word."""
    seen = (answer.status, answer.content_type, answer.body)
    check(answer.status == status, f"expected {status} {code}", seen)
    check(answer.content_type.startswith("application/problem+json"), "expected application/problem+json", seen)
    problem = answer.json()
    check(problem["code"] == code and problem["status"] == status, f"expected {status} {code}", seen)


def emergency_id(answer: Frame) -> str:
    """The emergency an answer speaks of, whether it names it or shows it whole."""
    emergency = answer["emergency"]
    return emergency["id"] if isinstance(emergency, dict) else emergency


def of(emergency: str, **fields: Any) -> Any:
    """A condition on `alert` and `emergency` frames: of this emergency, with these fields."""

    def matches(frame: Frame) -> bool:
        shown = frame["emergency"] if isinstance(frame.get("emergency"), dict) else frame
        same = emergency in (shown.get("id"), shown.get("emergency"))
        return same and all(shown.get(field) == value for field, value in fields.items())

    return matches


# --- the people --------------------------------------------------------------------------------------------------


@dataclass
class Device:
    """One sign-in of a person: its tokens, and its socket once it is open."""

    id: str
    api: Api
    access_token: str
    distress_token: str
    stream: Stream | None = None
    phone: Phone | None = None

    async def open(self) -> Frame:
        """Opens the socket and waits for its `welcome`."""
        self.stream = await Stream.open(self.api.url, self.access_token)
        welcome = await self.stream.expect("welcome", after=self.stream.opened)
        self.phone = Phone(self.stream, welcome)
        return welcome


class Person:
    """Someone with a fresh handle."""

    def __init__(self, url: str, name: str):
        self.door = Api(url)
        self.name = name
        self.handle = f"{name.lower()}_{secrets.token_hex(6)}"
        self.id = ""

    async def sign_up(self) -> None:
        account = {"handle": self.handle, "password": PASSWORD, "display_name": self.name}
        made = await self.door.call("POST", "/v1/accounts", account, status=201)
        check(made["handle"] == self.handle and made["display_name"] == self.name, "not the account asked for", made)
        self.id = made["user_id"]

    async def sign_in(self, device: str, platform: str) -> Device:
        login = {"handle": self.handle, "password": PASSWORD, "device": {"name": device, "platform": platform}}
        session = await self.door.call("POST", "/v1/sessions", login, status=201)
        check(session["user_id"] == self.id, "a session of somebody else", session["user_id"])
        check(600 <= session["expires_in"] <= 900, "access tokens live 10 to 15 min", session["expires_in"])
        token = session["access_token"]
        return Device(session["device_id"], self.door.as_bearer(token), token, session["distress_token"])


@dataclass
class Story:
    """What the chapters hand on."""

    ada: Person
    bo: Person
    adas: Device
    bos: Device
    hidden: bytes = b""
    link: str = ""
    fence: str = ""
    first_cursor: int = 0

    async def position_is_hidden(self) -> None:
        """Bo gets the same bytes for every reason not to see Ada."""
        answer = await self.bos.api.send("GET", f"/v1/people/{self.ada.id}/location")
        is_problem(answer, 404, "not_available")
        self.hidden = self.hidden or answer.body
        check(answer.body == self.hidden, f"a refusal that differs from the first, {self.hidden!r}", answer.body)

    async def watch(self) -> Mark:
        asked = self.bos.stream.now()
        await self.bos.stream.send({"type": "watch", "user": self.ada.id})
        return asked


def north_of_home(metres: float) -> tuple[float, float]:
    return HOME[0] + metres / METRES_PER_DEGREE, HOME[1]


def walk(phone: Phone, from_m: float, to_m: float, began: datetime, fixes: int) -> list[Fix]:
    """Half a minute of walking along the meridian of home."""
    parts = [n / fixes for n in range(fixes)]
    return [
        phone.fix(*north_of_home(from_m + part * (to_m - from_m)), fixed_at=began + timedelta(seconds=30 * part))
        for part in parts
    ]


def steps_at_home(phone: Phone, fixes: int = 3) -> list[Fix]:
    """A few fixes of now, metres from each other."""
    return [phone.fix(*north_of_home(2 * n)) for n in range(fixes)]


# --- chapter 1: two people and a link ----------------------------------------------------------------------------


async def meet(url: str, contact_url: str) -> Story:
    ada, bo = Person(url, "Ada"), Person(contact_url, "Bo")
    with step("sign up two people"):
        await ada.sign_up()
        await bo.sign_up()
    with step("a handle that is taken is a conflict, whatever its case"):
        again = {"handle": ada.handle.upper(), "password": PASSWORD, "display_name": "Not Ada"}
        is_problem(await ada.door.send("POST", "/v1/accounts", again), 409, "conflict")
    with step("sign in on a device each"):
        story = Story(ada, bo, await ada.sign_in("Ada's phone", "android"), await bo.sign_in("Bo's phone", "ios"))
    with step("the access token verifies against the published key"):
        jwks = await ada.door.call("GET", "/.well-known/jwks.json")
        claims = claims_checked_with(jwks, story.adas.access_token)
        expected = {"sub": ada.id, "did": story.adas.id, "aud": "cima"}
        check(expected.items() <= claims.items(), f"claims without {expected}", claims)

    with step("Ada asks Bo to be her contact"):
        wish = {"contact": bo.handle, "scopes": ["alerts", "emergency_location"], "tier": 1}
        link = await story.adas.api.call("POST", "/v1/links", wish, status=201, idempotency_key=str(uuid4()))
        check(link["state"] == "pending" and sorted(link["scopes"]) == wish["scopes"], "not the link asked for", link)
        check((link["subject"], link["contact"]) == (ada.id, bo.id), "a link between others", link)
        story.link = link["id"]
    with step("before he accepts, Bo sees nothing"):
        await story.position_is_hidden()
    with step("Bo finds the link and accepts it"):
        asked = await story.bos.api.pages("/v1/links?role=contact")
        check([link["id"] for link in asked] == [story.link], "expected the one link", asked)
        await story.bos.api.call("POST", f"/v1/links/{story.link}/accept")
        links = await story.adas.api.pages("/v1/links?role=subject")
        check([(link["id"], link["state"]) for link in links] == [(story.link, "active")], "not in force", links)
    return story


# --- chapter 2: a fence ------------------------------------------------------------------------------------------


async def come_home(story: Story) -> None:
    with step("Ada draws a circle around her home"):
        fence = {
            "id": str(uuid4()),
            "name": "home",
            "shape": {"type": "Circle", "center": [HOME[1], HOME[0]], "radius_m": FENCE_RADIUS_M},
            "triggers": ["enter", "exit"],
        }
        made = await story.adas.api.call("POST", "/v1/geofences", fence, status=201)
        check(made["id"] == fence["id"] and made["name"] == "home", "not the fence asked for", made)
        story.fence = made["id"]
    with step("both open the stream and are welcomed"):
        for device in (story.adas, story.bos):
            is_welcome(await device.open())
        story.first_cursor = story.bos.stream.cursor

    phone, bo = story.adas.phone, story.bos.stream
    began = datetime.now(UTC) - timedelta(seconds=60)
    with step("Ada's fixes outside the fence are acked, two windows full of them"):
        acked = await phone.send(walk(phone, 400, 250, began, fixes=2 * phone.window))
        check(acked == phone.seq, f"expected `acked` {phone.seq}", acked)
    at_home = bo.now()
    with step("Ada's fixes inside the fence are acked"):
        acked = await phone.send(walk(phone, 120, 0, began + timedelta(seconds=30), fixes=5))
        check(acked == phone.seq, f"expected `acked` {phone.seq}", acked)
    with step("Bo is told that Ada entered"):
        alert = await bo.expect("alert", lambda f: f.get("geofence") == story.fence and f.get("cursor"), after=at_home)
        check((alert.get("transition"), alert["subject"]) == ("enter", story.ada.id), "not Ada entering", alert)
        check(alert["cursor"] > story.first_cursor, "a cursor beyond the one of `welcome`", alert)
        check(alert["title"] and alert["body"] and alert["template"], "an alert without text", alert)
    with step("Bo's phone acknowledges: received, then seen"):
        for state in ("received", "seen"):
            await bo.send({"type": "ack", "alert": alert["id"], "state": state})
        await bo.settle()
        bo.refuse("error", after=alert)
        await story.bos.api.call("POST", f"/v1/alerts/{alert['id']}/ack", {"state": "seen"})
    with step("an alert shows no position: Bo's watch is refused, his GET gets the first bytes"):
        await bo.expect("unavailable", lambda f: f["user"] == story.ada.id, after=await story.watch())
        await story.position_is_hidden()


def is_welcome(welcome: Frame) -> None:
    """Checks the fields of the first frame."""
    for field in ("last_seq", "cursor", "window", "heartbeat_s"):
        check(isinstance(welcome.get(field), int), f"`welcome` without a number in `{field}`", welcome)
    check(isinstance(welcome.get("session"), str), "`welcome` without `session`", welcome)
    in_ms = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", welcome["now"])
    check(in_ms, "`now` in RFC 3339, UTC, milliseconds", welcome["now"])
    check(welcome["window"] > 0 and welcome["heartbeat_s"] > 0, "a window and a heartbeat above 0", welcome)
    check(welcome["last_seq"] == 0, "`last_seq` 0 for a device that has sent nothing", welcome)


# --- chapter 3: an emergency over the socket ---------------------------------------------------------------------


async def sos(story: Story) -> None:
    ada, bo, phone = story.adas.stream, story.bos.stream, story.adas.phone
    raise_frame = {"type": "emergency", "id": str(uuid4()), "kind": "sos", "fix": phone.fix(*north_of_home(10))}
    raised_at = bo.now()
    with step("Ada raises an SOS over the socket"):
        accepted = await raise_over_socket(ada, raise_frame)
        emergency = emergency_id(accepted)
        check(emergency == raise_frame["id"] and accepted["state"] == "active", "not her emergency", accepted)
        check(1 <= accepted["copies"] <= accepted["copies_max"], "no durable copy", accepted)
    with step("the same frame again is the same emergency"):
        again = await raise_over_socket(ada, raise_frame)
        check(emergency_id(again) == emergency and not again.get("joined"), "another emergency", again)
    with step("Bo is told: an alert and the state"):
        alert = await bo.expect(
            "alert", lambda f: of(emergency, kind="emergency")(f) and f.get("cursor"), after=raised_at
        )
        state = await bo.expect("emergency", of(emergency, state="active"), after=raised_at)
        check(state["emergency"]["subject"] == story.ada.id, "not Ada's", state)
        check("deliveries" not in state["emergency"], "`deliveries` are for the subject only", state)
    with step("Bo watches Ada and gets the newest fix first"):
        position = await bo.expect("position", after=await story.watch())
        check((position["user"], position["basis"]) == (story.ada.id, "emergency"), "not by emergency", position)
        check(position["device"] == story.adas.id, "another device", position)
        check(position["fix"]["seq"] == raise_frame["fix"]["seq"], "not the fix of the SOS", position)
    with step("live positions follow as Ada moves"):
        await follows_live(story)
    with step("Bo claims: Ada sees that he is on it"):
        seen = ada.now()
        await story.bos.api.call("POST", f"/v1/emergencies/{emergency}/claim")
        await ada.expect("emergency", lambda f: of(emergency)(f) and claimed_by(f, story.bo.id), after=seen)
    with step("Ada sees how far the alert has come, Bo does not"):
        await bo.send({"type": "ack", "alert": alert["id"], "state": "seen"})
        await bo.settle()
        own = await story.adas.api.call("GET", f"/v1/emergencies/{emergency}", status=200)
        check(story.bo.id in str(own.get("deliveries")), "no delivery to Bo", own)
        told = await story.bos.api.call("GET", f"/v1/emergencies/{emergency}", status=200)
        check("deliveries" not in told, "`deliveries` are for the subject only", told)
    with step("Bo can ask for the position and the trail"):
        where = await story.bos.api.call("GET", f"/v1/people/{story.ada.id}/location", status=200)
        check((where["user"], where["basis"]) == (story.ada.id, "emergency"), "not by emergency", where)
        check((where["device"], where["fix"]["seq"]) == (story.adas.id, phone.seq), "not the newest fix", where)
        check("received_at" in where, "no `received_at`", where)
        trail = await story.bos.api.call("GET", f"/v1/people/{story.ada.id}/track", status=200)
        check(trail["type"] == "FeatureCollection" and trail["features"], "an empty trail", trail)

    with step("Ada is safe: within 2 s Bo is told and the positions end"):
        ended_at = bo.now()
        await story.adas.api.call("POST", f"/v1/emergencies/{emergency}/resolve", {})
        unavailable = await no_longer_available(story, ended_at)
        await bo.expect("emergency", of(emergency, state="resolved"), after=ended_at, within=2)
    with step("Ada streams on, Bo sees none of it"):
        await phone.send(steps_at_home(phone))
        await story.position_is_hidden()
        await bo.settle()
        bo.refuse("position", after=unavailable)
    with step("Ada can read that Bo has seen her"):
        seen_by = await story.adas.api.pages("/v1/me/disclosures")
        mine = [row for row in seen_by if (row["viewer"], row["basis"]) == (story.bo.id, "emergency")]
        check([row["emergency"] for row in mine] == [emergency], "expected one row for Bo", seen_by)

    await second_emergency(story, unavailable)


async def raise_over_socket(stream: Stream, frame: Frame) -> Frame:
    asked = stream.now()
    await stream.send(frame)
    return await stream.expect("accepted", lambda f: f.get("id") == frame["id"], after=asked)


def claimed_by(frame: Frame, user: str) -> bool:
    return user in str(frame["emergency"].get("claims"))


async def follows_live(story: Story) -> None:
    """Bo gets Ada's newest fix soon after it was sent; the ones between may be left out."""
    sent = story.bos.stream.now()
    await story.adas.phone.send(steps_at_home(story.adas.phone))
    newest = story.adas.phone.seq
    position = await story.bos.stream.expect("position", lambda f: f["fix"]["seq"] == newest, after=sent)
    check(position["basis"] == "emergency", "not by emergency", position)


async def no_longer_available(story: Story, ended_at: Mark) -> Frame:
    return await story.bos.stream.expect(
        "unavailable", lambda f: f["user"] == story.ada.id, after=ended_at, within=2
    )


# --- chapter 4: an emergency full of garbage, and the end of trust -----------------------------------------------


async def second_emergency(story: Story, unavailable: Frame) -> None:
    bo, phone = story.bos.stream, story.adas.phone
    raised_at = bo.now()
    with step("a raise full of garbage is a raise"):
        garbage = {"kind": "dragon", "colour": ["red"], "countdown_s": "soon", "fix": {"lat": "north", "seq": -1}}
        raised = await story.adas.api.call("POST", "/v1/emergencies", garbage, status=201)
        emergency = emergency_id(raised)
        check("fix" in str(raised.get("notes")), "the bad fix is not named in `notes`", raised)
        check(1 <= raised["copies"] <= raised["copies_max"], "no durable copy", raised)
        shown = await story.adas.api.call("GET", f"/v1/emergencies/{emergency}", status=200)
        check((shown["kind"], shown["state"]) == ("other", "active"), "not active, or not `other`", shown)
    with step("Bo is told, watches again, and had seen nothing in between"):
        await bo.expect("alert", of(emergency, kind="emergency"), after=raised_at)
        watched_at = await story.watch()
        bo.refuse("position", after=unavailable, before=watched_at)
        position = await bo.expect("position", after=watched_at)
        check((position["fix"]["seq"], position["basis"]) == (phone.seq, "emergency"), "not the newest fix", position)
        await follows_live(story)
    with step("Ada ends the link in mid-emergency: within 2 s Bo sees nothing"):
        ended_at = bo.now()
        await story.adas.api.call("DELETE", f"/v1/links/{story.link}")
        unavailable = await no_longer_available(story, ended_at)
        await story.position_is_hidden()
        await phone.send(steps_at_home(phone))
        await bo.settle()
        bo.refuse("position", after=unavailable)
    with step("the emergency and the link are gone for Bo"):
        is_problem(await story.bos.api.send("GET", f"/v1/emergencies/{emergency}"), 404, "not_found")
        links = await story.bos.api.pages("/v1/links?role=contact")
        check(not links, "the ended link is still listed", links)
    with step("Ada cancels"):
        await story.adas.api.call("POST", f"/v1/emergencies/{emergency}/cancel", {})
        shown = await story.adas.api.call("GET", f"/v1/emergencies/{emergency}", status=200)
        check(shown["state"] == "cancelled", "not cancelled", shown)


# --- chapter 5: Bo's phone was away ------------------------------------------------------------------------------


async def catch_up(story: Story) -> None:
    await story.bos.stream.close()
    with step("after a reconnect, a resume replays the inbox without gaps"):
        welcome = await story.bos.open()
        replayed, resumed = await story.bos.stream.resume(story.first_cursor)
        check(resumed["complete"] is True, "not complete", resumed)
        cursors = [alert["cursor"] for alert in replayed]
        check(cursors == list(range(story.first_cursor + 1, welcome["cursor"] + 1)), "gaps", cursors)
        check(cursors, "nothing was replayed", welcome)
    with step("the inbox over HTTP is the same"):
        listed = await story.bos.api.pages(f"/v1/alerts?after={story.first_cursor}")
        same = [(alert["cursor"], alert["id"]) for alert in listed]
        check(same == [(alert["cursor"], alert["id"]) for alert in replayed], "another inbox", same)


# --- chapter 6: a stolen phone -----------------------------------------------------------------------------------


async def replace_the_phone(story: Story) -> None:
    stolen = story.adas
    with step("Ada signs in on a second device"):
        story.adas = await story.ada.sign_in("Ada's new phone", "ios")
        check(story.adas.id != stolen.id, "the same device", story.adas.id)
    with step("she removes the first: its socket closes with 4403 within a second, its token gets 401"):
        removed_at = stolen.stream.now()
        await story.adas.api.call("DELETE", f"/v1/devices/{stolen.id}")
        code = await stolen.stream.closed(after=removed_at, within=1)
        check(code == 4403, "expected close code 4403", code)
        is_problem(await stolen.api.send("GET", "/v1/me"), 401, "unauthenticated")
    with step("a distress token raises, and reads nothing"):
        distress = story.ada.door.as_bearer(story.adas.distress_token)
        raised = await distress.call("POST", "/v1/emergencies", {"id": str(uuid4()), "kind": "silent"}, status=201)
        is_problem(await distress.send("GET", "/v1/me"), 403, "forbidden")
        await story.adas.api.call("POST", f"/v1/emergencies/{emergency_id(raised)}/cancel", {})


# --- chapter 7: bad input ----------------------------------------------------------------------------------------


async def misbehave(story: Story) -> None:
    with step("the new phone opens the stream"):
        is_welcome(await story.adas.open())
    ada, phone = story.adas.stream, story.adas.phone
    with step("a truncated frame gets an `error`, and the socket lives on"):
        sent = ada.now()
        await ada.send_text('{"type":"fixes","fixes":[{"seq":1,')
        error = await ada.expect("error", after=sent)
        check(isinstance(error.get("code"), str), "an error without a code", error)
        await phone.send(steps_at_home(phone, 1))
    with step("latitude 91 is rejected by its seq, the fix beside it is kept"):
        sent = ada.now()
        bad, good = phone.fix(91, 18), phone.fix(*HOME)
        acked = await phone.send([bad, good])
        rejected = await ada.expect("rejected", after=sent)
        check((rejected["seq"], rejected["code"]) == (bad["seq"], "out_of_range"), "another refusal", rejected)
        check(acked == good["seq"], f"expected `acked` {good['seq']}", acked)
    with step("a frame of 1 MB closes the socket with 1009"):
        sent = ada.now()
        await ada.send({"type": "fixes", "fixes": [], "padding": "x" * 1_000_000})
        code = await ada.closed(after=sent, within=5)
        check(code == 1009, "expected close code 1009", code)
    with step("forged tokens open neither door"):
        door = story.ada.door
        for what, forged in forgeries(await door.call("GET", "/.well-known/jwks.json"), story.adas.access_token).items():
            answer = await door.as_bearer(forged).send("GET", "/v1/me")
            check(answer.status == 401, f"{what}: expected 401 from GET /v1/me", answer)
            status = await Stream.refused_with(door.url, forged)
            check(status == 401, f"{what}: expected 401 at the upgrade", status)
    with step("the good token still works"):
        me = await story.adas.api.call("GET", "/v1/me", status=200)
        check(me["display_name"] == "Ada", "not Ada", me)


async def play(url: str, contact_url: str) -> None:
    story = await meet(url, contact_url)
    await come_home(story)
    await sos(story)
    await catch_up(story)
    await replace_the_phone(story)
    await misbehave(story)
    await story.bos.stream.close()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", required=True, help="the node of Ada, who is in danger")
    arguments.add_argument("--contact-url", help="the node of Bo, her contact; default: the same")
    given = arguments.parse_args()
    asyncio.run(play(given.url, given.contact_url or given.url))
