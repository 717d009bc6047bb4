"""Runs the first clients of README.md as they stand there, against another address.

    readme.py README.md http://127.0.0.1:8080 FOLDER_WITH_NODE_MODULES
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import threading

DEADLINE_S = 30
BASE = "http://127.0.0.1:8080"


def block(text, language):
    """The one block of code in that language."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"README.md has {len(found)} blocks of {language}, not one"
    assert BASE in found[0], f"the {language} client of README.md does not speak to {BASE}"
    return found[0]


def play(command, words):
    """Runs a client until it has printed all the words, in that order."""
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # A client that says nothing is ended, which ends the reading below.
    timer = threading.Timer(DEADLINE_S, client.kill)
    timer.start()
    printed = ""
    left = list(words)
    for line in client.stdout:
        printed += line
        if left and left[0] in line:
            left.pop(0)
        if not left:
            break
    timer.cancel()
    client.kill()
    client.wait()
    assert not left, f"no {left[0]!r} came. It printed:\n{printed}"


def main():
    readme, url, node = sys.argv[1:]
    text = pathlib.Path(readme).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        client = pathlib.Path(folder, "client.py")
        client.write_text(block(text, "python").replace(BASE, url), encoding="utf-8")
        play([sys.executable, "-u", str(client)], ['"welcome"', '"acked"'])
        print("ok the Python client of README.md: welcome, acked")
    # Node looks for packages beside the importing file.
    client = pathlib.Path(node, "readme.mjs")
    client.write_text(block(text, "js").replace(BASE, url), encoding="utf-8")
    play(["node", str(client)], ["welcome", "accepted"])
    print("ok the JavaScript client of README.md: welcome, accepted")


if __name__ == "__main__":
    main()
