"""`semiome film`: a video's small film as a file, with faces blurred where that is asked for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption


def film(
    video: Annotated[str, typer.Argument(help="Id of a stored video that has a preview.")],
    to: Annotated[Path, typer.Option(help="The file to write, MP4.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    blur_faces: Annotated[
        bool, typer.Option("--blur-faces", help="Make faces unrecognisable; needs the extra `blur`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the small film of a video to a file: for a talk, or for a colleague elsewhere.

    No program finds every face. Stretches without one are reported, with exit code 3: look there before the film goes
    out. It leaves the workspace with this, and is not erased with the patient.
    """
    from encoder.previews.library import export_film
    from index.workspace import Workspace

    screen = Screen(as_json=as_json)
    with screen.progress("Looking for faces" if blur_faces else "Writing the film") as progress:
        made = export_film(Workspace.at(address), video, to, blur_faces=blur_faces, progress=progress)

    def show() -> None:
        faces = "faces blurred where they were found" if made.faces_blurred else "faces as they are"
        screen.say(f"wrote {to}: {made.seconds:.1f} s, {faces}")
        for start, end in made.without_a_face:
            screen.say(f"no face was found from {start:.2f} to {end:.2f} s: look there before it goes out")

    screen.result({"film": str(to), **asdict(made)}, show)
    if made.without_a_face:
        raise typer.Exit(3)
