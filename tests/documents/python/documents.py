"""Holds a running server to its documents: python documents.py http://127.0.0.1:8080

The OpenAPI document must be valid, its page must need nothing from elsewhere, and whatever schemathesis sends, no
answer may be a 500 or differ from the document. Each run has people of its own, so it can be repeated.
"""

import json
import os
import re
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

import requests
from openapi_spec_validator import OpenAPIV31SpecValidator

URL = sys.argv[1].rstrip("/")
PROVE = os.environ.get("CIMA_PROVE") == "1"
EXAMPLES = 100 if PROVE else 15
CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
          "response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth")
PASSWORD = "correct horse battery"
HTTP = requests.Session()


def call(method, path, token=None, body=None, expect=(200, 201, 204)):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = HTTP.request(method, URL + path, json=body, headers=headers, timeout=20)
    assert answer.status_code in expect, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


class Person:
    """Somebody with an account and a session."""

    def __init__(self, name):
        self.handle = f"{name}_{uuid.uuid4().hex[:12]}"
        account = {"handle": self.handle, "password": PASSWORD, "display_name": name}
        self.id = call("POST", "/v1/accounts", body=account)["user_id"]
        signed_in = {"handle": self.handle, "password": PASSWORD, "device": {"name": "phone", "platform": "other"}}
        session = call("POST", "/v1/sessions", body=signed_in)
        self.device, self.token = session["device_id"], session["access_token"]
        self.distress, self.refresh = session["distress_token"], session["refresh_token"]


class World:
    """A subject with a fence, a track and an open emergency, and a contact who has been told of it."""

    def __init__(self):
        self.subject, self.contact, other = Person("subject"), Person("contact"), Person("other")
        subject, contact = self.subject, self.contact
        scopes = ["alerts", "emergency_location", "live_location", "zones"]
        links = [call("POST", "/v1/links", subject.token, {"contact": to.handle, "scopes": scopes})["id"]
                 for to in (contact, other)]
        call("POST", f"/v1/links/{links[0]}/accept", contact.token)
        now = datetime.now(timezone.utc).isoformat()
        fixes = [{"seq": n, "lat": 48.2, "lon": 16.37, "fixed_at": now, "accuracy_m": 5, "battery": 0.5}
                 for n in range(1, 4)]
        call("POST", "/v1/locations", subject.token, {"fixes": fixes})
        circle = {"type": "Circle", "center": [16.37, 48.2], "radius_m": 150}
        fence = {"name": "school", "shape": circle, "triggers": ["enter", "exit"]}
        fences = [call("POST", "/v1/geofences", subject.token, fence)["id"] for _ in range(2)]
        emergency = call("POST", "/v1/emergencies", subject.token, {"kind": "sos", "fix": fixes[0]})["id"]
        call("POST", f"/v1/emergencies/{emergency}/claim", contact.token)
        due = {"due_in_s": 3600, "grace_s": 600, "note": "home by six"}
        check_ins = [call("POST", "/v1/check-ins", subject.token, due)["id"] for _ in range(2)]
        call("GET", f"/v1/people/{subject.id}/location", contact.token)
        alert = call("GET", "/v1/alerts", contact.token)["items"][-1]["id"]
        self.known = {
            "ids": {"people": subject.id, "geofences": fences[0], "emergencies": emergency, "alerts": alert,
                    "links": links[0], "devices": subject.device, "check-ins": check_ins[0]},
            "doomed": {"geofences": fences[1], "links": links[1], "check-ins": check_ins[1]},
            "bodies": {
                "/v1/sessions": {"handle": other.handle, "password": PASSWORD},
                "/v1/sessions/refresh": {"refresh_token": other.refresh},
                "/v1/sessions/step-up": {"password": PASSWORD, "pin": None},
                "/v1/links": {"contact": other.handle},
            },
        }


def schemathesis(name, token, known, *only):
    """Runs schemathesis over some operations as somebody who knows something; returns how many requests passed."""
    here = Path(__file__).parent
    # One worker: two parse syntax trees at once, which CPython 3.11 does not bear (gh-106905), and repeat nothing.
    command = [
        Path(sys.executable).with_name("schemathesis"), "run", f"{URL}/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing",
        "--max-examples", str(EXAMPLES), "--seed", "20", "--continue-on-failure",
        "--request-timeout", "20", "--warnings", "off", "--no-color", *only,
    ]
    environment = os.environ | {"CIMA_WORLD": json.dumps(known), "SCHEMATHESIS_HOOKS": str(here / "hooks.py")}
    run = subprocess.run(command, env=environment, cwd=os.environ.get("TMPDIR", "/tmp"), text=True,
                         capture_output=True, check=False)
    found = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    if run.returncode != 0 or not found or found[1] != found[2]:
        print(run.stdout[-20_000:], run.stderr[-5_000:], file=sys.stderr)
        sys.exit(f"schemathesis as {name} found what does not conform")
    print(f"ok schemathesis as {name}: {found[2]} requests, no 500 and no answer off the schema", flush=True)
    return int(found[2])


def check_openapi():
    document = call("GET", "/openapi.json")
    assert document["openapi"].startswith("3.1"), document["openapi"]
    OpenAPIV31SpecValidator(document).validate()
    count = sum(len(item) for item in document["paths"].values())
    print(f"ok OpenAPI {document['openapi']} is valid: {count} operations", flush=True)


def check_page():
    page = HTTP.get(f"{URL}/docs/", timeout=20)
    assert page.ok and "text/html" in page.headers["Content-Type"], page.status_code
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert assets, "the page loads nothing"
    for asset in assets:
        assert "//" not in asset, f"/docs needs {asset} from elsewhere"
        assert HTTP.get(f"{URL}/docs/{asset.removeprefix('./')}", timeout=20).ok, asset
    print(f"ok /docs is whole without a network: {len(assets)} files", flush=True)


def main():
    check_openapi()
    check_page()
    # What ends the session or the account that asks is done by people of their own.
    endings = ["DELETE /v1/devices/{id}", "DELETE /v1/sessions/current", "DELETE /v1/me"]
    others = [part for ending in endings for part in ("--exclude-name", ending)]
    told = ("--include-path-regex", r"^/v1/(people|emergencies|alerts|links)")
    distress = ("--include-path-regex", r"^/v1/(emergencies|locations)")
    world = World()
    count = schemathesis("the subject", world.subject.token, world.known, *others)
    world = World()
    count += schemathesis("the contact", world.contact.token, world.known, *told)
    world = World()
    count += schemathesis("a distress token", world.subject.distress, world.known, *distress)
    for ending in endings:
        leaving = Person("leaving")
        doomed = {"doomed": {"devices": leaving.device}}
        count += schemathesis(f"who does {ending}", leaving.token, doomed, "--include-name", ending)
    print(f"   {count} requests in all")


main()
