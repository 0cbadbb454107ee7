"""`affekt completion`: the completion script of a shell, made from the signatures of all verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, get_args, get_origin

from affekt.cli.framework.arguments import Argument, arguments_of, is_table, item
from affekt.cli.framework.help_pages import HELP

Shell = Literal["bash", "zsh", "fish"]


class Word(NamedTuple):
    """An option in a completion script.

    Attributes:
        names: its names, the long one last.
        choices: its possible values, if they are known.
        takes_value: whether a value follows.
        help: its help text.
    """

    names: tuple[str, ...]
    choices: tuple[str, ...] = ()
    takes_value: bool = True
    help: str = ""


def completion(shell: Shell) -> int:
    """Print the completion script of a shell.

    Load it with one of these lines; add the line to the shell's start file to keep it.

      bash  source <(affekt completion bash)
      zsh   source <(affekt completion zsh)
      fish  affekt completion fish | source

    Args:
        shell: bash, zsh or fish.
    """
    from affekt.cli import VERBS, function_of

    verbs = {verb: row.summary for verb, row in VERBS.items()}
    options = {verb: [*_options(function_of(verb)), Word(HELP, (), False, "show this page")] for verb in verbs}
    print({"bash": bash, "zsh": zsh, "fish": fish}[shell](verbs, options), end="")
    return 0


def _options(function: Callable[..., object]) -> Iterator[Word]:
    for argument in arguments_of(function):
        if argument.positional or is_table(argument.kind):
            continue
        names = tuple(filter(None, (argument.alias, argument.name)))
        yield Word(names, _choices(argument), argument.kind is not bool, argument.help)
        if argument.kind is bool and argument.default is not False:
            yield Word((argument.contrary,), (), False, f"turn {argument.name} off")


def _choices(argument: Argument) -> tuple[str, ...]:
    kind = item(argument.kind)
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()


def bash(verbs: Mapping[str, str], options: Mapping[str, list[Word]]) -> str:
    """The script for bash; other words are completed as file names."""
    values = [
        f"    {verb}:{name}) words='{' '.join(word.choices)}' ;;"
        for verb, row in options.items()
        for word in row
        if word.choices
        for name in word.names
    ]
    names = [
        f"    {verb}:-*) words='{' '.join(n for word in row for n in word.names)}' ;;" for verb, row in options.items()
    ]
    first = f"words='{' '.join(verbs)} help --version --help'"
    lines = [
        "_affekt() {",
        "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} words=",
        "  case $verb:$previous in",
        *values,
        "  esac",
        '  [ -n "$words" ] || case $verb:$current in',
        *names,
        "  esac",
        f'  if [ "$COMP_CWORD" = 1 ] || [ "$previous" = help ]; then {first}; fi',
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _affekt affekt",
    ]
    return "\n".join(lines) + "\n"


def zsh(verbs: Mapping[str, str], options: Mapping[str, list[Word]]) -> str:
    """The script for zsh, with descriptions; other words are completed as file names."""
    lines = [
        "_affekt() {",
        "  local -a verbs=(",
        *(f"    {_quoted(f'{verb}:{_one_line(summary)}')}" for verb, summary in verbs.items()),
        "  )",
        "  if (( CURRENT == 2 )) || [[ $words[CURRENT-1] == help ]]; then _describe command verbs; return; fi",
        "  case $words[2] in",
    ]
    for verb, row in options.items():
        lines.append(f"    {verb}) _arguments \\")
        for word in row:
            value = (
                f":value:({' '.join(word.choices)})" if word.choices else ":value:_files" if word.takes_value else ""
            )
            said = _one_line(word.help).replace("[", "(").replace("]", ")").replace(":", "\\:")
            lines += [f"      {_quoted(f'*{name}[{said}]{value}')} \\" for name in word.names]
        lines.append("      '*:file:_files' ;;")
    load = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"
    lines += ["  esac", "}", load, "compdef _affekt affekt"]
    return "\n".join(lines) + "\n"


def fish(verbs: Mapping[str, str], options: Mapping[str, list[Word]]) -> str:
    """The script for fish, with descriptions; other words are completed as file names."""
    lines = ["complete -c affekt -e"]
    for verb, summary in {**verbs, "help": "Show the help of a command."}.items():
        first = "complete -c affekt -f -n __fish_use_subcommand"
        lines.append(f"{first} -a {verb} -d {_quoted(_one_line(summary))}")
    for verb, row in options.items():
        for word in row:
            short = [f"-s {name[1:]}" for name in word.names if not name.startswith("--")]
            long = [f"-l {name[2:]}" for name in word.names if name.startswith("--")]
            value = [f"-x -a '{' '.join(word.choices)}'"] if word.choices else ["-r"] if word.takes_value else []
            condition = f"-n '__fish_seen_subcommand_from {verb}'"
            said = f"-d {_quoted(_one_line(word.help))}"
            lines.append(" ".join(["complete -c affekt", condition, *short, *long, *value, said]))
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """The first clause of a help text.

    >>> _one_line("text, or json for programs. There is more.")
    'text, or json for programs'
    """
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def _quoted(text: str) -> str:
    """A text in single quotes, for any of the shells.

    >>> _quoted("the paper's")
    "'the paper'\\\\''s'"
    """
    return "'" + text.replace("'", "'\\''") + "'"
