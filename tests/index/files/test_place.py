"""Both kinds of place keep one contract. What they hold is looked at, and put there, around them."""

import multiprocessing

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import DamagedData, Locked
from index.files import place as places
from index.files.bucket import Bucket
from index.files.place import Folder, place_of
from tests.index.files.test_objects import s3, use

NAMES = ["key", "erasures/a.json", "store/videos.lance/_versions/1.manifest", "store/videos.lance/data/x.lance"]


class FolderAround:
    """Reads and writes a folder's files as `cp` would."""

    def __init__(self, root):
        self._root = root

    def put(self, name, data):
        (self._root / name).parent.mkdir(parents=True, exist_ok=True)
        (self._root / name).write_bytes(data)

    def all(self):
        files = (path for path in self._root.rglob("*") if path.is_file())
        return {path.relative_to(self._root).as_posix(): path.read_bytes() for path in files}


class BucketAround:
    """Reads and writes a bucket's objects with Amazon's own client."""

    def __init__(self, address, prefix):
        self._prefix = prefix
        self._client = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
        )

    def put(self, name, data):
        self._client.put_object(Bucket="clips", Key=f"{self._prefix}/{name}", Body=data)

    def all(self):
        found = self._client.list_objects_v2(Bucket="clips", Prefix=f"{self._prefix}/").get("Contents", ())
        return {
            one["Key"].removeprefix(f"{self._prefix}/"): self._client.get_object(Bucket="clips", Key=one["Key"])[
                "Body"
            ].read()
            for one in found
        }


@pytest.fixture(scope="module")
def server():
    with s3() as address:
        yield address


@pytest.fixture(params=["folder", "bucket"])
def kind(request, server, tmp_path, monkeypatch):
    """A place, and what reads and writes around it."""
    if request.param == "folder":
        return place_of(tmp_path / "ws", ""), FolderAround(tmp_path / "ws")
    use(monkeypatch, server)
    monkeypatch.setattr("index.files.bucket.LEASE_S", 2.0)
    prefix = request.node.name.replace("[", "-").replace("]", "")
    return place_of(tmp_path / "ws", f"s3://clips/{prefix}"), BucketAround(server, prefix)


def test_each_kind_is_what_it_says(kind, tmp_path):
    place, _ = kind

    assert place.remote == isinstance(place, Bucket) == place.address.startswith("s3://")
    assert isinstance(place, Folder) == (place.address == str(tmp_path / "ws"))


def test_what_is_written_is_there_whole_and_nothing_else_is(kind, tmp_path):
    place, around = kind
    (tmp_path / "file").write_bytes(b"from a file")

    for name in NAMES[:3]:
        place.write(name, name.encode())
    place.write("key", tmp_path / "file")

    assert around.all() == {**{name: name.encode() for name in NAMES[:3]}, "key": b"from a file"}
    assert place.read("key") == b"from a file"


def test_what_was_put_there_otherwise_is_read(kind):
    place, around = kind
    around.put("key", b"\x00\xff")

    assert place.read("key") == b"\x00\xff"
    assert place.read("missing") is None
    assert place.read("missing/too") is None


def test_only_the_first_of_several_creates(kind):
    place, around = kind

    assert [place.create("key", data) for data in (b"first", b"second")] == [True, False]
    assert around.all() == {"key": b"first"}


def test_names_sizes_and_folders_are_those_below_a_prefix(kind):
    place, around = kind
    for name in [*NAMES, "erasures/.pending-1.json", "erasures/deeper/b.json"]:
        around.put(name, b"12345")

    assert place.names("erasures") == [".pending-1.json", "a.json"]
    assert place.sizes("store") == dict.fromkeys(NAMES[2:], 5)
    assert place.folders("store") == ["videos.lance"]
    assert sorted(place.folders("store/videos.lance")) == ["_versions", "data"]
    assert (place.names("nothing"), place.sizes("nothing"), place.folders("nothing")) == ([], {}, [])


def test_removing_what_is_missing_is_no_error(kind):
    place, around = kind
    for name in NAMES[:2]:
        around.put(name, b"x")

    place.remove([NAMES[0], "missing"])
    place.remove([])

    assert around.all() == {NAMES[1]: b"x"}


def test_a_copy_on_this_host_is_a_new_file(kind, tmp_path):
    place, around = kind
    around.put("generations/1/vectors.npy", b"v" * 100_000)

    place.download("generations/1/vectors.npy", tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == b"v" * 100_000
    with pytest.raises(FileExistsError):
        place.download("generations/1/vectors.npy", tmp_path / "copy")


def test_a_lease_is_held_by_one_at_a_time_and_given_back(kind):
    place, _ = kind

    with place.lease("commit.lock", "the right to write") as still_mine:
        still_mine()
        with (
            pytest.raises(Locked, match="the right to write is held by"),
            place.lease("commit.lock", "the right to write"),
        ):
            pass
    with place.lease("commit.lock", "the right to write") as still_mine:
        still_mine()


def test_a_lease_of_a_process_that_was_killed_is_free(kind, tmp_path):
    place, _ = kind
    context = multiprocessing.get_context("spawn")
    url = place.address if place.remote else ""
    holding, told = context.Pipe(duplex=False)
    holder = context.Process(target=hold, args=(tmp_path / "ws", url, told))
    holder.start()
    assert holding.recv() == "held"
    holder.kill()
    holder.join()

    with place.lease("commit.lock", "the right to write") as still_mine:
        still_mine()


def hold(root, url, told):
    with place_of(root, url).lease("commit.lock", "the right to write"):
        told.send("held")
        holder_is_killed = multiprocessing.Event()
        holder_is_killed.wait()


def test_the_right_to_change_a_file_is_waited_for(kind, monkeypatch):
    place, _ = kind
    monkeypatch.setattr(places, "_PATIENCE_S", 0.3)

    with (
        place.changing("erasures/list"),
        pytest.raises(Locked, match="the right to change `list` is held by"),
        place.changing("erasures/list"),
    ):
        pass
    with place.changing("erasures/list"):
        place.write("erasures/list", b"1")


def test_the_stamp_of_a_file_changes_with_it_or_is_not_given(kind):
    place, _ = kind
    assert place.stamp("erased") is None
    place.write("erased", b"one")
    first = place.stamp("erased")
    place.write("erased", b"two")

    assert (first is None) == place.remote
    assert first is None or place.stamp("erased") != first


def test_only_where_the_system_does_not_vouch_for_them_conditions_are_tried(kind):
    place, around = kind

    assert place.keeps_conditions() is (True if place.remote else None)
    assert around.all() == {}


@given(data=st.binary(max_size=2000))
def test_any_bytes_come_back(data, tmp_path_factory):
    place = Folder(tmp_path_factory.mktemp("any"))
    place.write("a/b", data)

    assert place.read("a/b") == data


@pytest.mark.parametrize("put", [lambda path: path.mkdir(), lambda path: path.symlink_to(path)])
def test_what_is_no_plain_file_is_damage(tmp_path, put):
    put(tmp_path / "key")

    with pytest.raises(DamagedData, match="`key` can't be read"):
        Folder(tmp_path).read("key")


def test_a_file_put_in_place_of_itself_stays(tmp_path):
    place = Folder(tmp_path)
    place.write("a", b"whole")
    before = place.stamp("a")

    place.write("a", tmp_path / "a")

    assert (place.read("a"), place.stamp("a")) == (b"whole", before)
