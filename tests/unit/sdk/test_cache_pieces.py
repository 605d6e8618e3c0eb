"""Values, keys, policies, entries of the cache: what comes back, what is refused and in which words."""

import dataclasses
import datetime
import decimal
import enum
import inspect
import ipaddress
import uuid
from typing import Any, Literal

import msgspec
import pydantic
import pytest
from fastapi.dependencies.utils import get_dependant

from tenfold import errors, position
from tenfold.sdk import db, valkey
from tenfold.sdk.cache import cache, cached, entries, keys, loading, policy, values


class Colour(enum.Enum):
    RED = "red"


class Product(msgspec.Struct, frozen=True):
    id: uuid.UUID
    price: decimal.Decimal
    colour: Colour = Colour.RED


@dataclasses.dataclass
class Basket:
    products: list[Product]
    owner: str | None = None


class User(pydantic.BaseModel):
    name: str
    born: datetime.date
    tags: set[str] = set()

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def shown(self) -> str:
        return self.name.title()


class Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=True)
    id: uuid.UUID


PLAIN = [
    None,
    True,
    -(2**63),
    2**200,
    1.5,
    "text",
    b"bytes",
    [1, [2]],
    {"a": {"b": 1}},
    {1: "int", (2, 3): "tuple"},
    (1, (2, [3])),
    {1, 2},
    frozenset({"a"}),
    uuid.UUID(int=7),
    decimal.Decimal("1.10"),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 678),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    datetime.date(2026, 1, 2),
    datetime.time(1, 2),
    datetime.timedelta(days=-1, microseconds=5),
    ipaddress.ip_address("::1"),
    ipaddress.ip_interface("10.0.0.1/8"),
]
PRODUCT = Product(uuid.UUID(int=1), decimal.Decimal("9.99"))
TYPED: list[tuple[Any, Any]] = [
    (Product, PRODUCT),
    (Basket, Basket([PRODUCT], "me")),
    (Basket | None, None),
    (dict[str, list[Product]], {"new": [PRODUCT]}),
    (User, User(name="ann", born=datetime.date(2000, 1, 1), tags={"a"})),
    (list[User], [User(name="ann", born=datetime.date(2000, 1, 1))]),
    (Frozen | None, Frozen(id=uuid.UUID(int=3))),
    (Colour, Colour.RED),
    (tuple[Colour, ...], (Colour.RED,)),
    (Literal["a", "b"], "a"),
    (dict[str, Any], {"id": uuid.UUID(int=3), "at": datetime.date(2026, 1, 1)}),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_a_plain_value_comes_back_as_what_it_was(value: Any) -> None:
    found = values.UNTYPED.decode(values.UNTYPED.encode(value))

    assert (type(value), value) == (type(found), found)


@pytest.mark.parametrize(("declared", "value"), TYPED, ids=str)
def test_a_value_comes_back_as_the_type_that_was_declared(declared: Any, value: Any) -> None:
    codec = values.codec(declared)
    found = codec.decode(codec.encode(value))

    assert (type(value), value) == (type(found), found)


def test_only_what_nobody_can_change_is_handed_to_all() -> None:
    fixed = {
        str(one): values.is_fixed_type(one) for one in (Product, Basket, User, Frozen, Colour, tuple[Product, ...])
    }

    assert [True, False, False, True, True, True] == list(fixed.values())
    assert values.codec(tuple[int, str]).is_fixed((1, "a"))
    assert not values.codec(tuple[list[int], str]).is_fixed(([1], "a"))
    assert not values.UNTYPED.is_fixed({"a": 1})


class Opaque:
    pass


@pytest.mark.parametrize(
    ("declared", "value", "said"),
    [
        (None, {"items": [1, Opaque()]}, r"Opaque found at \['items'\]\[1\] of the value"),
        (None, Opaque(), "found at the top of the value"),
        (None, PRODUCT, "say what comes back, `-> Product`"),
        (None, {"a": Colour.RED}, r"Colour found at \['a'\]"),
        (None, "\ud800", "lone surrogates"),
        (Basket, {"products": 1}, "dict found where Basket was declared"),
        (Basket, Basket([PRODUCT, 3]), "was declared"),  # type: ignore[list-item]
        (dict[str, Product], {"a": User(name="x", born=datetime.date(2000, 1, 1))}, "was declared"),
    ],
)
def test_what_cannot_be_written_down_is_refused_with_its_place(declared: Any, value: Any, said: str) -> None:
    with pytest.raises(errors.NotEncodable, match=said):
        values.codec(declared).encode(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(errors.NotEncodable, match="contains itself"):
        values.UNTYPED.encode(endless)


def test_an_any_inside_a_class_keeps_its_value_or_refuses_it() -> None:
    @dataclasses.dataclass
    class Loose:
        inner: Any

    codec = values.codec(Loose)
    assert Loose([1, {"a": None}]) == codec.decode(codec.encode(Loose([1, {"a": None}])))
    with pytest.raises(errors.NotEncodable, match="comes back as another one"):
        codec.encode(Loose(uuid.UUID(int=1)))


ENTRY = entries.Entry(b"packed", position.Position(0, 1, 2, 3), (1, 2, 3), 1.5, 2.5, 3.5, 0.25)


def test_an_entry_comes_back_and_a_damaged_one_never_does() -> None:
    for entry in (ENTRY, msgspec.structs.replace(ENTRY, stamp=None, slots=(1,))):
        assert entry == entries.decode(entries.encode(entry))
    whole = entries.encode(ENTRY)
    damaged = [whole[:cut] for cut in range(len(whole))]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for one in [*damaged, b"", b"tf1", b"tf1\0\0\0\0", b"\xc1"]:
        with pytest.raises(entries.DamagedError):
            entries.decode(one)


def test_two_different_calls_never_have_the_same_key() -> None:
    pattern = keys.Pattern("a:{x}:{y}", ["x", "y"])
    pairs = [("1:2", "3"), ("1", "2:3"), ("1%3A2", "3"), ("1", "2%3A3"), ("%", ""), ("", "%")]
    filled = [pattern.fill({"x": x, "y": y}) for x, y in pairs]

    assert len(pairs) == len(set(filled))
    assert [{"x": x, "y": y} for x, y in pairs if x and y] == [
        pattern.read(one) for one, (x, y) in zip(filled, pairs, strict=True) if x and y
    ]
    assert "product:7" == keys.Pattern("product:{pid}").fill({"pid": 7})
    assert "of:ann" == keys.Pattern("of:{user.name}", ["user"]).fill(
        {"user": User(name="ann", born=datetime.date(2000, 1, 1))}
    )
    assert None is keys.Pattern("product:{pid}").read("user:7")


def test_a_long_key_that_fits_no_pattern_is_found_out_at_once() -> None:
    pattern = keys.Pattern("a:{v}:{w}:{x}:{y}:{z}-[^]:end")

    assert None is pattern.read("a:" + ":" * (keys.MOST_BYTES - 2))
    assert {"v": "1", "w": "2", "x": "3", "y": "4", "z": "5]"} == pattern.read("a:1:2:3:4:5]-[^]:end")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:{}", "without a name"),
        ("a:{other}", "has only pid"),
        ("{pid}{pid}", "side by side"),
        ("a:{pid:.1f}", "write the name alone"),
        ("a:{pid", "no format string"),
        ("", "found as a pattern"),
    ],
)
def test_a_pattern_that_cannot_be_one_is_refused_where_it_is_written(text: str, said: str) -> None:
    with pytest.raises(errors.MisuseError, match=said):
        keys.Pattern(text, ["pid"])


