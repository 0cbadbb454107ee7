"""The argparse parser of a verb's options, and its help page."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from affekt.cli.framework.arguments import Argument, arguments_of, documentation, is_list, is_table, word, words_at_once
from affekt.errors import ConfigError

HELP = ("-h", "--help")
EXAMPLES = """\
Examples:
  affekt predict call.wav interviews/     emotion of recordings, one line each
  affekt help train                       options of a command
"""
NUMBER = re.compile(r"-\.?\d")
"""Start of a word that is a negative number, not an option: -3, -.5, -1e-3."""
WIDEST, INDENTED = 100, 28  # columns: width of the page, indentation of the help texts


class Parser(argparse.ArgumentParser):
    """Parses options and leaves all other words; values stay text.

    Args:
        program: the words before its own.
        text: first paragraph of the help page.
    """

    def __init__(self, program: str, text: str = "") -> None:
        self.columns = min(WIDEST, shutil.get_terminal_size().columns) - 2
        super().__init__(
            prog=program,
            usage=argparse.SUPPRESS,  # it is part of the text
            description=text,
            formatter_class=self.formatter,
            argument_default=argparse.SUPPRESS,
            add_help=False,
            allow_abbrev=False,
        )
        self._negative_number_matcher = NUMBER  # as in Python 3.14; that of 3.11 lacks exponents

    def formatter(self, prog: str) -> argparse.HelpFormatter:
        """A formatter that keeps line breaks: the texts are wrapped already."""
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=INDENTED, width=self.columns)

    def error(self, message: str) -> NoReturn:
        """Raise argparse's errors as an exception instead of exiting."""
        raise ConfigError(message.removeprefix("argument "), remedy=f"see `{self.prog} --help`")

    def add(self, arguments: Iterable[Argument], words: Sequence[str] = ()) -> None:
        """Add arguments in groups: arguments, options, and the fields of each dataclass."""
        groups: dict[str, Any] = {}
        for argument in arguments:
            title = f"--{'.'.join(argument.keys[:-1])}.*" if argument.keys[1:] else "Options"
            title = "Arguments" if argument.positional else title
            if title not in groups:
                section = textwrap.fill(argument.section, self.columns - 2) or None
                groups[title] = self.add_argument_group(title, section)
            _add(groups[title].add_argument, argument, words)


def page(program: str, function: Callable[..., object], note: str = "") -> str:
    """The help page of a verb: usage, description, arguments and options.

    Args:
        program: the words before the arguments, e.g. `affekt tune`.
        function: the function of the verb.
        note: last paragraph of the description.
    """
    prose = "\n\n".join(filter(None, (documentation(function)[0], note)))
    arguments = arguments_of(function)
    parser = Parser(program)
    call = textwrap.fill(f"Usage: {usage(program, arguments)}", parser.columns, subsequent_indent=" " * 7)
    parser.description = f"{call}\n\n{_wrapped(prose, parser.columns)}"
    parser.add(arguments)
    parser.add_argument_group("Help").add_argument(*HELP, action="store_true", help="show this page")
    return parser.format_help()


def front_page(program: str, text: str, verbs: Iterable[tuple[str, str]]) -> str:
    """The help page of the program: its verbs with their summaries.

    Args:
        program: name of the program.
        text: description.
        verbs: names and summaries.
    """
    parser = Parser(program, f"Usage: {program} COMMAND [OPTIONS]\n\n{text}")
    parser.epilog = EXAMPLES
    commands = parser.add_argument_group("Commands")
    for verb, summary in verbs:
        commands.add_argument(verb, help=summary.replace("%", "%%"))
    options = parser.add_argument_group("Options")
    options.add_argument(*HELP, action="store_true", help=f"show this page; `{program} COMMAND --help` for one command")
    options.add_argument("--version", action="store_true", help="print the version")
    return parser.format_help()


def usage(program: str, arguments: Iterable[Argument]) -> str:
    """Usage line of a verb.

    >>> usage("affekt report", [Argument(("out",), str), Argument(("run",), str, positional=True)])
    'affekt report RUN --out TEXT [OPTIONS]'
    """
    arguments = list(arguments)
    places = [
        argument.name if argument.required else f"[{argument.name}{' ...' if argument.variadic else ''}]"
        for argument in arguments
        if argument.positional
    ]
    needed = [f"{part.name} {word(part.kind)}" for part in arguments if part.required and not part.positional]
    return " ".join([program, *places, *needed, "[OPTIONS]"])


def _add(add: Callable[..., object], argument: Argument, words: Sequence[str]) -> None:
    """Add one argument to a parser; its value is stored under its name."""
    name, kind, text = argument.name, argument.kind, _help(argument)
    spelt = [argument.alias, name] if argument.alias else [name]
    if argument.positional:
        add(name, help=text)
    elif kind is bool:
        hidden = argparse.SUPPRESS if argument.default is False else f"turn {name} off"
        add(*spelt, dest=name, action="store_const", const=True, help=text)
        add(argument.contrary, dest=name, action="store_const", const=False, help=hidden)
    elif is_table(kind):
        add(f"{name}.KEY", dest=f"{name}.KEY", metavar=word(kind), help=text)
        for key in {typed.partition("=")[0] for typed in words if typed.startswith(f"{name}.")} - {f"{name}.KEY"}:
            add(key, dest=key)
    elif is_list(kind):
        together = words_at_once(kind)
        one = word(kind) if together is None else (word(kind),) * together
        add(*spelt, dest=name, metavar=one, help=text, nargs=together, action="store" if together else "append")
    else:
        add(*spelt, dest=name, metavar=word(kind), help=text)


def _help(argument: Argument) -> str:
    """Help text with the default.

    >>> _help(Argument(("seconds",), float, 60.0, "between two hops.")), _help(Argument(("out",), str, help="where."))
    ('between two hops. (default: 60)', 'where. (required)')
    """
    default = argument.default
    if argument.required:
        said = "" if argument.positional else " (required)"
    elif argument.variadic or default is None or default is False or default in ("", ()):
        said = ""
    else:
        said = f" (default: {_shown(default)})"
    return f"{argument.help}{said}".strip().replace("%", "%%")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(prose: str, columns: int) -> str:
    """Wrap paragraphs to a width; indented paragraphs stay as they are."""
    paragraphs = re.split(r"\n{2,}", prose)
    return "\n\n".join(text if text.startswith(" ") else textwrap.fill(text, columns) for text in paragraphs)
