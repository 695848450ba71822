"""Smart plugs on a real HTTP server: Shelly Gen1 and Gen2 (with or without a password), Tasmota."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PASSWORD = "pa55 & word"
REALM, NONCE = "shellyplugsg3-0cdc7ef8a2b4", "64c1e8d7"

# shelly-api-docs.shelly.cloud/gen1, Shelly Plug/PlugS: /shelly and /status, shortened
GEN1 = {
    "/shelly": {
        "type": "SHPLG-S",
        "mac": "5ECF7F1632E8",
        "auth": False,
        "fw": "20230913-113421/v1.14.0-gcb84623",
    },
    "/status": {
        "relays": [{"ison": True, "has_timer": False, "overpower": False}],
        "meters": [{"power": 4.2, "overpower": 0.0, "is_valid": True, "timestamp": 1700000000, "total": 120}],
        "temperature": 25.77,
    },
}
# shelly-api-docs.shelly.cloud/gen2, components Shelly (GetDeviceInfo) and Switch (GetStatus)
GEN2 = {
    "/shelly": {"id": REALM, "mac": "0CDC7EF8A2B4", "model": "S3PL-00112EU", "gen": 3, "auth_en": True},
    "/rpc/Switch.GetStatus?id=0": {
        "id": 0,
        "source": "init",
        "output": True,
        "apower": 4.2,
        "voltage": 230.1,
        "current": 0.018,
        "aenergy": {"total": 2.0, "by_minute": [0.0, 63.0, 63.0], "minute_ts": 1700000000},
        "temperature": {"tC": 35.1, "tF": 95.2},
    },
}
# tasmota.github.io/docs/Commands: Status 8
TASMOTA = {
    "/cm?cmnd=Status%208": {
        "StatusSNS": {
            "Time": "2022-01-11T21:57:38",
            "ENERGY": {
                "TotalStartTime": "2020-10-21T22:15:00",
                "Total": 0.002,
                "Yesterday": 0.001,
                "Today": 0.001,
                "Power": 4.2,
                "ApparentPower": 5,
                "ReactivePower": 0,
                "Factor": 0.84,
                "Voltage": 230.1,
                "Current": 0.018,
            },
        }
    }
}


class PlugServer(ThreadingHTTPServer):
    """`pages` by path; `nonsense` is answered instead once it is set; `password` asks for a digest."""

    daemon_threads = True

    def __init__(self, pages: dict[str, Any], password: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = json.loads(json.dumps(pages))
        self.password = password
        self.nonsense: bytes | None = None
        self.tasmota_login: tuple[str, str] | None = None
        self.elsewhere = ""  # where it sends whoever asks

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: PlugServer

    def do_GET(self) -> None:
        if self.server.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.server.nonsense is not None:
            self._send(200, self.server.nonsense)
        elif not self._is_allowed():
            challenge = f'Digest qop="auth", realm="{REALM}", nonce="{NONCE}", algorithm=SHA-256'
            self._send(401, b"", challenge)
        else:
            page = self.server.pages.get(self._path())
            self._send(404 if page is None else 200, json.dumps(page).encode())

    def _path(self) -> str:
        """Return the path; of Tasmota's, without the login where it is right."""
        login = self.server.tasmota_login
        query = parse_qs(urlsplit(self.path).query)
        if login and (query.get("user"), query.get("password")) == ([login[0]], [login[1]]):
            return re.sub(r"&user=.*", "", self.path)
        return "/denied" if login else self.path

    def _is_allowed(self) -> bool:
        if self.server.password is None or self.path == "/shelly":
            return True
        told = dict(re.findall(r'(\w+)="?([^",]+)"?', self.headers.get("Authorization", "")))

        def digest(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        first = digest(f"admin:{REALM}:{self.server.password}")
        second = digest(f"GET:{self.path}")
        whole = f"{first}:{NONCE}:{told.get('nc')}:{told.get('cnonce')}:auth:{second}"
        return told.get("response") == digest(whole)

    def _send(self, status: int, body: bytes, challenge: str = "") -> None:
        self.send_response(status)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the tests' output is theirs."""


@contextmanager
def running_plug(pages: dict[str, Any], password: str | None = None) -> Iterator[PlugServer]:
    """Serve until the block ends."""
    with PlugServer(pages, password) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
