"""`affekt corpora`: the corpora that affekt reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affekt.data.labels import LABEL_SETS

if TYPE_CHECKING:
    from affekt.data.corpora import Corpus

HEADINGS = ("corpus", "utterances", "speakers", "iemocap4", "languages", "license")


def corpora(name: str | None = None, *, markdown: bool = False) -> int:
    """List the corpora that affekt reads, with their licenses and sources.

    Args:
        name: describe one corpus; by default all are listed.
        markdown: list them as a Markdown table.
    """
    from affekt.data.corpora import find_corpus

    if name is not None:
        print("\n".join(_description(find_corpus(name))))
    elif markdown:
        print(markdown_table())
    else:
        print("\n".join(_listing()))
    return 0


def markdown_table() -> str:
    """All corpora in a Markdown table, as it stands in docs/corpora.md."""
    from affekt.data.corpora import CORPORA

    headings = ("corpus", "layout", "utterances", "speakers", "labels", "iemocap4", "license")
    rows = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for corpus in CORPORA.values():
        name = f"[`{corpus.name}`]({corpus.page})" if corpus.page.startswith("http") else f"`{corpus.name}`"
        counts = ", ".join(f"{label} {count}" for label, count in corpus.label_counts.items())
        numbers = (str(corpus.utterances or ""), str(corpus.speakers or ""), counts, _classes(corpus))
        rows.append("| " + " | ".join((f"{name} {corpus.title}", corpus.layout, *numbers, corpus.license)) + " |")
    return "\n".join(rows)


def _classes(corpus: Corpus, labels: str = "iemocap4") -> str:
    """Utterances in the classes of a label set: their sum and each; empty where a class would have none."""
    counts = corpus.expected_counts(LABEL_SETS[labels])
    return f"{sum(counts.values())} ({'/'.join(map(str, counts.values()))})" if all(counts.values()) else ""


def _listing() -> list[str]:
    from affekt.data.corpora import CORPORA

    cells = [HEADINGS] + [
        (
            corpus.name,
            f"{corpus.utterances:,}" if corpus.utterances else "any",
            str(corpus.speakers or "any"),
            _classes(corpus).partition(" ")[0],
            ", ".join(filter(None, corpus.languages)),
            corpus.license,
        )
        for corpus in CORPORA.values()
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _description(corpus: Corpus) -> list[str]:
    facts = {
        "license": corpus.license,
        "to be had at": corpus.page,
        "on disk": corpus.layout,
        "languages": ", ".join(filter(None, corpus.languages)),
        "style": corpus.style,
        "speakers": str(corpus.speakers or ""),
        "utterances": str(corpus.utterances or ""),
        "labels": ", ".join(f"{label} {count}" for label, count in corpus.label_counts.items()),
        **{labels: _spelt(corpus, labels) for labels in LABEL_SETS},
        "options": ", ".join(f"--{option}" for option in corpus.options),
        "remarks": corpus.remarks,
    }
    return [f"{corpus.name}: {corpus.title}", *(f"  {fact + ':':<15}{value}" for fact, value in facts.items() if value)]


def _spelt(corpus: Corpus, labels: str) -> str:
    counts = corpus.expected_counts(LABEL_SETS[labels])
    spelt = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{sum(counts.values())}: {spelt}" if all(counts.values()) else ""