def test_keys_and_tags_that_are_none_or_too_long_are_refused() -> None:
    for wrong in (7, "", None, b"a"):
        with pytest.raises(errors.MisuseError, match="a string expected"):
            keys.check(wrong)
    with pytest.raises(errors.TooLarge, match="513 bytes found"):
        keys.check("x" * 513)
    assert "ä" * 256 == keys.check("ä" * 256)
    for what in ("key", "tag"):
        with pytest.raises(errors.NotEncodable, match=rf"a {what} with a lone surrogate found \('product:.ud800'\)"):
            keys.check("product:\ud800", what)
    with pytest.raises(errors.TooLarge, match="65 tags"):
        keys.check_tags(["t"] * 65)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"ttl": 0}, "ttl=0 found, seconds above 0"),
        ({"ttl": float("inf"), "ahead": 1}, "ttl=inf found.*ahead=1 found"),
        ({"ttl": float("nan")}, "ttl=nan"),
        ({"stale": -1}, "stale=-1"),
        ({"tags": "product"}, r"expected: tags=\['product'\]"),
        ({"tags": [1]}, "a list of strings"),
        ({"tll": 5}, "tll= found, ttl, stale"),
        ({"early": "1"}, "early='1' found"),
    ],
)
def test_a_policy_says_everything_that_is_wrong_with_it(said: dict[str, Any], expected: str) -> None:
    with pytest.raises(errors.MisuseError, match=expected):
        policy.of(**said)


