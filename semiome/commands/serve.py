"""`semiome serve`: the gRPC server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from semiome.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from semiome.console import Screen

if TYPE_CHECKING:
    from service.knowledge import Source


def serve(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 50051,
    as_json: JsonOption = False,
) -> None:
    """Answer gRPC calls until SIGTERM or Ctrl-C; takes up new generations, labels and heads by itself."""
    import asyncio
    import logging
    import os

    from pydantic import ValidationError

    from index.errors import InvalidInput
    from index.workspace import Workspace
    from service.server import ServerConfig
    from service.server import serve as run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    screen = Screen(as_json=as_json)
    try:
        config = ServerConfig(host=host, port=port)
    except ValidationError as error:
        raise InvalidInput("; ".join(str(problem["msg"]) for problem in error.errors())) from None

    def ready(address: str, source: Source) -> None:
        knowledge = source.knowledge
        manifest, provenance = knowledge.snapshot.generation.manifest, knowledge.provenance
        values = {
            "address": address,
            "pid": os.getpid(),
            "encoder_id": provenance.encoder_id,
            "generation": provenance.generation,
            "head_id": provenance.head_id,
            "clips": manifest.clips,
        }
        screen.result(
            values,
            lambda: screen.say(
                f"serving {manifest.clips} clips on {address}: generation {provenance.generation}, encoder "
                f"{provenance.encoder_id}, head {provenance.head_id or 'none'} (Ctrl-C ends)"
            ),
        )

    asyncio.run(run(Workspace.at(workspace), config, ready))
