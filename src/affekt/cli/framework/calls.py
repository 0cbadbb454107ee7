"""Parse the words of a command line and call the function of the verb.

argparse splits the words. :mod:`affekt.config`, which also reads TOML files, checks the values, so that both give the
same messages: one line for every fault.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from affekt.cli.framework.arguments import Argument, arguments_of, configuration, is_table, item, word
from affekt.cli.framework.help_pages import HELP, NUMBER, Parser, page, usage
from affekt.config import read
from affekt.errors import ConfigError, Fault

CONFIG = "--config"
ABSENT = object()

Result = TypeVar("Result")
ReadFile = Callable[[str], Mapping[str, Any]]


def call(
    function: Callable[..., Result], program: str, words: Sequence[str], read_file: ReadFile, note: str = ""
) -> Result | None:
    """Call a function with the words of a command line; with ``--help``, print its help page and return None.

    >>> def greet(name: str, *, times: int = 1, loud: bool = False) -> str:
    ...     return f"hello {name.upper() if loud else name}! " * times
    >>> call(greet, "greet", ["you", "--times", "2", "--loud"], read_file=dict)
    'hello YOU! hello YOU! '
    >>> call(greet, "greet", ["--times", "twice"], read_file=dict)
    Traceback (most recent call last):
    affekt.errors.ConfigError: NAME: got nothing, expected TEXT; see `greet --help`
    --times: got 'twice', expected a whole number

    Args:
        function: takes arguments by position and options by keyword.
        program: the words before `words`, for messages.
        words: arguments and options; after ``--``, arguments only.
        read_file: reads the file after ``--config``; its values apply to options that were not given.
        note: paragraph that is added to the help page.

    Returns:
        The result of the function.

    Raises:
        ConfigError: unknown words and invalid values, all at once.
    """
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    if not set(HELP).isdisjoint(words[:end]):
        print(page(program, function, note), end="")
        return None
    made = _Call(program, function)
    made.read_words(words[:end], words[end + 1 :])
    if CONFIG in made.values:
        made.fill(read_file(made.values[CONFIG]))
    return made.finish()


class _Call(Generic[Result]):
    """State of the parser: values by argument name, in the types of TOML, and the faults found so far."""

    def __init__(self, program: str, function: Callable[..., Result]) -> None:
        self.program, self.function = program, function
        self.arguments = arguments_of(function)
        self.places = [argument for argument in self.arguments if argument.positional]
        self.options = [argument for argument in self.arguments if not argument.positional]
        self.needed = [argument for argument in self.arguments if argument.required]
        self.values: dict[str, Any] = {}
        self.faults: list[Fault] = []

    def read_words(self, words: Sequence[str], rest: Sequence[str]) -> None:
        """Parse the options; the remaining words and `rest` are arguments."""
        parser = Parser(self.program)
        parser.add(self.options, words)
        found, left = parser.parse_known_args(words)
        for option in self.options:
            typed = _typed(option, vars(found))
            if typed is not ABSENT:
                self.values[option.name] = _as_toml(option.kind, typed)
        unknown = [text for text in left if text.startswith("-") and text != "-" and not NUMBER.match(text)]
        self.faults += [self.unknown(text.partition("=")[0]) for text in unknown]
        if unknown:  # their values would be taken for arguments
            self.needed = [argument for argument in self.needed if not argument.positional]
        else:
            self.place([*left, *rest])

    def unknown(self, option: str) -> Fault:
        """The fault of an unknown option, with the closest known one."""
        names = [name for part in self.options for name in (part.name, part.contrary if part.kind is bool else "")]
        near = difflib.get_close_matches(option, filter(None, names), n=1)
        return Fault(option, "an unknown option", remedy=f"did you mean {near[0]}?" if near else self.remedy)

    @property
    def remedy(self) -> str:
        """Pointer to the help page."""
        return f"see `{self.program} --help`"

    def place(self, words: list[str]) -> None:
        """Assign words to arguments; a variadic argument takes all remaining words."""
        for place in self.places:
            count = len(words) if place.variadic else 1
            typed, words = words[:count], words[count:]
            if typed:
                self.values[place.name] = _as_toml(place.kind, typed if place.variadic else typed[0])
        expected = f"`{usage(self.program, self.arguments)}`"
        self.faults += [Fault(text, "a word too many", expected) for text in words]

    def fill(self, data: Mapping[str, Any]) -> None:
        """Fill in options that were not given from a file, after checking the whole file."""
        hints, own = get_type_hints(self.function, include_extras=True), {part.keys[0] for part in self.options}
        allowed = {name: hint for name, hint in hints.items() if name in own and f"--{name}" != CONFIG}
        _, faults = read(allowed, data, where=str(self.values[CONFIG]))
        if faults:  # a required option may be among the faults
            self.faults += faults
            self.needed = [argument for argument in self.needed if argument.positional]
            return
        for option in self.options:
            held = _held(data, option.keys)
            if held is not ABSENT:
                self.values.setdefault(option.name, held)

    def finish(self) -> Result:
        """Convert the values to the types of the parameters and call the function.

        Raises:
            ConfigError: all faults.
        """
        values, faults = read({argument.name: argument.hint for argument in self.arguments}, self.values, where="")
        missing = [argument for argument in self.needed if argument.name not in self.values]
        self.faults += [Fault(argument.name, "nothing", word(argument.kind), self.remedy) for argument in missing]
        self.faults += faults
        if self.faults:
            raise ConfigError.of(self.faults)
        places: list[Any] = []
        for place in self.places:
            if place.name in values:
                places += values[place.name] if place.variadic else [values[place.name]]
        tree: dict[str, Any] = {}
        for option in self.options:
            if option.name in values:
                _plant(tree, option.keys, values[option.name])
        hints = get_type_hints(self.function)
        return self.function(*places, **{name: _configured(hints[name], value) for name, value in tree.items()})


def _typed(option: Argument, found: Mapping[str, Any]) -> Any:
    """The value that argparse found for an option; key-value pairs are collected into one table."""
    if not is_table(option.kind):
        return found.get(option.name, ABSENT)
    start = f"{option.name}."
    return {name.removeprefix(start): text for name, text in found.items() if name.startswith(start)} or ABSENT


def _as_toml(kind: Any, typed: Any) -> Any:
    """Convert words to numbers where the type asks for numbers; other words stay text.

    >>> _as_toml(tuple[int, ...], ["1", "x"]), _as_toml(float | str, "1e-3"), _as_toml(str, "1")
    ([1, 'x'], 0.001, '1')
    """
    if isinstance(typed, list):
        return [_as_toml(item(kind), text) for text in typed]
    if isinstance(typed, dict):
        return {name: _as_toml(item(kind), text) for name, text in typed.items()}
    for number in (int, float):
        if number in (kind, *get_args(kind)) and isinstance(typed, str):
            with suppress(ValueError):
                return number(typed)
    return typed


def _held(data: Any, keys: Sequence[str]) -> Any:
    """A value from nested tables, or ABSENT."""
    for key in keys:
        if not isinstance(data, Mapping) or key not in data:
            return ABSENT
        data = data[key]
    return data


def _plant(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Put a value into nested tables.

    >>> tree = {"a": {"x": 1}}
    >>> _plant(tree, ("a", "b", "y"), 2)
    >>> tree
    {'a': {'x': 1, 'b': {'y': 2}}}
    """
    *path, last = keys
    for key in path:
        tree = tree.setdefault(key, {})
    tree[last] = value


def _configured(hint: Any, value: Any) -> Any:
    """Build the dataclasses from nested tables."""
    kind = configuration(hint)
    if kind is None or not isinstance(value, dict):
        return value
    hints = get_type_hints(kind)
    return kind(**{name: _configured(hints[name], part) for name, part in value.items()})
