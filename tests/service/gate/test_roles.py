"""Who may call what, over TLS with tokens; and tokens that open nothing, wherever they are shown."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from index.errors import ServiceError, StateError
from index.query import ClipQuery, GroupBy, Not, Options, SearchFilter, VectorQuery, VideoQuery
from index.workspace import Workspace
from service import roles
from service.calling.connection import Connection
from service.client import Client
from service.config import Limit, ServerConfig, TokenConfig, read_config
from service.gate import disclosure
from service.gate.callers import Callers
from service.gate.tokens import Tokens
from service.processes.operations import Operations
from service.roles import Role, Unauthenticated
from service.server.credentials import make_access, make_token, write_secret
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.service.gate.attackers import METHODS, answering, bearer, claims, code, forged, signed
from tests.waiting import until

SEARCH, CLASSIFY, LOOK, BUILD = (
    {"reader", "clinician", "trainer", "admin"},
    {"classifier", "clinician", "trainer", "admin"},
    {"reader", "clinician", "classifier", "trainer", "admin"},
    {"trainer", "admin"},
)
WIDE = {"clinician", "trainer", "admin"}
ANYBODY = {*LOOK, "nobody", "stranger"}
"""Also a caller without a role, and one without a token."""
EXPECTED = {
    "/semiome.v1.RetrievalService/Search": SEARCH,
    "/semiome.v1.RetrievalService/SearchBatch": SEARCH,
    "/semiome.v1.RetrievalService/SearchStream": SEARCH,
    "/semiome.v1.RetrievalService/Recommend": WIDE,
    "/semiome.v1.RetrievalService/SearchByVideo": WIDE,
    "/semiome.v1.RetrievalService/FindMoments": WIDE,
    "/semiome.v1.RetrievalService/GetSimilarity": WIDE,
    "/semiome.v1.CatalogService/GetRecording": LOOK,
    "/semiome.v1.ClassificationService/Classify": CLASSIFY,
    "/semiome.v1.ClassificationService/ClassifyBatch": CLASSIFY,
    "/semiome.v1.ClassificationService/ClassifyStream": CLASSIFY,
    "/semiome.v1.ClassificationService/GetSigns": {"clinician", "trainer", "admin"},
    "/semiome.v1.CatalogService/GetVideo": LOOK,
    "/semiome.v1.CatalogService/ListVideos": LOOK,
    "/semiome.v1.CatalogService/GetPatient": LOOK,
    "/semiome.v1.CatalogService/ListPatients": LOOK,
    "/semiome.v1.CatalogService/GetCounts": LOOK,
    "/semiome.v1.CatalogService/GetEmbeddings": BUILD,
    "/semiome.v1.AdminService/GetStatus": BUILD,
    "/semiome.v1.AdminService/BuildGeneration": BUILD,
    "/semiome.v1.AdminService/ListGenerations": BUILD,
    "/semiome.v1.AdminService/ActivateGeneration": {"admin"},
    "/semiome.v1.AdminService/RollBackGeneration": {"admin"},
    "/semiome.v1.AdminService/ListHeads": BUILD,
    "/semiome.v1.AdminService/ActivateHead": BUILD,
    "/semiome.v1.AdminService/ErasePatient": {"admin"},
    "/semiome.v1.AdminService/GetOperation": BUILD,
    "/semiome.v1.AdminService/ListOperations": BUILD,
    "/semiome.v1.AdminService/CancelOperation": BUILD,
    "/semiome.v1.ReviewService/GetCaller": LOOK,
    "/semiome.v1.ReviewService/GetPreview": WIDE,
    "/semiome.v1.ReviewService/GetThumbnails": WIDE,
    "/semiome.v1.ReviewService/GetMap": WIDE,
    "/semiome.v1.ReviewService/SaveFeedback": WIDE,
    "/semiome.v1.ReviewService/ListFeedback": WIDE,
    "/semiome.v1.ReviewService/DeleteFeedback": WIDE,
    "/semiome.v1.ReviewService/ListReports": WIDE,
    "/semiome.v1.ReviewService/GetReport": WIDE,
    "/grpc.health.v1.Health/Check": ANYBODY,
    "/grpc.health.v1.Health/Watch": ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": LOOK,
}
"""Written out once more, so that nobody changes the service's own table without a second thought."""
LIMITS = {role: Limit(calls_per_s=100_000) for role in LOOK}
"""So that no caller of these tests is too fast."""


