"""The tree of commands. Nothing heavy is imported before a command runs: `semiome --help` must answer at once."""

from __future__ import annotations

import typer

from semiome.commands import ask, demo, encode, encoder, head, index, manifest, serve

app = typer.Typer(
    help="Find past seizures that look like this one, and say whether a seizure is temporal or extratemporal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.command("encode")(encode.encode)
app.command("serve")(serve.serve)
app.command("search")(ask.search)
app.command("classify")(ask.classify)
for name, group in (
    ("manifest", manifest.app),
    ("encoder", encoder.app),
    ("head", head.app),
    ("index", index.app),
):
    app.add_typer(group, name=name)
