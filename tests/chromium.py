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


class Page:
    """A page of a browser. Called with a JavaScript expression, it evaluates that until it is truthy.

    Args:
        source: What the browser answers, messages that end in a zero byte.
        sink: What it reads.
    """

    def __init__(self, source, sink):
        self._source, self._sink = source, sink
        self._numbers = itertools.count()
        self._session = None
        #: What the console and the browser reported as errors.
        self.errors = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, address):
        """Open an address, and wait until it is loaded."""
        self._call("Page.navigate", url=address)
        # The page before is there for a moment longer.
        loaded = f"document.readyState == 'complete' && location.href.startsWith({json.dumps(address)})"
        self(loaded)

    def resize(self, width, height):
        """Show the page on a phone of this size, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def __call__(self, expression):
        stop = time.monotonic() + _SECONDS
        while time.monotonic() < stop:
            found = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
            if value := found["result"].get("value"):
                return value
            time.sleep(0.1)
        raise TimeoutError(f"{expression} stayed {found['result']}")

    def _call(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._sink.write(json.dumps(message).encode() + b"\0")
        while (answer := json.loads(_until_zero(self._source))).get("id") != number:
            self._note(answer)
        return answer["result"]

    def _note(self, event):
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"] + " " + parameters["entry"].get("url", ""))
        elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.errors.append(json.dumps(parameters["args"]))


@contextmanager
def page(address, profile):
    """Opens an address in a browser of its own; gives the `Page`."""
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
    with open(to_browser, "wb", 0) as sink, open(from_browser, "rb") as source:
        try:
            opened = Page(source, sink)
            opened.open(address)
            yield opened
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