def use(rules: policy.Policy, now: float, cost: float = 0.0) -> policy.Use:
    return policy.use(rules, made_at=0.0, fresh_until=10.0, dies_at=15.0, cost=cost, now=now)


def test_time_makes_a_value_old_in_the_order_of_its_policy() -> None:
    plain, ahead = policy.of(ttl=10, stale=5), policy.of(ttl=10, stale=5, ahead=0.8)

    assert ["FRESH", "FRESH", "STALE", "DEAD"] == [use(plain, now).name for now in (0, 9.9, 10, 15)]
    assert ["FRESH", "AHEAD", "STALE", "DEAD"] == [use(ahead, now).name for now in (7.9, 8, 10, 15)]
    assert (10.0, 8.0) == tuple(
        policy.carefree_until(one, made_at=0.0, fresh_until=10.0, cost=1.0) for one in (plain, ahead)
    )
    assert (10, 3, 0) == tuple(
        policy.of(ttl=ttl, negative=no).negative_seconds for ttl, no in ((60, None), (3, None), (3, 0))
    )


def test_an_early_load_is_the_likelier_the_nearer_the_end_and_the_dearer_the_load() -> None:
    """XFetch: with beta 1 the chance at d seconds before the end is exp(-d / cost)."""
    rules = policy.of(ttl=10, early=1)

    def share(now: float, cost: float) -> float:
        return sum(use(rules, now, cost) is policy.Use.AHEAD for _ in range(4000)) / 4000

    assert 0 == share(0.0, 0.1)
    assert 0.32 < share(9.0, 1.0) < 0.42
    assert 0.58 < share(9.0, 2.0) < 0.64
    assert 3.0 == policy.carefree_until(rules, made_at=0.0, fresh_until=10.0, cost=0.5)


def test_a_loader_may_say_how_long_its_value_is_kept() -> None:
    said = loading.Loading(policy.of(ttl=60, stale=5, negative=3), ("a",))
    assert ((60, 5), (3, 0)) == (said.life(is_negative=False), said.life(is_negative=True))
    said.ttl = 7
    said.tag("b", "a")
    assert ((7, 5), ("a", "b")) == (said.life(is_negative=False), said.tags)
    said.negative(2)
    assert (2, 0) == said.life(is_negative=False)
    with pytest.raises(errors.MisuseError, match="ttl = inf"):
        said.ttl = float("inf")
    loading.now().ttl = 5  # outside a load it goes nowhere


@pytest.fixture
def tf_cache() -> cache.Cache:
    """Not started: for what happens at import."""
    return cache.Cache(db.Database(), valkey.Client())


