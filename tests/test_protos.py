"""The API is held to its rules and to its last release, and what it says of itself is so."""

import json
import re
import shutil

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from protos.compiler import ROOT, sources, write_image
from protos.document import FAILURES, PAGE, anchor, page
from protos.lint import BASELINE, complaints
from service.errors import STATUS, reason_of
from service.roles import ALLOWED
from service.server.worker import SERVICES


@pytest.fixture
def copy(tmp_path):
    """A folder that holds a copy of the `.proto` files."""
    (tmp_path / "protos").mkdir()
    for path in sources():
        shutil.copy(path, tmp_path / "protos")
    return tmp_path


def edited(copy, old, new, name="classification.proto"):
    """The copy with something replaced in one file."""
    path = copy / "protos" / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return copy


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """Our own files, with comments, as protoc describes them."""
    image = tmp_path_factory.mktemp("image") / "api.binpb"
    write_image(image)
    files = FileDescriptorSet.FromString(image.read_bytes()).file
    return [file for file in files if file.package == "semiome.v1"]


def test_nothing_is_wrong_with_the_api():
    assert complaints() == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("uint32 tle_votes = 3 [", "uint32 temporal_votes = 3 [", '"tle_votes" to "temporal_votes"'),
        ("uint32 tle_votes = 3 [", "uint32 tle_votes = 30 [", 'field "3" with name "tle_votes"'),
        ("uint32 tle_votes = 3 [", "string tle_votes = 3 [", 'changed type from "uint32" to "string"'),
        ("returns (ClassifyResponse);", "returns (Verdict);", "semiome.v1.ClassifyResponse"),
    ],
)
def test_a_change_that_a_client_of_the_last_release_would_not_survive_is_refused(copy, old, new, says):
    found = complaints(edited(copy, old, new))

    assert any(line.startswith("breaking: protos/classification.proto:") and says in line for line in found), found


def test_a_file_that_is_gone_is_refused_and_googles_are_not_missed(copy):
    (copy / "protos" / "admin.proto").unlink()  # the only one that imports google/protobuf/timestamp.proto

    assert complaints(copy) == ['breaking: <input>:1:1:Previously present file "protos/admin.proto" was deleted.']


def test_a_new_field_is_no_break_but_needs_a_comment(copy):
    before, comment = "  // Clips that vote for it.\n", "  // How long it took.\n"

    assert complaints(edited(copy, before, f"{comment}  double took_s = 99;\n{before}")) == []
    found = complaints(edited(copy, comment, ""))
    assert len(found) == 1
    assert 'Field "took_s" should have a non-empty comment' in found[0]


def test_the_last_release_is_kept_without_comments():
    files = FileDescriptorSet.FromString(BASELINE.read_bytes()).file

    assert {file.name for file in files} >= {str(path.relative_to(ROOT)) for path in sources()}
    assert not any(file.HasField("source_code_info") for file in files)


def test_methods_are_for_the_roles_that_their_comments_name(described):
    """Those of AdminService differ by what they do, and its comment says so in words."""
    checked = 0
    for file in described:
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for i, service in enumerate(file.service):
            for j, method in enumerate(service.method):
                named = roles_named(comments[6, i, 2, j]) or roles_named(comments[6, i])
                allowed = ALLOWED[f"/semiome.v1.{service.name}/{method.name}"]
                if service.name != "AdminService" and method.name != "GetEmbeddings":
                    assert named == allowed, method.name
                    checked += 1
    assert checked == len([name for name in ALLOWED if name.startswith("/semiome.v1.")]) - 12


def roles_named(comment):
    """What stands after `Roles:`, up to the first clause that speaks of something else."""
    found = re.search(r"Roles: ([a-z, ]+)", comment)
    return frozenset(found[1].split(", ")) if found else frozenset()


def test_the_page_is_what_the_comments_say():
    assert PAGE.read_text() == page()


def test_every_link_of_the_page_leads_to_one_heading():
    text = PAGE.read_text()
    headings = [anchor(heading) for heading in re.findall("^##* (.*)$", text, re.MULTILINE)]

    assert len(headings) == len(set(headings))
    assert set(re.findall(r"\]\((.*?)\)", text)) <= set(headings)


def test_everything_of_the_api_is_on_the_page(described):
    text = PAGE.read_text()
    for file in described:
        for service in file.service:
            assert all(f"\n### {service.name}.{method.name}\n" in text for method in service.method)
        for message in file.message_type:
            assert f"\n### {message.name}\n" in text
            assert all(f"| {field.number} | `{field.name}` |" in text for field in message.field)


def test_the_page_knows_every_failure():
    said = {one.code: one.reasons for one in FAILURES}

    assert set(said) == {code.name for code in STATUS.values()} | {"INTERNAL"}
    for error, code in STATUS.items():
        assert reason_of(error.__new__(error)) in said[code.name]


def test_the_calls_on_the_page_are_calls_of_the_api():
    """Their JSON is read as the message that the method takes, as grpcurl reads it."""
    pool, text = descriptor_pool.Default(), PAGE.read_text()
    examples = re.findall(r"call -d '(.*?)' \\\n  localhost:50051 (\S+)/(\S+)", text, re.DOTALL)

    assert len(examples) == text.count("call -d") == 4
    for data, service, name in examples:
        assert service in SERVICES
        method = pool.FindServiceByName(service).methods_by_name[name]
        requests = json_values(data)
        assert len(requests) == 1 + method.client_streaming
        for request in requests:
            json_format.ParseDict(request, message_factory.GetMessageClass(method.input_type)())


def json_values(text):
    """One after the other."""
    values, at = [], 0
    while at < len(text):
        value, at = json.JSONDecoder().raw_decode(text, at)
        values.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return values
