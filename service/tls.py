"""The server's certificates: read again when a client connects and the files have changed."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc

from index.errors import StateError
from service.config import TlsConfig
from service.errors import type_and_place

_logger = logging.getLogger(__name__)


def credentials(config: TlsConfig) -> grpc.ServerCredentials:
    """What a secure port is opened with.

    Raises:
        StateError: the files can't be read, or are not a certificate and its key.
    """
    certificates = _Certificates(config)
    return grpc.dynamic_ssl_server_credentials(
        certificates.first,
        certificates.if_changed,  # type: ignore[arg-type]  # None is for: nothing has changed
        require_client_authentication=config.client_ca is not None,
    )


class _Certificates:
    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        try:
            self._seen = self._stamps()
            self.first = self._read()
        except (OSError, ValueError) as error:
            raise StateError(
                f"the server's certificate can't be used ({type(error).__name__}): check the files of [tls]"
            ) from None

    def if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC as a client connects. Half-written files leave the old ones in use."""
        try:
            stamps = self._stamps()
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

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple((status.st_mtime_ns, status.st_ino) for status in map(Path.stat, self._files()))

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
        return grpc.ssl_server_certificate_configuration([(key, certificate)], roots)
