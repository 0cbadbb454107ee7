"""The pages of docs/ whose blocks the tests run, in order, in an empty folder."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(page: str) -> Iterator[tuple[str, str]]:
    yield from BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def _run_page(page: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a page's blocks in one folder; the Python blocks share one interpreter, which bash blocks run in between."""
    script = ["import subprocess"]
    for language, code in _blocks(page):
        command = f"subprocess.run(['bash', '-euo', 'pipefail', '-c', {code!r}], check=True)"
        script.append(code if language == "python" else command)
    (folder / "page.py").write_text("\n".join(script), encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "AFFEKT_CACHE": str(folder / "cache"), **environment}
    command = [sys.executable, "page.py"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_tutorial(tmp_path: Path, corpora: Path) -> None:
    printed = _run_page("tutorial.md", tmp_path, {"CORPORA": str(corpora)})
    assert "emodb 4-class | speaker 2-fold, 1 seed | speakers shared: no" in printed
    assert (tmp_path / "runs/first/report.html").stat().st_size > 10_000
    assert (tmp_path / "runs/python/summary.json").exists()


@pytest.mark.slow
def test_adding_your_own(tmp_path: Path) -> None:
    printed = _run_page("adding.md", tmp_path, {})
    for name in ("first-and-last", "hinge", "averages", "energy"):
        assert re.search(rf"^{name} \d+ parameters$", printed, re.MULTILINE)
    assert "wide-margin" in printed
    assert "small-crnn" in printed
    assert (tmp_path / "own.csv").exists()


@pytest.mark.parametrize("page", ["concepts/protocols.md", "synthetic.md"])
def test_sessions_show_what_python_prints(page: str) -> None:
    outcome = doctest.testfile(str(DOCS / page), module_relative=False)
    assert outcome.attempted >= 3
    assert outcome.failed == 0


def test_examples_create_tensors_on_the_device_of_their_input() -> None:
    """Tensors on the meta device, which cannot be mixed with those of the CPU, stand in for a GPU."""
    names: dict[str, Any] = {"__name__": "page"}
    exec("import torch\nfrom torch import nn\nfrom affekt.nn import Output", names)
    code = "\n".join(code for language, code in _blocks("adding.md") if language == "python")
    for name in ("FirstAndLast", "Averages"):
        exec(re.search(rf"^class {name}.*?(?=^\S(?!lass {name}))", code, re.MULTILINE | re.DOTALL)[0], names)  # type: ignore[index]
    x, lengths = torch.ones(2, 5, 3, device="meta"), torch.ones(2, dtype=torch.int64, device="meta")
    with torch.device("meta"):
        pooling, network = names["FirstAndLast"](3), names["Averages"](3, 4, "linear")
    for mask in (None, torch.ones(2, 5, dtype=torch.bool, device="meta")):
        assert pooling(x, mask).shape == (2, pooling.size)
    for given in (None, lengths):
        assert network(x, given).scores.shape == (2, 4)
