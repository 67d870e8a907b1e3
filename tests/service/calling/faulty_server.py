"""`semiome serve` of which one duty hangs or fails each time: `DUTY hangs|fails serve …`."""

import sys
import threading
from dataclasses import replace

from semiome.__main__ import main as semiome
from service.server.worker import Server


def main():
    """Serve so."""
    _, name, fault, *arguments = sys.argv

    def hangs():
        threading.Event().wait()

    def fails():
        raise OSError(5, "Input/output error")

    duties = Server.duties

    def faulty(server):
        made = duties(server)
        assert name in {duty.name for duty in made}
        work = {"hangs": hangs, "fails": fails}[fault]
        return tuple(replace(duty, work=work) if duty.name == name else duty for duty in made)

    Server.duties = faulty
    sys.argv = ["semiome", *arguments]
    semiome()


if __name__ == "__main__":
    main()
