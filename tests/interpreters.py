"""What other Pythons of this machine must pass too: the tests of index, decoding and service, in an environment each.

`make interpreters` runs them with every Python from 3.11 to 3.13 that it finds beside its own, on the path or of pyenv.
Each has the versions of the lock, but no torch, whose builds for some of them need gigabytes: tests of the encoder
itself are left out there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
WHAT = (
    *("tests/index", "tests/service", "tests/encoder/test_clips.py"),
    *("tests/encoder/container/test_container.py", "tests/encoder/video/test_decode.py"),
)
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")


def others():
    """Pythons by version, without this one's."""
    folders, found = os.get_exec_path(), {}
    pyenvs = [Path(folder).parent for folder in folders if Path(folder).name == "shims"]
    for version in VERSIONS:
        named = [shutil.which(f"python{version}", path=folder) for folder in folders]
        built = [python for pyenv in pyenvs for python in sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]
        for python in filter(None, (*named, *built)):
            said = subprocess.run([python, "-VV"], capture_output=True, text=True, check=False)
            if said.returncode == 0 and f"Python {version}." in said.stdout:
                found.setdefault(version, str(python))
    own = "{}.{}".format(*sys.version_info)
    return {version: python for version, python in found.items() if version != own}


def environment(version, python):
    """The Python of an environment with the lock's versions; made again where the lock is newer."""
    folder, lock = ROOT / ".venv" / f"python{version}", ROOT / "requirements.lock"
    if folder.is_dir() and folder.stat().st_mtime > lock.stat().st_mtime:
        return folder / "bin" / "python"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    own = folder / "bin" / "python"
    hashed = folder / "hashed.txt"
    hashed.write_text("".join(line for line in lock.open() if not line.startswith("torch==")))
    subprocess.run([own, *_PIP, "--require-hashes", "-r", hashed], check=True)
    subprocess.run([own, *_PIP, "--no-build-isolation", "-e", ROOT], check=True)
    folder.touch()
    return own


def main():
    """Run them one after the other; the status is that of the first that fails."""
    found = others()
    if not found:
        print("no other Python from 3.11 to 3.13 is here")  # noqa: T201
    for version, python in found.items():
        print(f"Python {version}: {python}", flush=True)  # noqa: T201
        own = environment(version, python)
        tests = [own, "-m", "pytest", "-p", "no:cacheprovider", *WHAT]
        if status := subprocess.run(tests, cwd=ROOT, check=False).returncode:
            sys.exit(status)


if __name__ == "__main__":
    main()
