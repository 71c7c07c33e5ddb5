"""Pages in headless Chromium, driven by the DevTools protocol over a pipe."""

import fcntl
import functools
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

EXECUTABLE = shutil.which("chromium") or shutil.which("google-chrome")
_SECONDS = 120


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def served(folder):
    """Serves a folder; gives its address."""
    handler = functools.partial(_Quiet, directory=os.fspath(folder))
    server = ThreadingHTTPServer(("localhost", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def page(address, profile):
    """Opens an address; gives the function that evaluates JavaScript in the page until it is truthy."""
    if EXECUTABLE is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    # Chromium reads commands from descriptor 3 and answers on descriptor 4.
    pipes = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (*os.pipe(), *os.pipe())]
    theirs, to_browser, from_browser, answers = pipes
    options = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe"
    command = f"exec {EXECUTABLE} {options} --user-data-dir={profile} 3<&{theirs} 4>&{answers}"
    browser = subprocess.Popen(
        ["bash", "-c", command], pass_fds=(theirs, answers), stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    os.close(answers)
    numbers = itertools.count()
    with open(to_browser, "wb", 0) as sink, open(from_browser, "rb") as source:

        def call(method, session=None, **parameters):
            number = next(numbers)
            message = {"id": number, "method": method, "params": parameters}
            if session:
                message["sessionId"] = session
            sink.write(json.dumps(message).encode() + b"\0")
            while (answer := json.loads(_until_zero(source))).get("id") != number:
                pass
            return answer["result"]

        target = call("Target.createTarget", url=address)["targetId"]
        session = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

        def wait_for(expression):
            stop = time.monotonic() + _SECONDS
            while time.monotonic() < stop:
                found = call("Runtime.evaluate", session, expression=expression, returnByValue=True)
                if value := found["result"].get("value"):
                    return value
                time.sleep(0.1)
            raise TimeoutError(f"{expression} of {address} stayed {found['result']}")

        try:
            yield wait_for
        finally:
            browser.kill()
            browser.wait()


def _until_zero(stream):
    message = bytearray()
    while (byte := stream.read(1)) != b"\0":
        if not byte:
            raise EOFError("Chromium went away.")
        message += byte
    return message
