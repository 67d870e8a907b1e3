"""Certificates and tokens, as a newcomer, an administrator and a stranger meet them."""

import contextlib
import json
import ssl
import stat
import time
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from index.errors import ServiceError, StateError
from index.query import VideoQuery
from service.calling.connection import Connection
from service.client import Client
from service.server.credentials import make_access, make_client_certificate, make_token, renew_server_certificate
from tests import forge
from tests.service.servers import running
from tests.waiting import PATIENCE_S, until


def connection(said, access, role="admin", **more):
    return Connection(said["address"], ca=access / "ca.pem", token_file=access / f"{role}.token", **more)


def test_a_newcomer_signs_in_over_tls_and_a_stranger_does_not(secured, access):
    with running(secured, "--config", str(access / "serve.toml")) as said:
        command = ["search", "--server", said["address"], "--json", "--video", "v0-0"]
        who = ["--ca", str(access / "ca.pem"), "--token-file", str(access / "clinician.token")]
        found = forge.run(*command, *who)
        assert found.returncode == 0, found.stderr
        assert len(json.loads(found.stdout)["neighbours"]) == 10
        refused = forge.run(*command, *who[:2])
        assert refused.returncode == 4
        assert "UNAUTHENTICATED: say who you are" in refused.stderr
        with Client(Connection(said["address"], tries=1)) as plain, pytest.raises(ServiceError, match="UNAVAILABLE"):
            plain.counts()


def test_a_renewed_certificate_is_taken_up_without_a_dropped_call(secured, access):
    with running(secured, "--config", str(access / "serve.toml")) as said, Client(connection(said, access)) as old:
        old.counts()
        before = served_certificate(said, access)
        renew_server_certificate(access, ["localhost", "127.0.0.1"])
        old.counts()  # on the connection from before
        assert served_certificate(said, access) != before
        with Client(connection(said, access)) as new:
            new.counts()
        broken = (access / "server.pem").read_bytes()
        (access / "server.pem").write_bytes(b"half a certif")
        with Client(connection(said, access)) as meanwhile:
            meanwhile.counts()
        (access / "server.pem").write_bytes(broken)


def test_the_page_takes_up_a_renewed_certificate_too_and_keeps_it_where_a_new_one_is_broken(secured, access):
    settings = access / "page.toml"
    settings.write_text((access / "serve.toml").read_text() + '[page]\nport = 0\nca = "ca.pem"\n')
    with running(secured, "--config", str(settings), "--workers", "2") as said:
        page = {"address": said["page"].removeprefix("https://")}
        before = served_certificate(page, access)
        renew_server_certificate(access, ["localhost", "127.0.0.1"])
        until(lambda: served_certificate(page, access) != before)
        renewed, key = served_certificate(page, access), (access / "server.key").read_bytes()
        (access / "server.key").write_bytes(key[:100])
        time.sleep(2.5)
        assert served_certificate(page, access) == renewed
        (access / "server.key").write_bytes(key)
        token = (access / "clinician.token").read_text().strip()
        for _ in range(4):  # whichever worker answers
            assert signed_in(page, access, token) == "token:some clinician"


def served_certificate(said, access):
    host, port = said["address"].split(":")
    return ssl.get_server_certificate((host, int(port)), ca_certs=str(access / "ca.pem"))


