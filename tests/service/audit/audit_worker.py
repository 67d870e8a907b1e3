"""A process that writes to an audit log: WORKSPACE SEGMENT_BYTES NAME COUNT; it says each line that is acknowledged."""

import sys
from pathlib import Path

from index.workspace import Workspace
from service.audit import log as audit
from service.audit.trail import Entry


def main():
    place, segment_bytes, name, count = sys.argv[1:]
    audit._SEGMENT_BYTES = int(segment_bytes)
    log = audit.AuditLog(Workspace(Path(place)))
    for number in range(int(count)):
        log.append([Entry(f"token:{name}", "/x/Y", "OK", f"{name}-{number}", ["p1"])])
        sys.stdout.write(f"{name}-{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
