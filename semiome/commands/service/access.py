"""`semiome access`: certificates and tokens, where no identity provider gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import JsonOption

app = typer.Typer(
    help="Who may ask a server: certificates and tokens, where no identity provider gives them.", no_args_is_help=True
)

FolderArgument = Annotated[Path, typer.Argument(help="Holds keys: keep it to yourself.")]
HostOption = Annotated[list[str], typer.Option("--host", help="Name or address of the server; repeat for more.")]
AuthorityOption = Annotated[
    Path | None, typer.Option(help="Folder of the keys that sign, where it was moved away from FOLDER/authority.")
]
HOSTS = ("localhost", "127.0.0.1")


@app.command()
def init(folder: FolderArgument, host: HostOption = list(HOSTS), as_json: JsonOption = False) -> None:  # noqa: B006
    """Make a certificate authority, the server's certificate, a key for tokens, and settings for `semiome serve`."""
    from service.server.credentials import AUTHORITY, SETTINGS, make_access

    make_access(folder, host)
    settings = folder / SETTINGS
    screen = Screen(as_json=as_json)
    screen.result(
        {"settings": str(settings), "ca": str(folder / "ca.pem"), "authority": str(folder / AUTHORITY)},
        lambda: screen.say(
            f"{settings} is for `semiome serve --config`, {folder / 'ca.pem'} for clients. {folder / AUTHORITY} signs "
            "certificates and tokens: keep it where no server can read it, and name it with --authority"
        ),
    )


@app.command()
def renew(
    folder: FolderArgument,
    host: HostOption = list(HOSTS),  # noqa: B006
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new certificate for the server; a running server picks it up without an interruption."""
    from service.server.credentials import renew_server_certificate

    renew_server_certificate(folder, host, authority)
    screen = Screen(as_json=as_json)
    screen.result(
        {"certificate": str(folder / "server.pem")}, lambda: screen.say("the server's certificate is renewed")
    )


@app.command()
def token(
    folder: FolderArgument,
    name: Annotated[str, typer.Option(help="User or program it is for, as the audit log names it.")],
    role: Annotated[
        list[str], typer.Option(help="reader, clinician, classifier, trainer or admin. May be given more than once.")
    ],
    out: Annotated[Path, typer.Option(help="File to write it to, readable by you alone.")],
    days: Annotated[float, typer.Option(help="Validity in days.")] = 30.0,
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a token."""
    from service.server.credentials import make_token, write_secret

    write_secret(out, make_token(folder, name, role, days, authority))
    screen = Screen(as_json=as_json)
    screen.result({"token_file": str(out)}, lambda: screen.say(f"{out} is for --token-file; it is secret"))


@app.command()
def certificate(
    folder: FolderArgument,
    name: Annotated[str, typer.Option(help="Common name; [certificates] of the settings gives it roles.")],
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """A certificate for a client: NAME.pem and NAME.key in the folder."""
    from service.server.credentials import make_client_certificate

    make_client_certificate(folder, name, authority)
    screen = Screen(as_json=as_json)
    values = {"certificate": str(folder / f"{name}.pem"), "key": str(folder / f"{name}.key")}
    screen.result(values, lambda: screen.say(f"{values['certificate']} and {values['key']} are for the client"))
