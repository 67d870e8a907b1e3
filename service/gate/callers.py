"""Who calls: from a token, from a client's certificate, or from this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from service.config import ServerConfig
from service.gate.tokens import Tokens
from service.roles import Caller, Role, Unauthenticated, name_of

_LOCAL = Caller("local", frozenset(Role), "loopback")
_NOBODY = Caller("anonymous", frozenset(), "nothing")
_BEARER = "bearer "


@lru_cache(1024)
def _common_names(pem: bytes) -> tuple[str, ...]:
    """Common name of a certificate that gRPC has checked; what gRPC itself says of it ends at the first NUL."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        names = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return ()
    return tuple(str(one.value) for one in names)


class Callers:
    """Tells callers apart as a server's settings say."""

    def __init__(self, config: ServerConfig) -> None:
        """Read what tokens are checked with.

        Raises:
            StateError: If it can't be read.
        """
        self._config = config
        self.tokens = Tokens(config.tokens) if config.tokens else None

    def caller(
        self,
        metadata: Iterable[tuple[str, str | bytes]],
        certificate: Mapping[str, Iterable[bytes]],
        *,
        open_to_all: bool = False,
    ) -> Caller:
        """Who makes a call. A token that is there must be right, whatever else says who it is.

        Args:
            metadata: the call's.
            certificate: gRPC's authentication context.
            open_to_all: a caller without credentials is let through.

        Raises:
            Unauthenticated: If nothing that can be trusted says who it is.
        """
        given = [value for key, value in metadata if key == "authorization"]
        if given:
            if self.tokens is None:
                raise Unauthenticated("this server takes no tokens")
            text = given[0]
            if len(given) > 1 or not isinstance(text, str) or not text.lower().startswith(_BEARER):
                raise Unauthenticated("expected one authorization of the form 'Bearer TOKEN'")
            return self.tokens.caller(text[len(_BEARER) :].strip())
        if not self._config.signs_in:
            return _LOCAL
        if self._config.certificates:
            names = [name for pem in certificate.get("x509_pem_cert", ()) for name in _common_names(pem)]
            if len(names) == 1 and names[0] in self._config.certificates:
                return Caller(name_of(names[0]), self._config.certificates[names[0]], "certificate")
        if open_to_all:
            return _NOBODY
        raise Unauthenticated("say who you are: 'authorization: Bearer TOKEN' in the call's metadata")
