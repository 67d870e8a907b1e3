"""How a server is set up: a TOML file, checked as a whole. Secrets are named by file and never stand in it."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from index.errors import InvalidInput
from service.environment import settings_in, variable_of
from service.roles import Role

PAGE_PORT = 8050


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class TlsConfig(_Config):
    """Certificates; files are read again when they change."""

    certificate: Path
    """The server's, PEM, with all above it but the root."""
    key: Path
    """Its private key, PEM."""
    client_ca: Path | None = None
    """Who signs clients' certificates, PEM; where it is set, no client gets in without one."""


class PageSettings(_Config):
    """The review page, served by a process beside the server."""

    port: int = Field(default=PAGE_PORT, ge=0, le=65535)
    """0 takes a free one."""
    names: tuple[str, ...] = ()
    """That browsers reach it by, beside localhost and the server's own address."""
    ca: Path | None = None
    """CA certificate of the server, PEM; the page asks the server over TLS too."""


class TokenConfig(_Config):
    """Signed tokens (JWT)."""

    jwks: str
    """Public keys: a file, or an https address."""
    issuer: str
    """What `iss` must say."""
    audience: str
    """What `aud` must say."""
    role_claim: str = "roles"
    """The claim that lists the caller's roles."""
    leeway_s: float = Field(default=30.0, ge=0, le=300)
    """How far clocks may differ."""

    @field_validator("jwks")
    @classmethod
    def _file_or_https(cls, jwks: str) -> str:
        if "://" in jwks and not jwks.startswith("https://"):
            raise ValueError("expected a file or an https address")
        return jwks


class Limit(_Config):
    """What one caller may ask for."""

    calls_per_s: float = Field(default=200.0, gt=0)
    """Calls a second, averaged over some seconds."""
    searches_a_day: int = Field(default=1_000_000, ge=1)
    """Queries a day (UTC), those of batches and streams counted one by one."""


class ServerConfig(_Config):
    """How to serve."""

    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback address needs [tls]."""
    port: int = Field(default=50051, ge=0, le=65535)
    """0 takes a free one."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that answer; they share the index's pages."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of Prometheus' metrics over HTTP, on the loopback address; by default none."""
    page: PageSettings | None = None
    """The review page; by default none. With [tls] it is served by the same certificate."""
    tls: TlsConfig | None = None
    """Certificates of the server; by default plaintext, on loopback addresses only."""
    tokens: TokenConfig | None = None
    """Whose tokens are accepted; by default no tokens are accepted."""
    certificates: dict[str, frozenset[Role]] = Field(default_factory=dict)
    """Roles of clients who sign in with a certificate alone, by its common name."""
    limits: dict[Role, Limit] = Field(default_factory=dict)
    """Limits by role; of several roles the most generous counts. See `DEFAULT_LIMITS`."""
    max_message_bytes: int = Field(default=4 * 2**20, ge=1024, le=2**31 - 1)
    """Larger requests are refused."""
    max_upload_bytes: int = Field(default=2 * 2**30, ge=1024)
    """Larger videos are refused."""
    max_upload_seconds: float = Field(default=3600.0, gt=0, le=24 * 3600)
    """Longer videos are refused, before any of their pictures is decoded: every ten seconds are a clip to embed."""
    least_sandbox: Literal["limits", "files", "calls", "full"] = "limits"
    """Lowest sandbox level of decoders of uploads; below it the server does not start. See docs/decoding.md."""
    max_calls: int = Field(default=128, ge=1)
    """Calls of a worker at once; one more is refused at once with RESOURCE_EXHAUSTED."""
    max_connections: int = Field(default=4096, ge=16)
    """Connections to a worker at once, as far as the system gives it files; one more is closed at once."""
    refresh_s: float = Field(default=0.5, gt=0)
    """How often to look for a new generation, new labels or a new head."""
    late_s: float = Field(default=60.0, gt=0)
    """How long the index and the list of the erased may go unread before the server says that it is not ready."""
    drain_s: float = Field(default=10.0, ge=0)
    """How long calls in flight may go on after SIGTERM."""
    trace: bool = False
    """OpenTelemetry spans, sent where the usual OTEL_ variables say; needs `semiome[trace]`."""

    @field_validator("host")
    @classmethod
    def _address(cls, host: str) -> str:
        try:
            return host if host == "localhost" else str(ipaddress.ip_address(host))
        except ValueError:
            raise ValueError("expected an IPv4 or IPv6 address, or localhost") from None

    @field_validator("limits", mode="before")
    @classmethod
    def _what_is_not_said_stays(cls, limits: object) -> object:
        """A limit that sets one of a role's figures leaves its other one as it is by default."""
        if not isinstance(limits, dict):
            return limits
        usual = {role.value: limit.model_dump() for role, limit in DEFAULT_LIMITS.items()}
        return {
            role: {**usual.get(str(role), {}), **given} if isinstance(given, dict) else given
            for role, given in limits.items()
        }

    @model_validator(mode="after")
    def _open_only_to_this_machine(self) -> Self:
        loopback = self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        if not loopback and self.tls is None:
            raise ValueError(f"expected a loopback address such as 127.0.0.1 without [tls], got {self.host}")
        if not loopback and self.tokens is None and not self.certificates:
            raise ValueError("expected [tokens], or [certificates] with tls.client_ca: else anybody could ask")
        if self.certificates and (self.tls is None or self.tls.client_ca is None):
            raise ValueError("[certificates] needs tls.client_ca")
        if self.page is not None and self.tls is not None:
            if self.page.ca is None:
                raise ValueError("with [tls], [page] needs page.ca, the CA certificate of the server")
            if self.tls.client_ca is not None:
                raise ValueError("[page] can't be served where every client needs a certificate: use `semiome web`")
        return self

    @property
    def signs_in(self) -> bool:
        """Whether callers must say who they are."""
        return self.tokens is not None or bool(self.certificates)

    def limit_of(self, roles: frozenset[Role]) -> Limit:
        """What a caller with these roles may ask for: the most that one of them may."""
        each = [self.limits.get(role, DEFAULT_LIMITS[role]) for role in roles] or [Limit()]
        return Limit(
            calls_per_s=max(limit.calls_per_s for limit in each),
            searches_a_day=max(limit.searches_a_day for limit in each),
        )


