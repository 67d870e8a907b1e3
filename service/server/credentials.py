"""Certificates and signed tokens for hospitals that have no identity provider: made here, kept in one folder.

What the server needs lies in the folder itself, the keys that sign in `authority/` below it, which can be moved away.

Where there is one, its JWKS and its certificates go into the server's settings instead, and nothing of this is needed.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from index.errors import InvalidInput, StateError
from service.roles import Role, name_of

ISSUER = AUDIENCE = "semiome"
SETTINGS = "serve.toml"
_CA_DAYS, _SERVER_DAYS, _CLIENT_DAYS = 3650, 397, 397
_SIGNING_KEY, _CA_KEY, _JWKS = "signing.key", "ca.key", "jwks.json"
AUTHORITY = "authority"


def make_access(folder: Path, hosts: Sequence[str]) -> None:
    """A certificate authority, the server's certificate, a key to sign tokens with, and the settings to use them.

    Args:
        folder: new or empty.
        hosts: names and addresses that clients reach the server by.

    Raises:
        InvalidInput: If the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder.name} is not empty: name a new folder")
    for parent in [path for path in reversed(folder.absolute().parents) if not path.exists()]:
        parent.mkdir()
        parent.chmod(0o755)  # as `/etc/semiome` beside these keys, where settings lie that a server must read
    folder.mkdir(exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Semiome")])
    ca = (
        _certificate(name, name, key.public_key(), key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / AUTHORITY).mkdir(mode=0o700)
    _write(folder / AUTHORITY / _CA_KEY, _pem(key))
    _write(folder / "ca.pem", ca.public_bytes(Encoding.PEM), secret=False)
    renew_server_certificate(folder, hosts)
    signing = ed25519.Ed25519PrivateKey.generate()
    public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(signing.public_key()))
    keys = {"keys": [{**public, "kid": secrets.token_hex(8), "alg": "EdDSA", "use": "sig"}]}
    _write(folder / AUTHORITY / _SIGNING_KEY, _pem(signing))
    _write(folder / _JWKS, (json.dumps(keys, indent=2) + "\n").encode(), secret=False)
    settings = (
        f'[tls]\ncertificate = "server.pem"\nkey = "server.key"\n\n'
        f'[tokens]\njwks = "{_JWKS}"\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\n\n'
        f"# The review page: take the # away from the next three lines.\n"
        f'# [page]\n# port = 8050\n# ca = "ca.pem"\n'
    )
    _write(folder / SETTINGS, settings.encode(), secret=False)


def renew_server_certificate(folder: Path, hosts: Sequence[str], authority: Path | None = None) -> None:
    """Make a new certificate for the server; a running server picks it up.

    Args:
        folder: what `make_access` wrote.
        hosts: names and addresses that clients reach the server by.
        authority: where the keys that sign lie; by default in the folder.

    Raises:
        StateError: If the authority's key is not found.
    """
    key, name = _private_key(folder, _CA_KEY, authority), hosts[0] if hosts else "localhost"
    _issue(folder, key, "server", name, hosts, ExtendedKeyUsageOID.SERVER_AUTH, _SERVER_DAYS)


def make_client_certificate(folder: Path, name: str, authority: Path | None = None) -> None:
    """A certificate for a client: `NAME.pem` and `NAME.key`.

    Args:
        folder: what `make_access` wrote.
        name: the certificate's common name.
        authority: where the keys that sign lie; by default in the folder.

    Raises:
        StateError: If the authority's key is not found.
        InvalidInput: If the name can't be a file's.
    """
    if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise InvalidInput("expected a name of letters, digits, - and _")
    if name in {"ca", "server", "signing"}:
        raise InvalidInput(f"{name} is the name of a file that is needed as it is: choose another")
    key = _private_key(folder, _CA_KEY, authority)
    _issue(folder, key, name, name, (), ExtendedKeyUsageOID.CLIENT_AUTH, _CLIENT_DAYS)


def make_token(folder: Path, name: str, roles: Sequence[str], days: float, authority: Path | None = None) -> str:
    """A signed token.

    Args:
        folder: what `make_access` wrote.
        name: whose it is; stands in the audit log.
        roles: what they may do.
        days: how long it is good for.
        authority: where the keys that sign lie; by default in the folder.

    Raises:
        InvalidInput: If a role is unknown, or the name or the time is missing.
        StateError: If the signing key is not found.
    """
    if unknown := set(roles) - set(Role):
        raise InvalidInput(f"expected roles of {', '.join(Role)}, got {', '.join(sorted(unknown))[:64]!r}")
    if not name or not roles or not 0 < days <= 3650:
        raise InvalidInput("expected a name, at least one role, and up to 3650 days")
    if name_of(name) != name:
        raise InvalidInput("expected a name of at most 128 characters that can be printed")
    key = _private_key(folder, _SIGNING_KEY, authority)
    kid = json.loads((folder / _JWKS).read_text(encoding="utf-8"))["keys"][0]["kid"]
    now = int(time.time())
    claims = {
        "sub": name,
        "roles": sorted(roles),
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + int(days * 86400),
    }
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid})  # type: ignore[arg-type]


def _issue(
    folder: Path,
    ca_key: object,
    file: str,
    name: str,
    hosts: Sequence[str],
    purpose: x509.ObjectIdentifier,
    days: int,
) -> None:
    """Key first, then certificate, each put in place whole: a server takes them up when they fit together."""
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _certificate(subject, ca.subject, key.public_key(), ca.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    signed = builder.sign(ca_key, hashes.SHA256())  # type: ignore[arg-type]
    _write(folder / f"{file}.key", _pem(key))
    _write(folder / f"{file}.pem", signed.public_bytes(Encoding.PEM), secret=False)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: object, days: int
) -> x509.CertificateBuilder:
    """With what RFC 5280 asks of every certificate, and Python from 3.13 on insists on."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    whose = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)  # type: ignore[arg-type]
    builder = builder.add_extension(whose, critical=False)
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=days))


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_key(folder: Path, file: str, authority: Path | None) -> object:
    """A key that signs; before version 0.2 it lay beside what the server needs."""
    places = [authority] if authority is not None else [folder / AUTHORITY, folder]
    path = next((place / file for place in places if (place / file).exists()), places[0] / file)
    try:
        return load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        name = type(error).__name__
        how = "run `semiome access init` first, or name where it lies with --authority"
        raise StateError(f"{file} can't be read ({name}): {how}") from None


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_secret(path: Path, text: str) -> None:
    """A file for its owner's eyes only."""
    _write(path, (text + "\n").encode())


def _write(path: Path, data: bytes, *, secret: bool = True) -> None:
    """Whole, and where it is secret for its owner's eyes only."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(path)
