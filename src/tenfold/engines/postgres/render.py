"""PostgreSQL's files, from settings to text. Called by the runtime before every start. Pure.

The files live outside PGDATA, at paths that Patroni writes to as well once it runs the database: the running server
then follows whoever manages it, without a restart.
"""

from collections.abc import Mapping

import jinja2

from tenfold import engines
from tenfold.engines import database
from tenfold.engines.postgres import settings

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tenfold.engines.postgres"),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - configuration files, not HTML; values are quoted by `quote`
)


def quote(value: str) -> str:
    """A value as postgresql.conf wants it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def render(seat: engines.Seat) -> Mapping[str, str]:
    """`{path: text}`, relative to `seat.config`, which is the configuration folder of both managers."""
    parameters = {name: quote(value) for name, value in settings.parameters(seat).items()}
    configuration = _templates.get_template("postgresql.conf.j2").render(parameters=parameters)
    access = _templates.get_template("pg_hba.conf.j2").render(rules=database.access_rules(seat))
    return {
        "postgresql.conf": configuration,
        "pg_hba.conf": access,
        "pg_ident.conf": "",
        settings.PASSFILE: _passfile(seat),
        settings.PASSWORD_FILE: f"{seat.secrets.superuser}\n",
    }


def _passfile(seat: engines.Seat) -> str:
    passwords = {database.SUPERUSER: seat.secrets.superuser, database.REPLICATOR: seat.secrets.replicator}
    return "".join(f"*:*:*:{role}:{_escape(password)}\n" for role, password in passwords.items())


def _escape(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")