DEFAULT_LIMITS = {
    Role.READER: Limit(calls_per_s=50, searches_a_day=1_000),
    Role.CLINICIAN: Limit(calls_per_s=50, searches_a_day=1_000),
    Role.CLASSIFIER: Limit(calls_per_s=1_000, searches_a_day=1_000_000),
    Role.TRAINER: Limit(calls_per_s=1_000, searches_a_day=1_000_000),
    Role.ADMIN: Limit(calls_per_s=10_000, searches_a_day=1_000_000_000),
}
"""Readers and clinicians see rounded similarities; the day's quota keeps many of them from being put together into an
embedding (see docs/service.md)."""


def read_config(path: Path | None, **given: Any) -> ServerConfig:  # noqa: ANN401
    """Read a server's settings: those given, else those of the environment, else of the file, else the defaults.

    Relative paths in the file are relative to it, those in the environment to the current folder. A variable is named
    `SEMIOME_SERVE_` and the setting, with `__` before a part of one: `SEMIOME_SERVE_MAX_CALLS=64`,
    `SEMIOME_SERVE_TLS__KEY=/run/secrets/key.pem`.

    Raises:
        InvalidInput: If settings are wrong, all of which the message names, or the file can't be read.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"the server's settings can't be read ({type(error).__name__}): give TOML") from None
        for section, names in (
            ("tls", ("certificate", "key", "client_ca")),
            ("tokens", ("jwks",)),
            ("page", ("ca",)),
        ):
            part = values.get(section)
            if not isinstance(part, dict):
                continue
            for name in names:
                if isinstance(part.get(name), str) and "://" not in part[name]:
                    part[name] = str(path.parent / part[name])
    from_environment, variables = settings_in(os.environ, ServerConfig)
    values = _over(values, from_environment)
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        return ServerConfig(**values)
    except ValidationError as error:
        raise InvalidInput("; ".join(_problems(error, variables, given))) from None


def _problems(error: ValidationError, variables: Mapping[tuple[str, ...], str], given: Mapping[str, Any]) -> list[str]:
    """What is wrong with which setting, or with which variable of the environment."""
    problems = []
    for one in error.errors():
        place = one["loc"]
        variable = "" if not place or given.get(str(place[0])) is not None else variable_of(place, variables)
        where = variable or ".".join(map(str, place))
        problems.append(f"{where}: {one['msg'].removeprefix('Value error, ')}".removeprefix(": "))
    return problems


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Settings with others over them, section by section."""
    return below | {
        name: _over(below[name], value) if isinstance(value, dict) and isinstance(below.get(name), dict) else value
        for name, value in above.items()
    }


def with_page(config: ServerConfig, port: int | None = None) -> ServerConfig:
    """The same settings, with the review page.

    Args:
        config: where it may have the page already.
        port: of the page, instead of what is set.

    Raises:
        InvalidInput: If it can't be served so.
    """
    page = (config.page or PageSettings()).model_dump()
    if port is not None:
        page["port"] = port
    try:
        return ServerConfig(**{**config.model_dump(), "page": page})
    except ValidationError as error:
        raise InvalidInput("; ".join(one["msg"] for one in error.errors())) from None


def bracketed(host: str) -> str:
    """A host as an address has it."""
    return f"[{host}]" if ":" in host else host
