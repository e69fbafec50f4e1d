"""A real Chromium, driven through chromedriver's WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""
import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile

from harness import LIMIT, SLOW, check, sanitized

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
         "--disable-default-apps", "--disable-domain-reliability", "--no-default-browser-check", "--mute-audio"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to one
KEYS = {"Escape": "\ue00c", "Enter": "\ue007", "Tab": "\ue004", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015",
        "Home": "\ue011", "End": "\ue010", "Control": "\ue009", "Shift": "\ue008", "Backspace": "\ue003"}


def why_none():
    """Why there is no browser to drive, or None."""
    if sanitized():
        return "drives chromium, which shows nothing of our memory"
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return ("%s is not installed" % " and ".join(missing)) if missing else None


class Browser:
    """One window. Coordinates, clicks and keys are what a user does: events come from the browser, not from a script."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="llorch-browser-")
        self.connection = http.client.HTTPConnection("127.0.0.1", self.start_driver(), timeout=60)
        self.session = ""
        options = {"args": FLAGS + ["--user-data-dir=" + os.path.join(self.folder, "profile"), "--window-size=1280,900"]}
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = "/session/" + answer["sessionId"]
        self.call("POST", "/timeouts", {"script": int(2000 * LIMIT * SLOW)})
        self.looks = None

    def start_driver(self):
        """The port. It takes a free one for two kinds of addresses at a time, and another program may be faster."""
        for _ in range(3):
            self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                           start_new_session=True, env=dict(os.environ, HOME=self.folder))
            said = b""
            for line in self.driver.stdout:
                found = re.search(rb"started successfully on port (\d+)", line)
                if found:
                    return int(found.group(1))
                said += line
            self.driver.wait()
        raise AssertionError("chromedriver does not start: %r" % said)

    def call(self, method, path, body=None):
        self.connection.request(method, self.session + path, None if body is None else json.dumps(body),
                                {"Content-Type": "application/json"})
        answer = json.loads(self.connection.getresponse().read())["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError("%s: %s" % (answer["error"], answer["message"].split("\n")[0]))
        return answer

    def cdp(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, width=1280, height=900, dark=False, still=False):
        """How large the window is and what its user prefers."""
        if self.looks == (width, height, dark, still):
            return
        self.looks = (width, height, dark, still)
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def reload(self):
        self.call("POST", "/refresh", {})

    def js(self, script, *args):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def wait(self, script, *args, what=None, limit=LIMIT):
        """The first true value of an expression; the page itself looks again and again."""
        value = self.call("POST", "/execute/async", {"args": list(args) + [limit * SLOW * 1000], "script": """
            const done = arguments[arguments.length - 1], end = performance.now() + arguments[arguments.length - 2];
            const look = () => {
              const value = %s;
              if (value || performance.now() > end) done(value); else setTimeout(look, 15);
            };
            look();""" % script})
        check(value, "%s does not become true; the page says: %r" % (what or script, self.said() if not value else ""))
        return value

    def said(self):
        """All that the page says of its own accord."""
        return self.js("return [...document.querySelectorAll('#state, #summary, [role=alert], .wrong, #say')]"
                       ".map(n => n.textContent.trim()).filter(t => t)")

    def find(self, selector):
        return self.call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.call("POST", "/element/%s/click" % self.find(selector), {})

    def write(self, selector, text):
        """Into an emptied field."""
        element = self.find(selector)
        self.call("POST", "/element/%s/clear" % element, {})
        if text:
            self.call("POST", "/element/%s/value" % element, {"text": text})

    def press(self, *names):
        """Keys to whatever has the focus; of several all but the last are held."""
        keys = [KEYS.get(name, name) for name in names]
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": down + up}]})

    def point(self, selector):
        """Moves the mouse there."""
        self.call("POST", "/actions", {"actions": [{
            "type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
            "actions": [{"type": "pointerMove", "duration": 0, "x": 1, "y": 1},
                        {"type": "pointerMove", "duration": 0, "origin": {ELEMENT: self.find(selector)}, "x": 0, "y": 0}]}]})

    def click_twice(self, selector):
        """As fast as a double click is, whatever stands there by the second."""
        press = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self.call("POST", "/actions", {"actions": [{
            "type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
            "actions": [{"type": "pointerMove", "duration": 0, "origin": {ELEMENT: self.find(selector)}, "x": 0, "y": 0},
                        *press, {"type": "pause", "duration": 60}, *press]}]})

    def tap(self, selector):
        self.call("POST", "/actions", {"actions": [{
            "type": "pointer", "id": "finger", "parameters": {"pointerType": "touch"},
            "actions": [{"type": "pointerMove", "duration": 0, "origin": {ELEMENT: self.find(selector)}, "x": 0, "y": 0},
                        {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]}]})

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def seen(self, selector):
        return self.js("const e = document.querySelector(arguments[0]); return !!e && e.checkVisibility()", selector)

    def messages(self):
        """What the console has got since the last call: (level, text)."""
        return [(entry["level"], entry["message"]) for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def shot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]))

    def close(self):
        try:
            if self.session:
                self.call("DELETE", "")
        finally:
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
            self.driver.stdout.close()
            shutil.rmtree(self.folder, ignore_errors=True)
