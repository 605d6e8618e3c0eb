"""The templates of an engine's folder. Called by the engines' `render`. Pure."""

import jinja2


def of(engine: str) -> jinja2.Environment:
    """What is in `engines/ENGINE/templates`; a name that a template uses and nobody gives is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(f"tenfold.engines.{engine}"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )
