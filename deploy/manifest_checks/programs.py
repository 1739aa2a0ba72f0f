"""Passbook's programs: which one a container runs, and the settings in its --help."""

import functools
import re
import subprocess
import sys
from typing import NamedTuple

from .objects import Object
from .workspace import BUILT

# A program with its subcommands: ("passbook", "dlq", "list").
Command = tuple[str, ...]


class Settings(NamedTuple):
    """The environment variables that a command reads."""

    defaults: dict[str, str | None]
    required: set[str]


def require_built_programs() -> None:
    """Exits if a program is missing: without its --help its settings are unknown."""
    for program in ("account-service", "transaction-service", "report-service", "webhook-service", "report-renderer",
                    "passbook"):
        if not (BUILT / program).exists():
            sys.exit(f"{BUILT / program} is missing: build it with cargo build --workspace --bins")


def command_of(container: Object) -> Command | None:
    """The command of a container with an image passbook/…, or None for any other image."""
    program = re.search(r"(?:^|/)passbook/([a-z-]+)(?:[:@]|$)", container["image"])
    if not program:
        return None
    subcommands = []
    if program[1] == "passbook":
        for argument in container.get("args", []):
            if argument.startswith("-"):
                break
            subcommands.append(argument)
    return program[1], *subcommands


@functools.cache
def settings_of(command: Command) -> Settings | None:
    """The settings of a command, or None if the program has no such subcommand."""
    program, *subcommands = command
    completed = subprocess.run([str(BUILT / program), *subcommands, "--help"],
                               capture_output=True, text=True, env={"COLUMNS": "200"}, check=False)
    # A subcommand's own usage line proves that --help described it and not its parent.
    if completed.returncode != 0 or (subcommands and f"Usage: {' '.join(command)}" not in completed.stdout):
        return None
    return parse_help(completed.stdout)


def parse_help(text: str) -> Settings:
    """Reads clap's help. An option is required if the usage line has it outside of brackets."""
    defaults: dict[str, str | None] = {}
    variables = {}
    for option in re.split(r"\n(?=  +(?:-\w, )?--)", text)[1:]:
        flag = re.search(r"--[\w-]+", option)[0]
        variable = re.search(r"\[env: (\w+)", option)
        default = re.search(r"\[default: (.*?)\]", option)
        if variable:
            variables[flag] = variable[1]
            defaults[variable[1]] = default[1] if default else None
    usage = re.sub(r"\[[^\]]*\]", "", re.search(r"Usage: (.*)", text)[1])
    # A required option without a variable stays in its form as a flag.
    return Settings(defaults, {variables.get(flag, flag) for flag in re.findall(r"--[\w-]+", usage)})