def test_a_decorated_function_looks_as_it_did(tf_cache: cache.Cache) -> None:
    @tf_cache.cached("product:{pid}:{lang}", tags=["product:{pid}"])
    async def product(pid: int, *, lang: str = "en") -> Product:
        """One product."""
        return PRODUCT

    assert inspect.iscoroutinefunction(product)
    dependant = get_dependant(path="/{pid}", call=product)
    assert (["pid"], ["lang"]) == (
        [one.name for one in dependant.path_params],
        [one.name for one in dependant.query_params],
    )
    assert "(pid: int, *, lang: str = 'en') -> " in str(inspect.signature(product))
    assert ("product", "One product.") == (product.__name__, product.__doc__)  # type: ignore[attr-defined]
    assert "product:7:en" == product.key(7) == product.key(pid=7, lang="en")
    with pytest.raises(errors.MisuseError, match="missing a required argument: 'pid'"):
        product.key()


def test_what_cannot_be_cached_is_refused_where_it_is_written(tf_cache: cache.Cache) -> None:
    def blocking(pid: int) -> int:
        return pid

    async def first(pid: int) -> int:
        return pid

    async def second(pid: int) -> int:
        return pid

    with pytest.raises(errors.MisuseError, match=r"write `async def blocking\(...\)`"):
        tf_cache.cached("a:{pid}")(blocking)  # type: ignore[arg-type]
    with pytest.raises(errors.MisuseError, match="write @classmethod above"):
        tf_cache.cached("a:{pid}")(classmethod(first))  # type: ignore[arg-type]
    with pytest.raises(errors.MisuseError, match="has only pid"):
        tf_cache.cached("a:{pid}", tags=["{shop}"])(first)
    with pytest.raises(errors.MisuseError, match="needs pid, which its pattern 'all' does not say"):
        tf_cache.loader("all")(first)
    tf_cache.cached("a:{pid}")(first)
    with pytest.raises(errors.MisuseError, match="use another pattern"):
        tf_cache.cached("a:{pid}")(second)


def test_a_method_is_cached_without_its_object(tf_cache: cache.Cache) -> None:
    class Shop:
        @tf_cache.cached("product:{pid}")
        async def product(self, pid: int) -> str:
            return f"product {pid}"

        @tf_cache.cached("of:{self.name}:{pid}")
        async def own(self, pid: int) -> str:
            return f"product {pid}"

        name = "ann"

    assert ("product:7", "of:ann:7") == (Shop.product.key(Shop(), 7), Shop.own.key(Shop(), 7))
    with pytest.raises(errors.MisuseError, match=r"the object comes first: Shop.product.key\(shop, 7\)"):
        Shop.product.key(7)  # type: ignore[call-arg, arg-type]


def test_an_annotation_may_name_what_is_defined_further_down(tf_cache: cache.Cache) -> None:
    async def later(pid: int) -> "Later":
        return Later(pid)

    recipe = cached.Recipe(later, "later:{pid}", policy.of(), None)
    assert Later(7) == recipe.codec.decode(recipe.codec.encode(Later(7)))


@dataclasses.dataclass
class Later:
    id: int


async def _unused() -> None:
    """A coroutine for the test below."""


@pytest.mark.anyio
async def test_misuse_is_told_before_anything_is_asked(tf_cache: cache.Cache) -> None:
    with pytest.raises(errors.MisuseError, match="a coroutine found as the loader"):
        await tf_cache.get_or_load("a", _unused())  # type: ignore[arg-type]
    with pytest.raises(errors.MisuseError, match="expected: tags="):
        await tf_cache.get_or_load("a", _unused, tags="b")
    with pytest.raises(errors.NotStarted):
        await tf_cache.get_or_load("a", _unused)
    with pytest.raises(errors.NotStarted):
        await tf_cache.set("a", 1)
