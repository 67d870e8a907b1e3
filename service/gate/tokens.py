"""Signed tokens (JWT, RFC 7519): whose signature is trusted, and what must be said in one.

Keys come from the operator's JWKS, a file or an https address; both are read again while the server runs, so that keys
can be changed. Only asymmetric algorithms are taken, and only the one a key is for: neither `none` nor a public key
used as a shared secret (RFC 8725, section 3.1).
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

import jwt

from index.errors import StateError
from index.files.durable import small_file
from service.config import TokenConfig
from service.gate.fetching import fetched
from service.roles import Caller, Role, Unauthenticated, name_of

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
_REQUIRED = ("exp", "iat", "aud", "iss", "sub")
_MAX_TOKEN_BYTES = 16 * 1024
_MAX_JWKS_BYTES = 1024 * 1024
_MAX_REMEMBERED = 4096
_FETCH_S = 10.0
_USUALLY_S, _AGAIN_S = 60.0, 10.0
"""A token of an unknown key makes the server look for new ones, but no more often than this."""

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError, RecursionError)

_logger = logging.getLogger(__name__)


class Tokens:
    """Tells who calls from their token."""

    def __init__(self, config: TokenConfig) -> None:
        """Read the keys.

        Raises:
            StateError: If there are none.
        """
        self._config = config
        self._lock = threading.Lock()
        self._missed = False
        self._failed = ""
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = -_AGAIN_S
        self._known: dict[bytes, tuple[float, Caller]] = {}
        try:
            self._keys = self._read()
        except _UNREADABLE as error:
            raise StateError(
                f"the keys that tokens are signed with can't be read ({type(error).__name__}): check [tokens] jwks"
            ) from None
        self._read_at = time.monotonic()

    def caller(self, token: str) -> Caller:
        """Whose token this is.

        Raises:
            Unauthenticated: If it is none, or none that can be trusted now.
        """
        if len(token) > _MAX_TOKEN_BYTES:
            raise Unauthenticated("the token is longer than any of ours")
        remembered = self._known  # of the keys of now: those of a withdrawn one must not come back
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = remembered.get(digest)
        if known is not None and time.time() < known[0]:
            return known[1]
        try:
            claims = self._claims(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token is not accepted: {_reason(error)}") from None
        except (ValueError, TypeError, KeyError, RecursionError):  # what is nested or typed as no token is
            raise Unauthenticated("the token is not accepted: it is malformed") from None
        roles = claims.get(self._config.role_claim, [])
        roles = roles.split() if isinstance(roles, str) else roles
        if not isinstance(roles, list) or not isinstance(claims["sub"], str) or not claims["sub"]:
            raise Unauthenticated("the token is not accepted: its subject or its roles are not of the expected form")
        known_roles = frozenset(Role(role) for role in roles if role in list(Role))
        caller = Caller(name_of(claims["sub"]), known_roles, "token")
        if len(remembered) >= _MAX_REMEMBERED:
            remembered.clear()
        remembered[digest] = float(min(int(claims["exp"]), 10**12)), caller
        return caller

    def refresh(self) -> None:
        """Read the keys again, where that was not done lately. Where they can't be read, the old ones stay.

        Called again and again by a thread that may wait.

        Raises:
            StateError: If they can't be read, until they can.
        """
        with self._lock:
            if time.monotonic() - self._read_at < (_AGAIN_S if self._missed or self._failed else _USUALLY_S):
                if self._failed:
                    raise StateError(self._failed)
                return
            self._missed = False
            self._read_at = time.monotonic()
            try:
                keys = self._read()
            except _UNREADABLE as error:
                self._failed = f"the keys for tokens can't be read again ({type(error).__name__}): the old ones stay"
                _logger.warning(self._failed)
                raise StateError(self._failed) from None
            self._failed = ""
            if {kid: key.Algorithm.to_jwk(key.key) for kid, key in keys.items()} != {
                kid: key.Algorithm.to_jwk(key.key) for kid, key in self._keys.items()
            }:
                self._keys, self._known = keys, {}  # a key that was taken away must open nothing any more
                _logger.info("took up %d keys for tokens", len(keys))

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        key = self._keys.get(header.get("kid", ""))
        if key is None:
            self._missed = True  # the next look at the keys comes soon, and is not waited for here
            raise jwt.InvalidKeyError
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[str(key.algorithm_name)],
            audience=self._config.audience,
            issuer=self._config.issuer,
            leeway=self._config.leeway_s,
            options={"require": list(_REQUIRED)},
        )
        return claims

    def _read(self) -> dict[str, jwt.PyJWK]:
        if self._config.jwks.startswith("https://"):
            data = fetched(self._config.jwks, _MAX_JWKS_BYTES, _FETCH_S)
        else:
            data = small_file(Path(self._config.jwks), _MAX_JWKS_BYTES)
        keys = jwt.PyJWKSet.from_dict(json.loads(data)).keys
        usable = {str(key.key_id): key for key in keys if key.key_id and key.algorithm_name in ALGORITHMS}
        if not usable:
            raise ValueError
        return usable


def _reason(error: jwt.PyJWTError) -> str:
    """In words of ours: the library's may repeat what stands in the token."""
    reasons: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
        (jwt.ExpiredSignatureError, "it has expired"),
        (jwt.ImmatureSignatureError, "it is not valid yet"),
        (jwt.InvalidAudienceError, "it is for another audience"),
        (jwt.InvalidIssuerError, "it is from another issuer"),
        (jwt.MissingRequiredClaimError, f"it must say {', '.join(_REQUIRED)}"),
        (jwt.InvalidAlgorithmError, "its algorithm is not its key's"),
        (jwt.InvalidKeyError, "its key is not known here"),
        (jwt.InvalidSignatureError, "its signature is wrong"),
    )
    return next((words for kind, words in reasons if isinstance(error, kind)), "it is malformed")
