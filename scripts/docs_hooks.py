"""Hooks of the documentation site: links to files of the repository, and the pages of the command line.

Pages are also read on the repository's own site, so they link to files outside of docs/ by relative paths; here these
become links to the repository. Roles of reStructuredText in docstrings (``:class:`x```) become plain code.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from affekt.cli import VERBS, function_of
from affekt.cli.framework.arguments import arguments_of, documentation
from affekt.cli.framework.help_pages import page

LOG = logging.getLogger("mkdocs.hooks")  # a warning fails the strict build
REPOSITORY = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()((?:\.\./)+)([^)#\s]+)(#[^)\s]*)?(?=\))")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Complete a page before it is rendered.

    Args:
        markdown: its text.
        page: the page.
        config: configuration of the site.

    Returns:
        The text with generated parts and absolute links to the repository.
    """
    if page.file.src_uri == "reference/cli.md":
        markdown += command_line()
    return LINK.sub(lambda link: _target(link, page.file.src_uri, config.repo_url), markdown)


def _target(link: re.Match[str], source: str, repository: str) -> str:
    inside = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), link[1] + link[2]))
    if inside.startswith("docs/"):
        return link[0]
    if not (REPOSITORY / inside).exists():
        LOG.warning("%s links to %s, which is not in the repository", source, inside)
    kind = "tree" if (REPOSITORY / inside).is_dir() else "blob"
    return f"{repository}/{kind}/main/{inside}{link[3] or ''}"


def command_line() -> str:
    """The help page of every command, as Markdown."""
    parts = []
    for verb, row in VERBS.items():
        function = function_of(verb)
        assert documentation(function)[0]
        assert all(argument.help for argument in arguments_of(function) if not argument.keys[1:]), verb
        needs = f"Needs the extra `{'`, `'.join(row.extras)}`.\n\n" if row.extras else ""
        parts.append(f"## affekt {verb}\n\n{needs}```text\n{page(f'affekt {verb}', function)}```\n")
    return "\n" + "\n".join(parts)
