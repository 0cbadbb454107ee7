"""`import affekt`: its names, their docstrings, and what it costs."""

from __future__ import annotations

import ast
import inspect
import pydoc
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import affekt

NAMES = [
    name
    for name in affekt.__all__
    if inspect.isfunction(getattr(affekt, name)) or inspect.isclass(getattr(affekt, name))
]
NOT_SHOWN = ("self", "cls")


def documented() -> Iterator[tuple[str, Any]]:
    """Each public function, class and public method of a public class."""
    for name in NAMES:
        found = getattr(affekt, name)
        yield name, found
        for part, value in vars(found).items() if inspect.isclass(found) else ():
            value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if inspect.isfunction(value) and not part.startswith("_"):
                yield f"{name}.{part}", value


def missing_sections(found: Any) -> list[str]:
    """Sections that a docstring of this function or class should have and does not."""
    text = inspect.getdoc(found) or ""
    own = found.__init__ if inspect.isclass(found) else found
    parameters = [name for name in inspect.signature(own).parameters if name not in NOT_SHOWN] if callable(own) else []
    missing = [] if text else ["any"]
    if parameters and not {"Args:", "Attributes:"} & set(text.splitlines()):
        missing.append("Args")
    if inspect.isclass(found):
        return missing
    returns = inspect.signature(found).return_annotation
    speaks_for_itself = not parameters and "." in found.__qualname__  # the summary of a method without arguments
    nothing = speaks_for_itself or returns in ("None", None, inspect.Signature.empty)
    if not nothing and not {"Returns:", "Yields:"} & set(text.splitlines()):
        missing.append("Returns")
    tree = ast.parse(textwrap.dedent(inspect.getsource(found)))
    if any(isinstance(node, ast.Raise) for node in ast.walk(tree)) and "Raises:" not in text.splitlines():
        missing.append("Raises")
    return missing


@pytest.mark.parametrize(("name", "found"), [pytest.param(*pair, id=pair[0]) for pair in documented()])
def test_docstrings_have_args_returns_and_raises(name: str, found: Any) -> None:
    assert missing_sections(found) == []


def test_the_rule_for_docstrings_can_fail() -> None:
    def bare(x: int) -> int:
        """Nothing more."""
        raise ValueError(x)

    assert missing_sections(bare) == ["Args", "Returns", "Raises"]


def test_completion_lists_every_public_name() -> None:
    assert set(affekt.__all__) <= set(dir(affekt))
    assert {"find_spec", "import_module", "TYPE_CHECKING"} & set(dir(affekt)) == set()


def test_every_public_name_is_there() -> None:
    assert all(getattr(affekt, name) is not None for name in affekt.__all__)
    with pytest.raises(AttributeError, match="module 'affekt' has no attribute 'Recogniser'"):
        affekt.Recogniser  # noqa: B018


def test_help_shows_the_package() -> None:
    text = pydoc.render_doc(affekt, renderer=pydoc.plaintext)
    assert "Recognizer.load()" in text
    for name in ("Prediction", "Timeline", "evaluate", "make_folds"):
        assert name in text


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = python("import affekt, sys; dir(affekt); print(*sorted(sys.modules), sep='\\n')").splitlines()
    assert {"numpy", "torch", "pandas", "onnxruntime"} & set(loaded) == set()


def test_the_core_lists_and_explains_what_it_has() -> None:
    program = (
        "import importlib.util as u, sys\n"
        "sys.modules.update(torch=None, pandas=None, jaxtyping=None, scipy=None, sklearn=None)\n"
        "find = u.find_spec; u.find_spec = lambda n, *a: None if n in ('torch', 'pandas') else find(n, *a)\n"
        "import affekt, pydoc\n"
        "print(*dir(affekt)); print(len(pydoc.render_doc(affekt)))\n"
        "for name in set(dir(affekt)) & set(affekt.__all__): getattr(affekt, name)\n"
    )
    names = python(program).splitlines()[0].split()
    assert {"Recognizer", "Prediction", "Timeline", "LABEL_SETS"} <= set(names)
    assert "Manifest" not in names