@pytest.fixture(scope="module")
def access(tmp_path_factory):
    """Keys and certificates."""
    folder = tmp_path_factory.mktemp("access") / "keys"
    make_access(folder, ("localhost", "127.0.0.1"))
    return folder


@pytest.fixture(scope="module")
def served(access, tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("served") / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    with answering(workspace, read_config(access / "serve.toml", port=0, limits=LIMITS)) as address:
        yield address
        # a build that a test was allowed to start
        until(lambda: all(one.state != "running" for one in Operations(workspace).remembered()))


@pytest.fixture(scope="module")
def channel(access, served):
    with grpc.secure_channel(served, grpc.ssl_channel_credentials((access / "ca.pem").read_bytes())) as channel:
        yield channel


@pytest.fixture(scope="module")
def signing_key(access):
    return load_pem_private_key((access / "authority" / "signing.key").read_bytes(), None)


@pytest.fixture(scope="module")
def kid(access):
    return json.loads((access / "jwks.json").read_text())["keys"][0]["kid"]


@pytest.fixture
def as_role(access, served, tmp_path):
    """`as_role(role)` is a client with a token of that role."""
    clients = []

    def client(role):
        write_secret(tmp_path / role, make_token(access, f"a {role}", [role], 1))
        connection = Connection(served, ca=access / "ca.pem", token_file=tmp_path / role, tries=1)
        clients.append(Client(connection))
        return clients[-1]

    yield client
    for one in clients:
        one.close()


def refused(channel, metadata):
    """How each method refuses a caller: its code where it is one of those that say who may call."""
    codes = {name: code(channel, name, metadata=metadata) for name in METHODS}
    return {name: said for name, said in codes.items() if said in ("UNAUTHENTICATED", "PERMISSION_DENIED")}


def test_the_table_names_every_method_that_is_served_and_no_other(access, channel, served, signing_key, kid):
    assert METHODS.keys() == EXPECTED.keys() == roles.ALLOWED.keys()
    allowed = roles.ALLOWED
    # An upload may be classified too.
    assert (
        allowed["/semiome.v1.RetrievalService/SearchByVideo"] <= allowed["/semiome.v1.ClassificationService/Classify"]
    )


@pytest.mark.parametrize("name", ["/grpc.health.v1.Health/List", "/semiome.v1.RetrievalService/Other", "/x.y/Z"])
def test_what_is_not_served_is_not_implemented_for_anybody(channel, name):
    assert code(channel, name) == "UNIMPLEMENTED"


def test_reflection_names_no_service_that_is_not_in_the_table(channel, signing_key, kid):
    class Signed(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
        def intercept_unary_unary(self, proceed, details, request):
            raise NotImplementedError

        def intercept_stream_stream(self, proceed, details, requests):
            return proceed(details._replace(metadata=bearer(signed(signing_key, kid))), requests)

    named = ProtoReflectionDescriptorDatabase(grpc.intercept_channel(channel, Signed())).get_services()

    assert set(named) == {name.split("/")[1] for name in EXPECTED}


@pytest.mark.parametrize("role", sorted(LOOK))
def test_each_role_is_refused_what_the_table_does_not_give_it(channel, signing_key, kid, role):
    found = refused(channel, bearer(signed(signing_key, kid, sub=role, roles=[role])))

    assert found == {name: "PERMISSION_DENIED" for name, who in EXPECTED.items() if role not in who}


@pytest.mark.parametrize("given", [[], None, ["root", "Admin", "admin "], ""])
def test_a_caller_without_a_known_role_may_ask_for_health_alone(channel, signing_key, kid, given):
    found = refused(channel, bearer(signed(signing_key, kid, roles=given)))

    assert found == {name: "PERMISSION_DENIED" for name, who in EXPECTED.items() if "nobody" not in who}


def test_a_stranger_may_ask_for_health_alone(channel):
    assert refused(channel, ()) == {name: "UNAUTHENTICATED" for name, who in EXPECTED.items() if "stranger" not in who}


def other_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def in_an_hour():
    return int(time.time()) + 3600


def as_bytes(key, encoding, form):
    return key.public_key().public_bytes(encoding, form)


BAD_TOKENS = {
    "unsigned": lambda key, kid: forged({"alg": "none", "kid": kid}),
    "unsigned, in other letters": lambda key, kid: forged({"alg": "nOnE", "kid": kid}),
    "signed with the public key as a secret": lambda key, kid: forged(
        {"alg": "HS256", "kid": kid}, as_bytes(key, Encoding.Raw, PublicFormat.Raw)
    ),
    "signed with the public key's file as a secret": lambda key, kid: forged(
        {"alg": "HS256", "kid": kid}, as_bytes(key, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "of another key by a known name": lambda key, kid: signed(other_key(), kid, "RS256"),
    "of a key it brings along": lambda key, kid: forged(
        {"alg": "HS256", "kid": kid, "jwk": {"kty": "oct", "k": "AAAA"}}, b"\0\0\0"
    ),
    "of another algorithm than its key's": lambda key, kid: forged({"alg": "ES256", "kid": kid}, b"x"),
    "for another audience": lambda key, kid: signed(key, kid, aud="others"),
    "without an audience": lambda key, kid: signed(key, kid, aud=None),
    "from another issuer": lambda key, kid: signed(key, kid, iss="mallory"),
    "expired": lambda key, kid: signed(key, kid, exp=int(time.time()) - 60),
    "issued in the future": lambda key, kid: signed(key, kid, iat=in_an_hour(), exp=2 * in_an_hour()),
    "not valid yet": lambda key, kid: signed(key, kid, nbf=in_an_hour(), exp=2 * in_an_hour()),
    "valid for ever": lambda key, kid: signed(key, kid, exp=None),
    "nobody's": lambda key, kid: signed(key, kid, sub=None),
    "of an empty name": lambda key, kid: signed(key, kid, sub=""),
    "of a key that nobody has": lambda key, kid: signed(key, "unknown"),
    "of a key without a name": lambda key, kid: forged({"alg": "EdDSA"}),
    "of a key named by a path": lambda key, kid: forged({"alg": "HS256", "kid": "../../dev/null"}, b"\0"),
    "with a changed role": lambda key, kid: changed(signed(key, kid, roles=["reader"])),
    "with a header as deep as a well": lambda key, kid: deep(5000),
    "garbage": lambda key, kid: "garbage",
    "dots": lambda key, kid: "..",
    "empty": lambda key, kid: "",
    "20 KB long": lambda key, kid: signed(key, kid, padding="x" * 15_000),
}


@pytest.mark.parametrize(
    "exp", [10**400, 10**20, 1e300, "9999999999", float("inf"), float("nan"), -(10**400), [1]], ids=range(8)
)
def test_a_token_of_odd_times_is_good_or_refused_and_never_a_bug(channel, signing_key, kid, exp):
    key = signing_key
    text = f"{encoded({'alg': 'EdDSA', 'kid': kid})}.{encoded(claims(exp=exp))}"
    token = f"{text}.{base64.urlsafe_b64encode(key.sign(text.encode())).rstrip(b'=').decode()}"

    good = exp in (10**400, 10**20, 1e300, "9999999999")
    for _ in range(2):  # the second time it may be remembered
        assert code(channel, "/semiome.v1.CatalogService/GetCounts", metadata=bearer(token)) == (
            "OK" if good else "UNAUTHENTICATED"
        )


def encoded(said):
    return base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()


def changed(token):
    header, body, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    said["roles"] = ["admin"]
    return f"{header}.{base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b'=').decode()}.{signature}"


def deep(levels):
    return f"{base64.urlsafe_b64encode(b'[' * levels).rstrip(b'=').decode()}.e30.x"


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_opens_no_method(channel, signing_key, kid, kind):
    token = BAD_TOKENS[kind](signing_key, kid)

    assert refused(channel, bearer(token)) == dict.fromkeys(METHODS, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    "said",
    [
        lambda good: (("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")),
        lambda good: (("authorization", "Basic ZXZlOmV2ZQ=="),),
        lambda good: (("authorization", good),),
        lambda good: (("authorization", f"Token {good}"),),
        lambda good: (("authorization", f"Bearer {good} {good}"),),
    ],
    ids=["two", "basic", "bare", "another scheme", "two in one"],
)
def test_a_good_token_in_a_wrong_form_opens_no_method(channel, signing_key, kid, said):
    assert refused(channel, said(signed(signing_key, kid))) == dict.fromkeys(METHODS, "UNAUTHENTICATED")


def test_a_good_token_without_tls_opens_nothing(served, signing_key, kid):
    with grpc.insecure_channel(served) as plain:
        assert code(plain, "/grpc.health.v1.Health/Check", metadata=bearer(signed(signing_key, kid))) == "UNAVAILABLE"


def test_a_refusal_repeats_nothing_of_the_token(channel, signing_key, kid):
    call = channel.unary_unary("/semiome.v1.CatalogService/GetCounts")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", metadata=bearer(signed(signing_key, kid, iss="Erika Mustermann", exp=1)))

    assert "Erika" not in str(caught.value)


def rounded(similarity):
    return abs(similarity / disclosure.STEP - round(similarity / disclosure.STEP)) < 1e-4


@pytest.mark.parametrize(("role", "most"), [("reader", 10), ("clinician", 50)])
def test_rounded_similarities_for_those_who_need_no_others(as_role, role, most):
    hits = as_role(role).search(ClipQuery(clip()), most).neighbours

    assert hits
    assert all(rounded(hit.similarity) for hit in hits)


def test_exact_similarities_for_trainers(as_role):
    hits = as_role("trainer").search(ClipQuery(clip()), 60).neighbours

    assert len(hits) == 48  # of the 60 that are not the patient's own
    assert not any(rounded(hit.similarity) for hit in hits[:5])


@pytest.mark.parametrize("role", ["classifier", "clinician"])
def test_rounded_similarities_also_in_the_evidence_of_a_verdict(as_role, role):
    evidence = as_role(role).classify(VideoQuery("v1-0")).judged.evidence

    assert evidence.neighbours
    assert all(rounded(hit.similarity) for _, hits in evidence.neighbours for hit in hits)


@pytest.mark.parametrize("role", ["reader", "clinician"])
def test_no_query_by_vector_for_those_who_see_no_embeddings(as_role, role):
    with pytest.raises(ServiceError, match="a query by vector is for admin, trainer"):
        as_role(role).search(VectorQuery(np.ones(8, np.float32), "enc1"))


@pytest.mark.parametrize("role", ["reader", "clinician"])
def test_no_query_by_vector_in_a_batch_or_a_stream_either(as_role, role):
    client, query = as_role(role), VectorQuery(np.ones(8, np.float32), "enc1")

    (streamed,) = client.search_stream([query])
    assert (streamed.code, streamed.neighbours) == ("PERMISSION_DENIED", ())
    with pytest.raises(ServiceError, match="PERMISSION_DENIED"):
        client.search_batch([ClipQuery(clip()), query])


@pytest.mark.parametrize("role", ["reader", "clinician", "classifier"])
def test_no_embeddings_for_those_who_need_none(as_role, role):
    with pytest.raises(ServiceError, match="PERMISSION_DENIED"):
        as_role(role).embeddings([clip()])


@pytest.mark.parametrize(("role", "most"), [("reader", 10), ("clinician", 50)])
def test_no_more_hits_than_the_limit_in_any_way(as_role, role, most):
    client, query = as_role(role), ClipQuery(clip())

    (streamed,) = client.search_stream([query], most + 1)
    assert streamed.code == "INVALID_ARGUMENT"
    for ask in (
        lambda: client.search(query, most + 1),
        lambda: client.search_batch([query], most + 1),
    ):
        with pytest.raises(ServiceError, match=r"INVALID_ARGUMENT|PERMISSION_DENIED"):
            ask()


@pytest.mark.parametrize(
    "options",
    [
        Options(group_by=GroupBy.PATIENT, mean_of=1000),
        Options(group_by=GroupBy.VIDEO, mean_of=2),
        Options(group_by=GroupBy.VIDEO, aligned=True),
        Options(include_own_patient=True),
    ],
    ids=["patients", "videos", "aligned", "own"],
)
def test_readers_see_no_more_of_a_clip_by_other_ways_of_asking(as_role, options):
    client = as_role("reader")

    (streamed,) = client.search_stream([VideoQuery("v0-0")], 10, options)
    assert (streamed.code, streamed.neighbours) == ("PERMISSION_DENIED", ())
    for ask in (client.search, lambda query, k, options: client.search_batch([query], k, options)):
        with pytest.raises(ServiceError, match="PERMISSION_DENIED"):
            ask(VideoQuery("v0-0"), 10, options)


@pytest.mark.parametrize(
    "where",
    [
        SearchFilter(patient_ids=frozenset({"p4"})),
        SearchFilter(excluded_patient_ids=frozenset({"p1"})),
        SearchFilter(labels=frozenset({"TLE"})),
        SearchFilter(recorded_from="2024-04-01"),
        Not(SearchFilter(video_ids=frozenset({"v1-0"}))),
    ],
    ids=["patient", "but one", "label", "time", "not"],
)
@pytest.mark.parametrize("group_by", GroupBy)
def test_no_filter_or_group_leads_a_reader_beyond_the_one_list(as_role, where, group_by):
    client, query = as_role("reader"), ClipQuery(clip())
    listed = {hit.clip for hit in client.search(query, 10).neighbours}

    found = {hit.clip for hit in client.search(query, 10, Options(where, group_by)).neighbours}
    assert len(listed) == 10
    assert found <= listed


@pytest.mark.parametrize("k", [0, 2**32 - 1])
@pytest.mark.parametrize("role", ["reader", "clinician", "trainer"])
def test_a_number_of_hits_out_of_bounds_is_refused_for_every_role(as_role, role, k):
    with pytest.raises(ServiceError, match="INVALID_ARGUMENT"):
        as_role(role).search(ClipQuery(clip()), k)


def test_the_order_of_equal_similarities_tells_a_reader_nothing(as_role):
    hits = as_role("reader").search(ClipQuery(clip()), 10).neighbours

    assert list(hits) == sorted(hits, key=lambda hit: (-hit.similarity, hit.clip.clip_id))


def clip():
    return make_cohort()[0][1][0].clip.clip_id


@pytest.fixture
def two_keys(access, tmp_path, signing_key, kid):
    """Keys of which the second one can be taken away: (settings, the first one's token, the second one's)."""
    make_access(tmp_path / "other", ("localhost",))
    other = json.loads((tmp_path / "other" / "jwks.json").read_text())["keys"][0]
    first = json.loads((access / "jwks.json").read_text())["keys"][0]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [first, other]}))
    config = TokenConfig(jwks=str(tmp_path / "jwks.json"), issuer="semiome", audience="semiome")
    return config, signed(signing_key, kid), make_token(tmp_path / "other", "eve", ["admin"], 1)


def take_away_the_second(config):
    file = Path(config.jwks)
    file.write_text(json.dumps({"keys": json.loads(file.read_text())["keys"][:1]}))


def test_a_key_that_is_taken_away_opens_nothing_once_the_keys_are_read_again(two_keys):
    config, good, other = two_keys
    tokens = Tokens(config)
    assert tokens.caller(other).name == "eve"  # and is remembered

    take_away_the_second(config)
    tokens._read_at = float("-inf")
    tokens.refresh()
    with pytest.raises(Unauthenticated, match="its key is not known here"):
        tokens.caller(other)
    assert tokens.caller(good).name == "eve"


def test_keys_that_cannot_be_read_again_leave_the_old_ones(two_keys):
    config, good, _ = two_keys
    tokens = Tokens(config)
    whole = Path(config.jwks).read_text()
    for spoiled in ("", "{}", '{"keys": []}', "[" * 100_000):
        Path(config.jwks).write_text(spoiled)
        tokens._read_at = float("-inf")
        for _ in range(2):  # however soon it is asked again: by this the duty is known to be late
            with pytest.raises(StateError, match="the old ones stay"):
                tokens.refresh()

    assert tokens.caller(good).name == "eve"
    Path(config.jwks).write_text(whole)
    tokens._read_at = float("-inf")
    for _ in range(2):
        tokens.refresh()


def test_a_token_that_is_remembered_expires_all_the_same(two_keys, signing_key, kid):
    tokens = Tokens(two_keys[0].model_copy(update={"leeway_s": 0.0}))
    short = signed(signing_key, kid, exp=int(time.time()) + 6)
    assert tokens.caller(short).name == "eve"

    def refused():
        try:
            tokens.caller(short)
        except Unauthenticated as error:
            return str(error)

    assert "expired" in until(refused)


@pytest.mark.parametrize(
    ("name", "known"),
    [("boss", True), ("boss\0.evil.example", False), ("boss ", False), ("BOSS", False), ("", False)],
)
def test_a_certificates_name_is_taken_whole(two_keys, name, known):
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    pem = made.sign(key, SHA256()).public_bytes(Encoding.PEM)
    callers = Callers(
        ServerConfig(tls={"certificate": "c", "key": "k", "client_ca": "a"}, certificates={"boss": ["admin"]})
    )
    said = {"x509_pem_cert": [pem], "x509_common_name": [b"boss"]}  # as gRPC says it of each of these
    if known:
        assert callers.caller([], said).roles == {Role.ADMIN}
    else:
        with pytest.raises(Unauthenticated):
            callers.caller([], said)


def test_a_bad_token_is_not_saved_by_a_certificate(two_keys):
    callers = Callers(ServerConfig(tokens=two_keys[0]))

    with pytest.raises(Unauthenticated):
        callers.caller([("authorization", "Bearer x")], {"x509_common_name": [b"a-host"]})
