"""An S3 server in a process of its own; with `--forgetful` it writes whatever a request's conditions say."""

import argparse
import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class Forgetful:
    """Writes whatever the conditions of a request say."""

    def __init__(self, app):
        self._app = app

    def __call__(self, environ, start_response):
        for header in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
            environ.pop(header, None)
        return self._app(environ, start_response)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--forgetful", action="store_true")
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, Forgetful(app) if options.parse_args().forgetful else app, threaded=True)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
