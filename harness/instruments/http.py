"""Small JSON documents from devices on the local network, with a deadline and a size limit."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import secrets
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from harness.errors import AuthenticationError, ConnectionLost, DataError, DeadlineExceeded, DeviceError

MAX_BYTES = 64 << 10  # a plug's whole status is some 2 kB
_SHOWN_CHARS = 80
_CHALLENGE = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A plug sends nobody elsewhere; what does must not get its password."""

    def redirect_request(self, *_: Any) -> None:
        return None


class JsonDevice:
    """A device that answers GET with JSON. With a password: HTTP basic, or digest where it asks for that.

    `login` is for devices that take theirs as parameters (`user=…&password=…`); no message shows it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float,
        where: str,
        user: str = "admin",
        password: str | None = None,
        login: str = "",
    ) -> None:
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._where = where
        self._user = user
        self._password = password
        self._login = login
        # a plug is on this network: no proxy of the environment's stands in between
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def get(self, path: str) -> Mapping[str, Any]:
        """Return the object at `path`. Raises ConnectionLost, DeadlineExceeded, AuthenticationError,
        DeviceError for another status, DataError for anything but a JSON object."""
        try:
            body = self._fetch(path, None)
        except urllib.error.HTTPError as error:
            with error:
                challenge = error.headers.get("WWW-Authenticate", "")
                if error.code != 401 or self._password is None:
                    raise self._refused(path, error) from error
            try:
                body = self._fetch(path, self._authorization(path, challenge))
            except urllib.error.HTTPError as again:
                with again:
                    raise self._refused(path, again) from again
        return self._parse(path, body)

    def _fetch(self, path: str, authorization: str | None) -> bytes:
        login = f"{'&' if '?' in path else '?'}{self._login}" if self._login else ""
        request = urllib.request.Request(self._base_url + path + login)
        if authorization:
            request.add_header("Authorization", authorization)
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                body = bytes(answer.read(MAX_BYTES + 1))
        except urllib.error.HTTPError:
            raise
        except TimeoutError as error:
            raise self._late(path) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError | socket.timeout):
                raise self._late(path) from error
            raise self._lost(path, error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(path, error) from error
        if len(body) > MAX_BYTES:
            raise DataError(
                f"{path}: more than {MAX_BYTES} bytes, expected a small document.", where=self._where
            )
        return body

    def _late(self, path: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"no answer to {path} within {self._timeout_s:g} s (timeout_s).",
            where=self._where,
            next_step="Check its Wi-Fi, or raise timeout_s.",
        )

    def _lost(self, path: str, why: object) -> ConnectionLost:
        return ConnectionLost(
            f"{self._base_url}{path}: {why}.", where=self._where, next_step="Check `url` and its Wi-Fi."
        )

    def _refused(self, path: str, error: urllib.error.HTTPError) -> DeviceError:
        if error.code in (401, 403):
            return AuthenticationError(
                f"{path}: HTTP {error.code}.",
                where=self._where,
                next_step="Name the variable that holds its password by `password_env`; check the password.",
            )
        return DeviceError(
            f"{path}: HTTP {error.code}, expected 200.", where=self._where, next_step="Check `url`."
        )

    def _authorization(self, path: str, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        password = self._password or ""
        if scheme.lower() == "digest":
            fields = {name.lower(): quoted or plain for name, quoted, plain in _CHALLENGE.findall(rest)}
            return compute_digest(fields, path, self._user, password, secrets.token_hex(8), self._where)
        return "Basic " + base64.b64encode(f"{self._user}:{password}".encode()).decode()

    def _parse(self, path: str, body: bytes) -> Mapping[str, Any]:
        try:
            found = json.loads(body)
        except ValueError:
            shown = body[:_SHOWN_CHARS].decode("utf-8", "replace")
            raise DataError(f"{path}: answered {shown!r}, expected JSON.", where=self._where) from None
        if not isinstance(found, dict):
            raise DataError(
                f"{path}: answered {str(found)[:_SHOWN_CHARS]!r}, expected an object.", where=self._where
            )
        return found


_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


def compute_digest(
    challenge: Mapping[str, str], path: str, user: str, password: str, cnonce: str, where: str
) -> str:
    """Return the header of RFC 7616 (qop auth, one request a nonce) for a GET of `path`.

    urllib's own knows MD5 and SHA-1; Shelly's devices of the second generation ask for SHA-256. Raises
    AuthenticationError for an algorithm that isn't known.
    """
    algorithm = challenge.get("algorithm", "MD5")
    if algorithm.upper() not in _HASHES:
        raise AuthenticationError(f"asks for the digest {algorithm}, which is not known.", where=where)

    def hashed(text: str) -> str:
        return _HASHES[algorithm.upper()](text.encode()).hexdigest()

    realm, nonce, count = challenge.get("realm", ""), challenge.get("nonce", ""), "00000001"
    first, second = hashed(f"{user}:{realm}:{password}"), hashed(f"GET:{path}")
    response = hashed(f"{first}:{nonce}:{count}:{cnonce}:auth:{second}")
    fields = {
        "username": user,
        "realm": realm,
        "nonce": nonce,
        "uri": path,
        "response": response,
        "cnonce": cnonce,
    }
    if "opaque" in challenge:
        fields["opaque"] = challenge["opaque"]
    quoted = ", ".join(f'{name}="{value}"' for name, value in fields.items())
    return f"Digest {quoted}, algorithm={algorithm}, qop=auth, nc={count}"
