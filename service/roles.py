"""Who may call what: one table, and what is not in it is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum

from index.errors import SemiomeError


class Role(StrEnum):
    """What a caller is here for."""

    READER = "reader"
    CLINICIAN = "clinician"
    CLASSIFIER = "classifier"
    TRAINER = "trainer"
    ADMIN = "admin"


class Unauthenticated(SemiomeError):
    """The caller has no credentials, or they can't be trusted."""


class PermissionRefused(SemiomeError):
    """The caller's roles do not allow it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        name: subject of a token, or name of a certificate.
        roles: what they may do.
        known_by: `token`, `certificate`, or `loopback` for any process of this machine where no sign-in is needed.
    """

    name: str
    roles: frozenset[Role]
    known_by: str

    @property
    def identity(self) -> str:
        """What limits are counted by and the audit log names: a token's subject is not a certificate's name."""
        return f"{self.known_by}:{self.name}"

    @property
    def sees_exactly(self) -> bool:
        """Whether similarities are shown as they are, see `service.gate.disclosure`."""
        return not self.roles.isdisjoint(EXACT)

    @property
    def sees_widely(self) -> bool:
        """Whether neighbours are shown beyond the nearest few, see `service.gate.disclosure`."""
        return not self.roles.isdisjoint(WIDE)


_HASHED = "sha256:"
_MOST_CHARACTERS = 128


def name_of(said: str) -> str:
    """What a caller is called here: what a token or certificate says, where that is printable and short, else its hash.

    Two that differ are never one: quotas, places, feedback and the audit log go by it.
    """
    if 0 < len(said) <= _MOST_CHARACTERS and said.isprintable() and not said.startswith(_HASHED):
        return said
    return _HASHED + hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


_SEARCH = frozenset({Role.READER, Role.CLINICIAN, Role.TRAINER, Role.ADMIN})
_CLASSIFY = frozenset({Role.CLASSIFIER, Role.CLINICIAN, Role.TRAINER, Role.ADMIN})
_ANYONE = frozenset(Role)
_BUILDERS = frozenset({Role.TRAINER, Role.ADMIN})
_ADMIN = frozenset({Role.ADMIN})

EXACT = _BUILDERS
"""Roles that need embeddings, and so may query by vector and see similarities exactly."""
WIDE = EXACT | {Role.CLINICIAN}
"""Roles that see long lists, through every filter."""
STORES = _BUILDERS
"""Roles whose uploads may be stored."""

HEALTH = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
"""Methods that a load balancer calls without signing in; a caller who does sign in must still have valid
credentials."""

ALLOWED: dict[str, frozenset[Role]] = {
    "/semiome.v1.RetrievalService/Search": _SEARCH,
    "/semiome.v1.RetrievalService/SearchBatch": _SEARCH,
    "/semiome.v1.RetrievalService/SearchStream": _SEARCH,
    "/semiome.v1.RetrievalService/Recommend": _SEARCH - {Role.READER},
    "/semiome.v1.RetrievalService/SearchByVideo": _SEARCH - {Role.READER},
    "/semiome.v1.RetrievalService/FindMoments": WIDE,
    "/semiome.v1.RetrievalService/GetSimilarity": WIDE,
    "/semiome.v1.ClassificationService/Classify": _CLASSIFY,
    "/semiome.v1.ClassificationService/ClassifyBatch": _CLASSIFY,
    "/semiome.v1.ClassificationService/ClassifyStream": _CLASSIFY,
    "/semiome.v1.ClassificationService/GetSigns": WIDE,
    "/semiome.v1.CatalogService/GetVideo": _ANYONE,
    "/semiome.v1.CatalogService/GetRecording": _ANYONE,
    "/semiome.v1.CatalogService/ListVideos": _ANYONE,
    "/semiome.v1.CatalogService/GetPatient": _ANYONE,
    "/semiome.v1.CatalogService/ListPatients": _ANYONE,
    "/semiome.v1.CatalogService/GetCounts": _ANYONE,
    "/semiome.v1.CatalogService/GetEmbeddings": EXACT,
    "/semiome.v1.AdminService/GetStatus": _BUILDERS,
    "/semiome.v1.AdminService/BuildGeneration": _BUILDERS,
    "/semiome.v1.AdminService/ListGenerations": _BUILDERS,
    "/semiome.v1.AdminService/ActivateGeneration": _ADMIN,
    "/semiome.v1.AdminService/RollBackGeneration": _ADMIN,
    "/semiome.v1.AdminService/ListHeads": _BUILDERS,
    "/semiome.v1.AdminService/ActivateHead": _BUILDERS,
    "/semiome.v1.AdminService/ErasePatient": _ADMIN,
    "/semiome.v1.AdminService/GetOperation": _BUILDERS,
    "/semiome.v1.AdminService/ListOperations": _BUILDERS,
    "/semiome.v1.AdminService/CancelOperation": _BUILDERS,
    "/semiome.v1.ReviewService/GetCaller": _ANYONE,
    "/semiome.v1.ReviewService/GetPreview": WIDE,
    "/semiome.v1.ReviewService/GetThumbnails": WIDE,
    "/semiome.v1.ReviewService/GetMap": WIDE,
    "/semiome.v1.ReviewService/SaveFeedback": WIDE,
    "/semiome.v1.ReviewService/ListFeedback": WIDE,
    "/semiome.v1.ReviewService/DeleteFeedback": WIDE,
    "/semiome.v1.ReviewService/ListReports": WIDE,
    "/semiome.v1.ReviewService/GetReport": WIDE,
    "/grpc.health.v1.Health/Check": _ANYONE,
    "/grpc.health.v1.Health/Watch": _ANYONE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ANYONE,
}


def check(caller: Caller, method: str) -> None:
    """Let a caller through to a method.

    Raises:
        PermissionRefused: If none of the caller's roles may call it.
    """
    require(caller, ALLOWED.get(method, frozenset()), "this method")


def require(caller: Caller, roles: Set[Role], what: str) -> None:
    """Check a role for a part of what a method does.

    Raises:
        PermissionRefused: If none of the caller's roles may.
    """
    if caller.roles.isdisjoint(roles):
        wanted = ", ".join(sorted(roles)) or "no role at all"
        raise PermissionRefused(f"{what} is for {wanted}; you have {', '.join(sorted(caller.roles)) or 'no role'}")
