"""Certificates of the server and of the review page: read again when their files have changed."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from pathlib import Path

import grpc

from index.errors import StateError
from service.config import TlsConfig
from service.errors import type_and_place

_logger = logging.getLogger(__name__)


def credentials(config: TlsConfig) -> grpc.ServerCredentials:
    """What a secure port is opened with.

    Raises:
        StateError: If the files can't be read, or are not a certificate and its key.
    """
    certificates = _Certificates(config)
    return grpc.dynamic_ssl_server_credentials(
        certificates.first,
        certificates.if_changed,  # type: ignore[arg-type]  # None is for: nothing has changed
        require_client_authentication=config.client_ca is not None,
    )


def add_port(server: grpc.Server | grpc.aio.Server, address: str, secured: grpc.ServerCredentials | None) -> int:
    """Let a server listen, with TLS where there are credentials; returns the port.

    Raises:
        StateError: If the port is taken.
    """
    try:
        if secured is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, secured)
    except RuntimeError:
        host, _, port = address.rpartition(":")
        raise StateError(f"port {port} of {host} is taken: is another server running?") from None


def ends_at(config: TlsConfig) -> float:
    """When the server's certificate ends, or the first of those that it is signed by: Unix time.

    Raises:
        OSError: If it can't be read.
        ValueError: If it is none.
    """
    from cryptography import x509

    certificates = x509.load_pem_x509_certificates(config.certificate.read_bytes())
    return min(one.not_valid_after_utc.timestamp() for one in certificates)


class _Certificates:
    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        try:
            self._seen = _stamps(self._files())
            self.first = self._read()
        except (OSError, ValueError) as error:
            raise StateError(
                f"the server's certificate can't be used ({type(error).__name__}): check the files of [tls]"
            ) from None

    def if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC as a client connects. Half-written files leave the old ones in use."""
        try:
            stamps = _stamps(self._files())
            if stamps == self._seen:
                return None
            found = self._read()
        except (OSError, ValueError) as error:
            _logger.warning("the new certificate can't be used (%s): the old one stays", type_and_place(error))
            return None
        self._seen = stamps
        _logger.info("took up a new certificate")
        return found

    def _files(self) -> tuple[Path, ...]:
        files = (self._config.certificate, self._config.key, self._config.client_ca)
        return tuple(file for file in files if file is not None)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            PublicFormat,
            load_pem_private_key,
        )

        certificate, key = self._config.certificate.read_bytes(), self._config.key.read_bytes()
        public = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        own = x509.load_pem_x509_certificates(certificate)[0].public_key().public_bytes(*public)
        if load_pem_private_key(key, None).public_key().public_bytes(*public) != own:
            raise ValueError("another certificate's key")  # as between the copying of the two
        roots = self._config.client_ca.read_bytes() if self._config.client_ca else None
        if roots is not None:
            x509.load_pem_x509_certificates(roots)  # raises where there is none, as while it is written
        return grpc.ssl_server_certificate_configuration([(key, certificate)], roots)


class PageCertificate:
    """The review page's certificate in the context that answers browsers."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        """Certificate of files that the context has read already.

        Raises:
            OSError: If they are there no more.
        """
        self._context, self._files = context, (certificate, key)
        self._seen = _stamps(self._files)

    def renew(self) -> None:
        """Take up what has changed, for those who connect from now on. Half-written files leave the old in use."""
        try:
            stamps = _stamps(self._files)
            if stamps == self._seen:
                return
            self._seen = stamps
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)  # tried apart: half of it would stay
            self._context.load_cert_chain(*self._files)
        except OSError as error:  # of the files, or of what is in them
            _logger.warning("the page's new certificate can't be used (%s): the old one stays", type_and_place(error))
            return
        _logger.info("took up a new certificate for the page")


def _stamps(files: Iterable[Path]) -> tuple[tuple[int, int], ...]:
    """What tells a file that was written again from what it was."""
    return tuple((status.st_mtime_ns, status.st_ino) for status in map(Path.stat, files))
