"""Where what a host keeps of a shared workspace may lie."""

import pytest

from index.errors import StateError
from index.workspace import Workspace
from service.config import ServerConfig
from service.server import host_records as records
from service.server.host_records import open_records, passing

POD = """
22 1 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/x
40 22 0:30 / /dev/shm rw - tmpfs shm rw
41 22 8:1 /var/lib/kubelet/pods/0b/volumes/kubernetes.io~empty-dir/tmp /tmp rw,relatime - ext4 /dev/sda1 rw
42 22 8:16 / /workspace rw,relatime - xfs /dev/sdb rw
43 22 8:17 /some\\040where /a\\040disk rw,relatime - ext4 /dev/sdc rw
44 42 0:44 / /workspace/scratch rw shared:7 master:2 - tmpfs tmpfs rw
45 22 0:45 / /home rw - nfs4 server:/home rw
46 22 0:46 / /home rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("/tmp/.local/share/semiome/x", "an emptyDir"),
        ("/root/.local/share", "overlay"),
        ("/dev/shm/x", "tmpfs"),
        ("/workspace/x", ""),
        ("/workspace", ""),
        ("/workspace/scratch/x", "tmpfs"),
        ("/workspace/scratchy", ""),
        ("/a disk/x", ""),
        ("/home/me", "tmpfs"),
    ],
)
def test_what_goes_with_a_container_is_told(place, found):
    assert passing(place, POD) == found


def test_the_mounts_of_this_machine_are_read(tmp_path):
    assert isinstance(passing(tmp_path), str)
    assert passing("/proc/self") == ""
    assert passing("/dev/shm") in {"tmpfs", ""}


def test_a_server_that_others_reach_does_not_keep_its_log_where_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "passing", lambda place: "tmpfs")
    shared = Workspace(tmp_path, "s3://clips/x")
    signed = ServerConfig(tokens={"jwks": "j", "issuer": "i", "audience": "a"})
    with pytest.raises(StateError, match="set SEMIOME_LOCAL to a folder on a disk that stays"):
        open_records(shared, signed)
    assert open_records(Workspace(tmp_path), signed)[1] == tmp_path / "audit" / "quota.sqlite"
