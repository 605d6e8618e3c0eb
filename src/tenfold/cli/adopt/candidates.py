"""Finds ASGI applications in parsed modules: objects at module level, and functions that make one. Pure.

Called by `init` with what `sources` has read. It goes by what names are imported from, never by running anything.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tenfold.cli.adopt.sources import Source

FRAMEWORKS = {
    "fastapi.FastAPI": "FastAPI",
    "fastapi.applications.FastAPI": "FastAPI",
    "starlette.applications.Starlette": "Starlette",
    "litestar.Litestar": "Litestar",
    "quart.Quart": "Quart",
    "sanic.Sanic": "Sanic",
    "falcon.asgi.App": "Falcon",
    "blacksheep.Application": "BlackSheep",
    "connexion.AsyncApp": "Connexion",
    "esmerald.Esmerald": "Esmerald",
    "django.core.asgi.get_asgi_application": "Django",
    "channels.routing.ProtocolTypeRouter": "Django Channels",
    "socketio.ASGIApp": "Socket.IO",
    "asgiref.wsgi.WsgiToAsgi": "WSGI through asgiref",
    "a2wsgi.WSGIMiddleware": "WSGI through a2wsgi",
}
"""What makes an ASGI application, by where it is imported from."""

WSGI = {"flask.Flask": "Flask", "bottle.Bottle": "Bottle", "falcon.App": "Falcon (WSGI)", "pyramid.config": "Pyramid"}
"""What makes an application of the older kind, which tenfold does not serve."""

PREFERRED_MODULES = ("asgi", "main", "app", "web", "server", "application", "api")
PREFERRED_NAMES = ("app", "application", "asgi", "api")

ASGI_ARGUMENTS = ["scope", "receive", "send"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One application, or one function that makes it."""

    source: Source
    name: str
    what: str
    """The framework, in words."""
    is_factory: bool = False
    made_by: str = ""
    """The factory, `module:name`, that an object comes from."""
    around: str = ""
    """The name of the object, in the same module, that it is wrapped around."""

    @property
    def target(self) -> str:
        """`module:name`, as tenfold.toml wants it."""
        return f"{self.source.module}:{self.name}"


def find(sources: Sequence[Source]) -> list[Candidate]:
    """Every application that could be the service's, the likeliest first.

    Left out is what is part of another one: an app that is mounted or wrapped, a factory whose product is there.
    """
    modules = [_Module(one) for one in sources]
    factories = {found.target: found for module in modules for found in module.factories()}
    objects = [found for module in modules for found in module.objects(factories)]
    used = {one.made_by for one in objects}
    kept = [one for one in objects if not _is_part_of_another(one, objects, modules)]
    kept += [one for target, one in factories.items() if target not in used and not objects]
    return sorted(kept, key=_rank)


def find_wsgi(sources: Sequence[Source]) -> str:
    """`flask.Flask in shop/web.py`, when there is an application of the older kind; else empty."""
    for one in sources:
        imported = _Module(one).imported
        for name, where in imported.items():
            if where in WSGI:
                return f"{WSGI[where]} ({name} in {one.path.name})"
    return ""


def _is_part_of_another(one: Candidate, objects: list[Candidate], modules: "list[_Module]") -> bool:
    is_wrapped = any(other.around == one.name and other.source is one.source for other in objects if other is not one)
    is_mounted = any(module.source is one.source and one.name in module.mounted for module in modules)
    others = [other for other in objects if other is not one and other.source is one.source]
    return is_wrapped or (is_mounted and bool(others))


def _rank(one: Candidate) -> tuple[bool, bool, int, int, int, str]:
    stem = one.source.module.rpartition(".")[2]
    return (
        one.is_factory,
        one.what == "ASGI function",
        _place(stem, PREFERRED_MODULES),
        _place(one.name, PREFERRED_NAMES),
        one.source.module.count("."),
        one.target,
    )


def _place(word: str, words: tuple[str, ...]) -> int:
    return words.index(word) if word in words else len(words)


