"""Command-line arguments of a function, from its signature, type hints and docstring.

A positional parameter becomes an argument and a keyword parameter an option. A parameter whose type is a dataclass
becomes one option per field: ``train: TrainConfig`` gives ``--train.max-epochs``. The help texts come from the
docstrings: `Args:` of the function, `Attributes:` of the dataclass.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

REQUIRED = inspect.Parameter.empty
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):(`)~?(?=[^`]+`)")
"""Start of a reference in a docstring, which a terminal shows as code."""
WORDS: Mapping[Any, str] = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
"""Placeholders for values in help pages."""


@dataclass(frozen=True)
class Option:
    """Annotation that gives an option a short name: ``out: Annotated[Path, Option("-o")]``."""

    alias: str


@dataclass(frozen=True)
class Argument:
    """One argument or option of a command.

    Attributes:
        keys: name of the parameter, followed by the names of nested fields.
        hint: type of the value.
        default: default value; REQUIRED if there is none.
        help: help text, from the docstring.
        alias: short name of the option.
        section: help text of the dataclass that the field belongs to.
        positional: whether it is an argument, not an option.
        variadic: whether it takes all remaining words.
    """

    keys: tuple[str, ...]
    hint: Any
    default: Any = REQUIRED
    help: str = ""
    alias: str = ""
    section: str = ""
    positional: bool = False
    variadic: bool = False

    @property
    def name(self) -> str:
        """The name on the command line and in messages.

        >>> Argument(("train", "max_epochs"), int).name, Argument(("manifest",), Path, positional=True).name
        ('--train.max-epochs', 'MANIFEST')
        """
        return self.keys[0].upper() if self.positional else "--" + ".".join(self.keys).replace("_", "-")

    @property
    def contrary(self) -> str:
        """The option that turns a boolean option off.

        >>> Argument(("train", "bucketed"), bool).contrary
        '--train.no-bucketed'
        """
        head, _, last = self.name[2:].rpartition(".")
        return f"--{head}.no-{last}" if head else f"--no-{last}"

    @property
    def kind(self) -> Any:
        """Type of the value, without None.

        >>> Argument(("seed",), int | None).kind
        <class 'int'>
        """
        return _present(self.hint)

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is REQUIRED and not self.variadic


def arguments_of(function: Callable[..., Any]) -> list[Argument]:
    """Arguments and options of a function, in the order of its parameters.

    >>> def greet(name: str, *, times: Annotated[int, Option("-n")] = 1) -> None:
    ...     '''Say hello.
    ...
    ...     Args:
    ...         name: who is greeted.
    ...         times: how often.
    ...     '''
    >>> for argument in arguments_of(greet):
    ...     print(argument.name, argument.alias, argument.help)
    NAME  who is greeted.
    --times -n how often.

    Args:
        function: a verb, with type hints for all parameters.
    """
    hints = get_type_hints(function, include_extras=True)
    _, helps = documentation(function)
    found: list[Argument] = []
    for name, parameter in inspect.signature(function).parameters.items():
        argument = Argument((name,), hints[name], parameter.default, helps.get(name, ""), _alias(hints[name]))
        if parameter.kind is parameter.KEYWORD_ONLY:
            found += _options(argument)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            several = types.GenericAlias(tuple, (argument.hint, ...))
            found.append(replace(argument, hint=several, positional=True, variadic=True))
        else:
            found.append(replace(argument, positional=True))
    return found


def documentation(documented: Any) -> tuple[str, dict[str, str]]:
    """The prose of a docstring, and the help text of each of its arguments or attributes.

    >>> documentation(Option)[0]
    'Annotation that gives an option a short name: ``out: Annotated[Path, Option("-o")]``.'
    >>> documentation(Argument)[1]["alias"]
    'short name of the option.'
    """
    text = ROLE.sub(r"\1", inspect.getdoc(documented) or "")
    prose, *_ = re.split(r"^(?:Args|Attributes|Raises|Returns):$", text, maxsplit=1, flags=re.MULTILINE)
    *_, listed = re.split(r"^(?:Args|Attributes):$", text, maxsplit=1, flags=re.MULTILINE)
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    helps = {name: " ".join(said.split()) for names, said in entries for name in names.split(", ")}
    return prose.strip(), helps


def configuration(hint: Any) -> type | None:
    """The dataclass in a type hint, or None.

    >>> configuration(Option | None), configuration(int)
    (<class 'affekt.cli.framework.arguments.Option'>, None)
    """
    kind = _present(hint)
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def item(hint: Any) -> Any:
    """The type of one element of a list or table option; other types are returned unchanged.

    >>> item(tuple[int, ...]), item(dict[str, float]), item(Path)
    (<class 'int'>, <class 'float'>, <class 'pathlib.Path'>)
    """
    options = get_args(hint)
    return options[1 if is_table(hint) else 0] if is_table(hint) or is_list(hint) else hint


def is_table(hint: Any) -> bool:
    """Whether an option takes key-value pairs, such as ``--columns.label emotion``."""
    return get_origin(hint) in (dict, Mapping)


def is_list(hint: Any) -> bool:
    """Whether an option takes several values."""
    return get_origin(hint) in (tuple, list)


def words_at_once(hint: Any) -> int | None:
    """Number of words after one option of a fixed-length list; None where the option is repeated instead.

    >>> words_at_once(tuple[float, float]), words_at_once(tuple[int, ...])
    (2, None)
    """
    return len(get_args(hint)) if get_origin(hint) is tuple and Ellipsis not in get_args(hint) else None


def word(hint: Any) -> str:
    """Placeholder for a value in help pages.

    >>> word(tuple[Literal["cpu", "cuda"], ...]), word(Path), word(int | str), word(object)
    ('{cpu,cuda}', 'PATH', 'N|TEXT', 'VALUE')
    """
    kind = item(hint)
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, get_args(kind)))}}}"
    return "|".join(map(word, get_args(kind))) if _is_union(kind) else WORDS.get(kind, "VALUE")


def _options(argument: Argument) -> Iterator[Argument]:
    """One option, or one option per field of a dataclass."""
    kind = configuration(argument.hint)
    if kind is None:
        yield argument
        return
    hints = get_type_hints(kind, include_extras=True)
    helps: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        helps |= documentation(base)[1] if configuration(base) else {}
    for part in fields(kind):
        keys, hint, said = (*argument.keys, part.name), hints[part.name], helps.get(part.name, "")
        yield from _options(Argument(keys, hint, _default(part), said, _alias(hint), argument.help))


def _default(part: Field[Any]) -> Any:
    if part.default_factory is not MISSING:
        return part.default_factory()
    return REQUIRED if part.default is MISSING else part.default


def _alias(hint: Any) -> str:
    return next((note.alias for note in getattr(hint, "__metadata__", ()) if isinstance(note, Option)), "")


def _present(hint: Any) -> Any:
    """A type hint without annotations and None."""
    if get_origin(hint) is Annotated:
        return _present(get_args(hint)[0])
    if not _is_union(hint):
        return hint
    present = [_present(option) for option in get_args(hint) if option is not types.NoneType]
    return Union[tuple(present)]  # noqa: UP007  # the number of members varies


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)
