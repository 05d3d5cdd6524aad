"""Prints docs/settings.md, which is made from the options of the command `dte`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import click

from dte.cli.main import main
from dte.master.settings import Settings

SERVERS = ("master", "run", "worker")
DEFAULT = re.compile(r" *\[default: (.*)\]")
INTRODUCTION = """\
# Settings

These options are also environment variables, and can be set in a file `.env` in the current folder.
The command line wins over the environment, and the environment over the file, which sets nothing
that dte does not know: set PYTHONPATH, or what your handlers read, in the environment. `--key`,
`--arg` and `--after` of a submission have no variable, which would apply to every submission.

`scripts/docs` makes this page from the options themselves, which `dte COMMAND --help` shows.
"""


@dataclass(slots=True)
class Setting:
    """An option of one or several commands.

    Attributes:
        defaults: its default, by command.
    """

    name: str
    variable: str
    text: str
    defaults: dict[str, str] = field(default_factory=dict)

    @property
    def default(self) -> str:
        """The default of the first command, and after it those of others that differ."""
        (_, first), *others = self.defaults.items()
        return "; ".join([first, *(f"{name}: {text}" for name, text in others if text != first)])

    @property
    def commands(self) -> str:
        """The commands that have it; all that ask a master are called clients."""
        clients = [
            name
            for name, command in main.commands.items()
            if name not in SERVERS and any(each.name == "master_url" for each in command.params)
        ]
        if set(clients) <= self.defaults.keys():
            servers = [name for name in self.defaults if name in SERVERS]
            others = [name for name in self.defaults if name not in (*SERVERS, *clients)]
            return ", ".join([*servers, "all clients", *others])
        return ", ".join(self.defaults)


def settings() -> list[Setting]:
    """All options, in the order of the commands and of their help."""
    found: dict[tuple[str, str], Setting] = {}
    for command in (*SERVERS, *(name for name in main.commands if name not in SERVERS)):
        for option in _params_of(main.commands[command]):
            if not isinstance(option, click.Option) or option.hidden or not option.envvar:
                continue
            variable = option.envvar if isinstance(option.envvar, str) else option.envvar[0]
            known = found.setdefault(
                (option.opts[0], variable), Setting(option.opts[0], variable, text_of(option))
            )
            known.defaults[command] = default_of(option)
    return list(found.values())


def _params_of(command: click.Command) -> list[click.Parameter]:
    """The parameters of a command, and of the commands in a group."""
    params = [*command.params]
    if isinstance(command, click.Group):
        params += [each for below in command.commands.values() for each in below.params]
    return params


def text_of(option: click.Option) -> str:
    """The help of an option, with its choices if it has some."""
    text = DEFAULT.sub("", " ".join((option.help or "").split())).replace("|", r"\|")
    choices = option.type.choices if isinstance(option.type, click.Choice) else ()
    if any(choice not in text for choice in choices):
        text += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    return text


def default_of(option: click.Option) -> str:
    """The default of an option; the help has it where it is no value."""
    said = DEFAULT.search(option.help or "")
    if said is not None:
        return said[1]
    value = option.default
    if option.is_flag:
        return "on" if value is True else "off"
    if isinstance(value, int | float):
        return str(value) if option.metavar == "PORT" else f"{value:,.15g}"
    return value if isinstance(value, str) and value else "none"


def page() -> str:
    """The whole page."""
    bounds = {each.name.replace("_", "-") for each in fields(Settings) if "help" in each.metadata}
    sections: dict[str, list[Setting]] = {
        "Master": [],
        "Bounds of the master": [],
        "Worker": [],
        "`dte run`": [],
        "Clients": [],
    }
    for setting in settings():
        commands = setting.defaults.keys()
        if "master" in commands:
            is_bound = setting.name.removeprefix("--") in bounds
            sections["Bounds of the master" if is_bound else "Master"].append(setting)
        elif "worker" in commands:
            sections["Worker"].append(setting)
        else:
            sections["`dte run`" if list(commands) == ["run"] else "Clients"].append(setting)
    return "\n".join([INTRODUCTION, *(section(*each) for each in sections.items())])


def section(title: str, found: Sequence[Setting]) -> str:
    """A table, with a column for the commands unless all of its options have the same ones."""
    commands = {each.commands for each in found}
    lines = [f"## {title}", ""]
    if len(commands) == 1:
        names = " and ".join(f"`dte {name}`" for name in found[0].defaults)
        lines += [
            f"Options of {names}.",
            "",
            "| option | variable | default | |",
            "|---|---|---|---|",
        ]
    else:
        lines += ["| option | variable | default | | commands |", "|---|---|---|---|---|"]
    for each in found:
        row = f"| `{each.name}` | `{each.variable}` | {each.default} | {each.text} |"
        lines.append(row if len(commands) == 1 else f"{row} {each.commands} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