@dataclass(slots=True)
class _Module:
    """One module, with what its names mean."""

    source: Source
    imported: dict[str, str] = field(default_factory=dict)
    """By local name, `module.name` that it was imported as."""
    classes: dict[str, str] = field(default_factory=dict)
    """By the name of a class of this module that is an application: the framework."""
    mounted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for node in ast.walk(self.source.tree):
            self._note_import(node)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "mount":
                self.mounted |= {one.id for one in node.args if isinstance(one, ast.Name)}
        for statement in _top_level(self.source.tree.body):
            if isinstance(statement, ast.ClassDef) and (what := self._class(statement)):
                self.classes[statement.name] = what

    def objects(self, factories: Mapping[str, Candidate]) -> Iterator[Candidate]:
        """Applications at module level; the last one of a name."""
        found: dict[str, Candidate] = {}
        for statement in _top_level(self.source.tree.body):
            if isinstance(statement, ast.AsyncFunctionDef):
                if [one.arg for one in statement.args.args] == ASGI_ARGUMENTS and statement.name in PREFERRED_NAMES:
                    found[statement.name] = Candidate(self.source, statement.name, "ASGI function")
                continue
            name, value = _assigned(statement)
            if not name:
                continue
            made = self._application(name, value, found, factories)
            if made is not None:
                found[name] = made
        return iter(found.values())

    def factories(self) -> Iterator[Candidate]:
        """Functions without required arguments that return an application."""
        for statement in _top_level(self.source.tree.body):
            if not isinstance(statement, ast.FunctionDef) or _needs_arguments(statement):
                continue
            what = self._named(statement.returns) or self._returned(statement)
            if what and not statement.name.startswith("_"):
                yield Candidate(self.source, statement.name, what, is_factory=True)

    def _application(
        self, name: str, value: ast.expr, found: Mapping[str, Candidate], factories: Mapping[str, Candidate]
    ) -> Candidate | None:
        if not isinstance(value, ast.Call):
            return None
        if what := self._named(value.func):
            return Candidate(self.source, name, what)
        inner = next((one.id for one in value.args if isinstance(one, ast.Name) and one.id in found), "")
        if inner and _is_wrapping(value.func):
            around = "" if inner == name else inner
            return Candidate(self.source, name, found[inner].what, around=around)
        if _is_wrapping(value.func) and value.args and isinstance(value.args[0], ast.Call):
            return self._application(name, value.args[0], found, factories)
        factory = factories.get(self._target(value.func))
        return Candidate(self.source, name, factory.what, made_by=factory.target) if factory else None

    def _named(self, expression: ast.expr | None) -> str:
        """The framework that a class or function makes; empty when it is none that we know."""
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            expression = ast.Name(expression.value)
        dotted = _dotted(expression)
        if dotted in self.classes:
            return self.classes[dotted]
        first, _, rest = dotted.partition(".")
        full = ".".join(part for part in (self.imported.get(first, first), rest) if part)
        return FRAMEWORKS.get(full, "")

    def _target(self, expression: ast.expr) -> str:
        """`module:name` of a function that is called."""
        dotted = _dotted(expression)
        if "." not in dotted and dotted not in self.imported:
            return f"{self.source.module}:{dotted}"
        first, _, rest = dotted.partition(".")
        full = ".".join(part for part in (self.imported.get(first, first), rest) if part)
        module, _, name = full.rpartition(".")
        return f"{module}:{name}"

    def _returned(self, function: ast.FunctionDef) -> str:
        """What a function without an annotation returns."""
        local: dict[str, str] = {}
        what = ""
        for node in _own_statements(function):
            name, value = _assigned(node)
            if name and isinstance(value, ast.Call):
                inner = next((one.id for one in value.args if isinstance(one, ast.Name)), "")
                wrapped = local.get(inner, "") if _is_wrapping(value.func) else ""
                local[name] = self._named(value.func) or wrapped or local.get(name, "")
            if isinstance(node, ast.Return):
                called = self._named(node.value.func) if isinstance(node.value, ast.Call) else ""
                what = called or local.get(_dotted(node.value), "") or what
        return what

    def _class(self, node: ast.ClassDef) -> str:
        named = next((what for one in node.bases if (what := self._named(one))), "")
        calls = any(
            isinstance(one, ast.AsyncFunctionDef)
            and one.name == "__call__"
            and [argument.arg for argument in one.args.args][1:] == ASGI_ARGUMENTS
            and not any(isinstance(other, ast.FunctionDef) and _takes_an_app(other) for other in node.body)
            for one in node.body
        )
        return named or ("ASGI class" if calls else "")

    def _note_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                self.imported[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            module = self._absolute(node)
            for alias in node.names:
                self.imported[alias.asname or alias.name] = f"{module}.{alias.name}"

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        parts = self.source.package.split(".")
        kept = parts[: len(parts) - node.level + 1]
        return ".".join([*kept, *([node.module] if node.module else [])])


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those in `try` and `if` included; not what runs only as a script."""
    for statement in body:
        if isinstance(statement, ast.Try):
            yield from _top_level([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.If):
            if "__name__" not in ast.dump(statement.test):
                yield from _top_level([*statement.body, *statement.orelse])
        else:
            yield statement


def _own_statements(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """Statements of a function in their order, without those of functions inside it."""
    waiting = list(function.body)
    while waiting:
        statement = waiting.pop(0)
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            waiting[:0] = [one for one in ast.iter_child_nodes(statement) if isinstance(one, ast.stmt)]


def _assigned(statement: ast.stmt) -> tuple[str, ast.expr]:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, statement.value
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        return statement.target.id, statement.value
    return "", ast.Constant(None)


def _needs_arguments(function: ast.FunctionDef) -> bool:
    arguments = function.args
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or any(default is None for default in arguments.kw_defaults)


def _takes_an_app(function: ast.FunctionDef) -> bool:
    """A class that is made around an app is a middleware."""
    return function.name == "__init__" and any(one.arg == "app" for one in function.args.args)


def _is_wrapping(called: ast.expr) -> bool:
    """`tf.wrap(app)`, `CORSMiddleware(app, ...)`, `socketio.ASGIApp(sio, app)`."""
    last = _dotted(called).rpartition(".")[2]
    return last in ("wrap", "ASGIApp") or last.endswith("Middleware")


def _dotted(expression: ast.expr | None) -> str:
    """`a.b.c` of names and attributes; empty for anything else."""
    if isinstance(expression, ast.Attribute):
        owner = _dotted(expression.value)
        return f"{owner}.{expression.attr}" if owner else ""
    return expression.id if isinstance(expression, ast.Name) else ""