def signed_in(page, access, token):
    """Who the page says one is that signs in with a token."""
    context = ssl.create_default_context(cafile=str(access / "ca.pem"))
    asked = urllib.request.Request(
        f"https://{page['address']}/api/session",
        json.dumps({"token": token}).encode(),
        {"origin": f"https://{page['address']}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(asked, context=context, timeout=PATIENCE_S) as answer:
        return json.load(answer)["identity"]


def test_a_certificate_alone_signs_in_where_the_settings_name_it(secured, access, tmp_path):
    make_client_certificate(access, "nightly")
    make_client_certificate(access, "stranger")
    settings = tmp_path / "serve.toml"
    settings.write_text(
        f'[tls]\ncertificate = "{access}/server.pem"\nkey = "{access}/server.key"\nclient_ca = "{access}/ca.pem"\n'
        '[certificates]\nnightly = ["classifier"]\n'
    )

    def of(name, folder=access):
        return Connection(
            said["address"],
            ca=access / "ca.pem",
            certificate=folder / f"{name}.pem",
            key=folder / f"{name}.key",
            tries=1,
        )

    other = tmp_path / "other"
    make_access(other, ["localhost"])
    make_client_certificate(other, "nightly")
    expired = tmp_path / "expired"
    make_expired(access, expired)
    with running(secured, "--config", str(settings)) as said:
        with Client(of("nightly")) as client:
            assert client.classify(VideoQuery("v0-0")).judged.clips
            with pytest.raises(ServiceError, match="PERMISSION_DENIED"):
                client.search(VideoQuery("v0-0"))
        with Client(of("stranger")) as client, pytest.raises(ServiceError, match="UNAUTHENTICATED"):
            client.classify(VideoQuery("v0-0"))
        for refused in (
            of("nightly", other),
            of("nightly", expired),
            Connection(said["address"], ca=access / "ca.pem", tries=1),
        ):
            with Client(refused) as client, pytest.raises(ServiceError, match="UNAVAILABLE"):
                client.classify(VideoQuery("v0-0"))


def make_expired(access, folder):
    """The right name from the right authority, for yesterday."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    folder.mkdir()
    ca_key = load_pem_private_key((access / "authority" / "ca.key").read_bytes(), None)
    good = x509.load_pem_x509_certificate((access / "nightly.pem").read_bytes())
    builder = x509.CertificateBuilder().subject_name(good.subject).issuer_name(good.issuer)
    builder = builder.public_key(good.public_key()).serial_number(x509.random_serial_number())
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now - timedelta(days=1))
    for extension in good.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    (folder / "nightly.pem").write_bytes(builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "nightly.key").write_bytes((access / "nightly.key").read_bytes())


def test_certificates_are_good_enough_for_the_strict(tmp_path):
    """As every client written in Python is from 3.13 on."""
    access = tmp_path / "keys"
    make_access(access, ["localhost"])
    make_client_certificate(access, "nightly")
    sides = {"server": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "nightly": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    for name, side in sides.items():
        side.load_cert_chain(access / f"{name}.pem", access / f"{name}.key")
        side.load_verify_locations(access / "ca.pem")
        side.verify_mode = ssl.CERT_REQUIRED
        side.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = sides["nightly"].wrap_bio(back, there, server_hostname="localhost")
    server = sides["server"].wrap_bio(there, back, server_side=True)
    for side in (client, server) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert server.getpeercert()["subject"] == ((("commonName", "nightly"),),)
    assert client.getpeercert()["subjectAltName"] == (("DNS", "localhost"),)


def test_no_key_that_signs_lies_where_the_server_reads_and_it_may_be_moved_away(tmp_path):
    folder = tmp_path / "access"
    make_access(folder, ["localhost"])
    assert sorted(path.name for path in folder.iterdir()) == [
        *("authority", "ca.pem", "jwks.json", "serve.toml", "server.key", "server.pem"),
    ]
    assert sorted(path.name for path in (folder / "authority").iterdir()) == ["ca.key", "signing.key"]
    assert (folder / "authority").stat().st_mode & 0o777 == 0o700

    elsewhere = (folder / "authority").rename(tmp_path / "vault")
    for sign in (
        lambda **where: make_token(folder, "anna", ["reader"], 1, **where),
        lambda **where: make_client_certificate(folder, "anna", **where),
        lambda **where: renew_server_certificate(folder, ["localhost"], **where),
    ):
        with pytest.raises(StateError, match="or name where it lies with --authority"):
            sign()
        sign(authority=elsewhere)
    for key in elsewhere.iterdir():  # as versions before 0.2 have it
        key.rename(folder / key.name)
    assert make_token(folder, "anna", ["reader"], 1)


def test_keys_close_no_folder_beside_them(tmp_path):
    """Settings lie there that a server must read under an account of its own."""
    folder = tmp_path / "etc" / "semiome" / "access"
    assert forge.run("access", "init", str(folder), "--host", "localhost").returncode == 0
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder)] == [0o755, 0o700]
