"""What programs read of the page: identities of the feed's entries, ``robots.txt``, ``llms.txt``."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Mapping, Sequence

from gateway.publishing.content import Entry, Site

_NAMESPACE = uuid.UUID("5f8b2c1e-6a0d-5d8e-9c55-0d7f0f3b7b0a")


def identity(*parts: object) -> str:
    """Return an IRI that is the same whenever and wherever the page is made."""
    return uuid.uuid5(_NAMESPACE, "\n".join(map(str, parts))).urn


def anchors(entries: Sequence[Entry]) -> list[str]:
    """Return a name for each entry by which a URL leads to it, each once."""
    seen: dict[str, int] = {}
    names = []
    for entry in entries:
        letters = unicodedata.normalize("NFKD", entry.title).encode("ascii", "ignore").decode().lower()
        name = f"{entry.date}-{re.sub(r'[^a-z0-9]+', '-', letters).strip('-')}".rstrip("-")
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def robots(url: str | None) -> str:
    """Return ``robots.txt``: everybody may read everything."""
    return "User-agent: *\nAllow: /\n" + (f"\nSitemap: {url}/sitemap.xml\n" if url else "")


def llms(site: Site, title: str, url: str | None, pages: Mapping[str, str], entries: Sequence[Entry]) -> str:
    """Return ``llms.txt`` (https://llmstxt.org): what the page is about and where what is, in Markdown."""
    lines = [f"# {_markdown(title)}", "", f"> {_markdown(site.tagline)} {_markdown(site.description)}"]
    if site.principles:
        lines += ["", *(f"- {_markdown(each.title)}: {_markdown(each.text)}" for each in site.principles)]
    if site.architecture is not None:
        lines += ["", _markdown(site.architecture.description)]
    base = f"{url}/" if url else ""
    lines += ["", "## Pages", "", *(f"- [{_markdown(name)}]({base}{file})" for name, file in pages.items())]
    if entries:
        lines += [
            "",
            "## Evolution",
            "",
            *(f"- {entry.date} {_markdown(entry.title)}: {_markdown(entry.text)}" for entry in entries),
        ]
    return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    """Return a text on one line that Markdown takes for nothing but text; code stays code."""
    return re.sub(r"([\\*_\[\]<>#])", r"\\\1", " ".join(text.split()))
