"""The tree of commands. Nothing heavy is imported before a command runs: `semiome --help` must answer at once."""

from __future__ import annotations

import inspect
from importlib import metadata
from typing import Annotated

import typer

from semiome.commands import demo
from semiome.commands.data import beds, doctor, encode, erase, events, film, index, manifest, previews, remove, store
from semiome.commands.models import ablate, classes, encoder, evaluate, head, judge, pretrain, signs
from semiome.commands.service import access, ask, audit, feedback, health, moments, serve, web
from semiome.console import Log, Screen


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"semiome {metadata.version('semiome')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _semiome(
    version: Annotated[  # noqa: ARG001  its callback prints it
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    log: Annotated[
        Log, typer.Option("--log", help="How notes, warnings and progress are written to stderr: words, or JSON lines.")
    ] = Log.WORDS,
) -> None:
    """Find past seizures that look like this one, and say of which class a seizure is: temporal or extratemporal."""
    Screen.log = log


app.command("demo")(demo.demo)
app.command("beds")(beds.beds)
app.command("encode")(encode.encode)
app.command("pretrain")(pretrain.pretrain)
app.command("evaluate")(evaluate.evaluate)
app.command("judge")(judge.judge)
app.command("ablate")(ablate.ablate)
app.command("previews")(previews.previews)
app.command("film")(film.film)
app.command("serve")(serve.serve)
app.command("web")(web.web)
app.command("classes")(classes.classes)
app.command("doctor")(doctor.doctor)
app.command("remove")(remove.remove)
app.command("erase")(erase.erase)
app.command("health")(health.health)
app.command("search")(ask.search)
app.command("moments")(moments.moments)
app.command("classify")(ask.classify)
for name, group in (
    ("manifest", manifest.app),
    ("events", events.app),
    ("encoder", encoder.app),
    ("head", head.app),
    ("signs", signs.app),
    ("index", index.app),
    ("store", store.app),
    ("access", access.app),
    ("audit", audit.app),
    ("feedback", feedback.app),
):
    app.add_typer(group, name=name)


def _flow(group: typer.Typer) -> None:
    """Let paragraphs of help fill the terminal: typer keeps the line breaks of all but a docstring's first one."""
    for command in group.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for below in group.registered_groups:
        if below.typer_instance is not None:
            _flow(below.typer_instance)


_flow(app)
