"""The kinds of words that arguments and options take: each completes itself in a shell, and knows what was meant.

Used by the commands. Nothing here talks to a runtime, and what is imported is light: a completion must be quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from tenfold import errors
from tenfold.cli import lazily
from tenfold.topology import nearest


class Duration(click.ParamType[float]):
    """`30s`, `2m`, `500ms`, `1h`: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from tenfold.topology import units  # late: it loads pydantic

        read = units.seconds(str(value))
        if read is None:
            self.fail(f"{value!r} found, a number with its unit (ms, s, m, h, d) expected, such as 30s", param, ctx)
        return read


class Choice(click.Choice[str]):
    """One of a few words; a slip is met with the one that was probably meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            choices = [str(one) for one in self.choices]
            self.fail(f"{value!r} found, {', '.join(choices)} expected{nearest.hint(str(value), choices)}", param, ctx)
        return super().convert(value, param, ctx)


class _Names(click.ParamType[str]):
    """A name out of a few, which are looked up when a shell asks for them."""

    def known(self, ctx: click.Context) -> Iterable[str]:
        """The names."""
        raise NotImplementedError

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so; none when they cannot be told."""
        try:
            return [CompletionItem(one) for one in self.known(ctx) if one.startswith(incomplete)]
        except (OSError, ValueError, KeyError, TypeError):
            return []


class Rung(_Names):
    """A rung's name. Whether there is such a one, the command says."""

    name = "rung"

    def known(self, ctx: click.Context) -> Iterable[str]:
        return [rung.name for rung in lazily.module("tenfold.topology.rungs").RUNGS if rung.is_built]


class SizeWord(_Names):
    """`NAME=VALUE` with the name of something that can be resized. Whether there is such a one, the command says."""

    name = "size"

    def known(self, ctx: click.Context) -> Iterable[str]:
        fields = lazily.module("tenfold.topology.sizes").FIELDS
        return [f"{'.'.join(path)}=" for path in fields if len(path) == 2]


class Section(_Names):
    """A section of tenfold.toml."""

    name = "section"

    def known(self, ctx: click.Context) -> Iterable[str]:
        from tenfold.topology import reference

        return reference.SECTIONS


class Server(_Names):
    """A server's name; `tiers`: or a tier's, a process's, or `runtime`. `tier`: only its servers."""

    name = "server"

    def __init__(self, *, tiers: bool = False, process: str = "") -> None:
        self._with_tiers = tiers
        self._process = process

    def known(self, ctx: click.Context) -> Iterable[str]:
        servers = {name: one for name, one in recorded(ctx, "servers").items() if self._has_process(one)}
        if not self._with_tiers:
            return list(servers)
        tiers = {one["tier"] for server in servers.values() for one in (server["spec"], *server["spec"]["processes"])}
        processes = {name for one in servers.values() for name in one["processes"]}
        return [*servers, *sorted(tiers | processes), "runtime"]

    def _has_process(self, server: dict[str, Any]) -> bool:
        return not self._process or self._process in server["processes"] or "patroni" in server["processes"]


class Region(_Names):
    """A region's name. Whether there is such a one, the command says."""

    name = "region"

    def known(self, ctx: click.Context) -> Iterable[str]:
        return {one["spec"]["region"] for one in recorded(ctx, "servers").values()} - {""}


class Release(_Names):
    """The version of a release that is kept."""

    name = "version"

    def known(self, ctx: click.Context) -> Iterable[str]:
        return recorded(ctx, "releases")


def recorded(ctx: click.Context, what: str) -> dict[str, Any]:
    """The service's records of this kind, by name: read as they are, without the models that check them."""
    from tenfold.runtime import paths

    chosen: str | None = ctx.find_root().params.get("file")
    found = Path(chosen).resolve() if chosen else paths.find(Path.cwd()) or paths.find_state(Path.cwd())
    if found is None:
        return {}
    named: dict[str, Any] = json.loads(paths.Paths(found).records.read_bytes())[what]
    return named


def ensure_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raise BadInput when there is no such thing, with all that there are and the one that was probably meant."""
    names = list(known)
    if name not in names:
        there = ", ".join(names) or "none"
        raise errors.BadInput(f"{name}: no such {what}; there are {there}{nearest.hint(name, names)}")
