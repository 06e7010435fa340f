"""The files of this package that pages are made of."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup


def template(name: str) -> Template:
    """A page with its places to fill; what goes into them is escaped, and none may stay empty by mistake."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_read(name))


def verbatim(name: str) -> Markup:
    """A style sheet or script that goes into a page as it is."""
    from markupsafe import Markup

    return Markup(_read(name))


def _read(name: str) -> str:
    return (resources.files("mvmsr.report") / name).read_text(encoding="utf-8")
