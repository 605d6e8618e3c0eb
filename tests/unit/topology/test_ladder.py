"""The ladder: which rung a topology stands on, and the edits that take its file up and down, comments kept."""

import itertools

import pytest

from tenfold import errors
from tenfold.topology import edit, load, rungs, spreading

SINGLE = """\
# the shop
[service]
name = "shop"            # its name
app  = "shop.web:app"

[database]
migrations = "sql"       # not the default
"""
BUILT = [rung for rung in rungs.RUNGS if rung.is_built]
UNBUILT = [rung for rung in rungs.RUNGS if not rung.is_built]


def at(rung: rungs.Rung) -> str:
    return edit.apply(SINGLE, rungs.edits(load.parse(SINGLE), rung))


@pytest.mark.parametrize("rung", BUILT, ids=lambda rung: rung.name)
def test_the_file_climbs_to_every_rung(rung: rungs.Rung) -> None:
    assert rung is rungs.rung_of(load.parse(at(rung)))


@pytest.mark.parametrize(
    ("high", "low"), [(b, a) for a, b in itertools.combinations(BUILT, 2)], ids=lambda rung: rung.name
)
def test_the_file_descends_to_every_rung_below(high: rungs.Rung, low: rungs.Rung) -> None:
    text = at(high)

    descended = load.parse(edit.apply(text, rungs.edits(load.parse(text), low)))

    assert low is rungs.rung_of(descended)
    assert load.parse(at(low)).database == descended.database
    assert load.parse(at(low)).web == descended.web


def test_comments_and_order_stay() -> None:
    assert (
        at(rungs.named("replicated"))
        == """\
# the shop
[service]
name = "shop"            # its name
app  = "shop.web:app"

[database]
migrations = "sql"       # not the default
placement = "own"
replicas = 2
synchronous = true

[balancer]
servers = 2

[web]
servers = 2
"""
    )


def test_all_rungs_of_the_design_are_named_and_some_are_built() -> None:
    built = [
        "single",
        "database",
        "balanced",
        "replicated",
        "cached",
        "cdn",
        "stateless",
        "autoscaled",
        "regions",
        "queued",
    ]
    assert list(range(1, 13)) == [rung.number for rung in rungs.RUNGS]
    assert built == [rung.name for rung in BUILT]


def test_a_climb_beyond_what_is_built_says_what_it_skips() -> None:
    road = rungs.climb(load.parse(SINGLE), rungs.named("sharded"))

    assert BUILT[1:] == list(road.rungs)
    assert [f"{rung.name} (rung {rung.number}) is not built yet: skipped" for rung in UNBUILT] == list(road.notes)


def test_one_step_up_and_one_step_down() -> None:
    balanced = load.parse(at(rungs.named("balanced")))

    assert ("replicated",) == tuple(rung.name for rung in rungs.climb(balanced).rungs)
    assert ("database",) == tuple(rung.name for rung in rungs.descend(balanced).rungs)
    assert rungs.named("replicated") is rungs.next_rung(balanced)


def test_at_the_top_there_is_nothing_to_climb() -> None:
    road = rungs.climb(load.parse(at(rungs.named("queued"))))

    assert () == road.rungs
    assert 2 == len(road.notes)


def test_a_skipped_rung_is_left_out_and_can_be_climbed_later() -> None:
    skipped = (rungs.named("balanced"),)
    road = rungs.climb(load.parse(SINGLE), rungs.named("replicated"), skipped)
    text = edit.apply(SINGLE, rungs.edits(load.parse(SINGLE), rungs.named("replicated"), skipped))
    topology = load.parse(text)

    assert ["database", "replicated"] == [rung.name for rung in road.rungs]
    assert topology.balancer is None
    assert "replicated" == rungs.rung_of(topology).name
    assert ["balanced"] == [rung.name for rung in rungs.climb(topology, rungs.named("balanced")).rungs]


def test_more_web_servers_than_a_rung_asks_for_stay() -> None:
    text = SINGLE + "[balancer]\nservers = 1\n[web]\nservers = 5\n"

    assert 5 == load.parse(edit.apply(text, rungs.edits(load.parse(text), rungs.named("replicated")))).web.servers


def test_groups_are_not_thrown_away_by_a_descent() -> None:
    text = at(rungs.named("balanced")) + "[web_groups.api]\n"

    with pytest.raises(errors.BadInput, match=r"\[web_groups.api\]: found, and below rung 3 there is no balancer"):
        rungs.edits(load.parse(text), rungs.named("database"))


def test_an_unknown_rung_names_the_nearest() -> None:
    with pytest.raises(errors.BadInput, match="did you mean replicated"):
        rungs.named("replicate")


UGLY = {
    "dotted keys": 'service.name = "shop"\nservice.app = "shop.web:app" # here\ndatabase.migrations = "sql"\n',
    "inline tables": 'service = { name = "shop", app = "shop.web:app" }\ndatabase = { migrations = "sql" } # mine\n',
    "windows": SINGLE.replace("\n", "\r\n"),
    "no end of line": SINGLE.rstrip("\n"),
    "sections out of order": '[database]\n\n# a note at the end\n\n[service]\nname = "shop"\napp = "shop.web:app"\n',
    "empty lines": '[service]\nname = "shop"\n\napp = "shop.web:app"\n\n\n[web]\nservers = 1 # one\n\n# end\n',
    "indented": '[service]\n  name = "shop"\n  app = "shop.web:app"\n  [database]\n  pool_size = 9 # few\n',
    "literal strings": "[service]\nname = 'shop'\napp = 'shop.web:app'\nenv = { A = '''x''' }\n",
}


@pytest.mark.parametrize("name", UGLY)
def test_ugly_files_climb_and_descend_and_keep_their_comments(name: str) -> None:
    text = UGLY[name]
    up = edit.apply(text, rungs.edits(load.parse(text), rungs.named("replicated")))
    down = edit.apply(up, rungs.edits(load.parse(up), rungs.named("single")))

    assert "replicated" == rungs.rung_of(load.parse(up)).name
    assert "single" == rungs.rung_of(load.parse(down)).name
    for comment in (line.partition("#")[2] for line in text.splitlines() if "#" in line):
        assert comment in up
        assert comment in down
    assert up.count("\r\n") == (up.count("\n") if "\r\n" in text else 0)


def test_no_change_changes_nothing() -> None:
    for text in UGLY.values():
        assert text == edit.apply(text, ())


def test_a_line_that_goes_takes_its_comment_along() -> None:
    text = at(rungs.named("database")).replace('placement = "own"', 'placement = "own"  # since May')

    assert SINGLE == edit.apply(text, rungs.edits(load.parse(text), rungs.named("single")))


def test_the_new_tiers_come_and_go_without_a_trace() -> None:
    replicated, text = at(rungs.named("replicated")), at(rungs.named("queued"))

    followed = replicated.replace("[web]\nservers = 2\n", "[web]\nservers = { min = 2, max = 3 }\n")
    public = followed.replace('app  = "shop.web:app"\n', 'app  = "shop.web:app"\ndomain = "shop.test"\n')
    assert text == (
        f'{public}\n[cache]\nservers = 3\n\n[cdn]\nedges = 2\n\n[sessions]\nstore = "token"\n\n'
        '[regions.seoul]\nprimary = true\nnetworks = ["203.0.113.0/24"]\n\n'
        '[regions.virginia]\nprimary = false\nnetworks = ["198.51.100.0/24"]\n\n'
        "[regions.virginia.web]\nservers = 2\n\n[wan.seoul-virginia]\ndelay_ms = 90\n\n[dns]\nservers = 2\n\n"
        "[queue]\nservers = 3\n\n[workers]\nservers = 2\n"
    )
    down = edit.apply(text, rungs.edits(load.parse(text), rungs.named("replicated")))
    named = load.parse(replicated).service.model_copy(update={"domain": "shop.test"})
    assert load.parse(replicated).model_copy(update={"service": named}) == load.parse(down)


def to_regions(text: str) -> str:
    return edit.apply(text, rungs.edits(load.parse(text), rungs.named("regions"), (rungs.named("cached"),)))


def test_name_servers_keep_what_the_file_says_of_the_name_and_of_networks() -> None:
    own = SINGLE.replace("[database]", 'domain = "shop.example"\n\n[database]')
    text = own + '[dns]\nttl = "9s"\n[regions.paris]\nprimary = true\nnetworks = ["203.0.113.0/24", "192.0.2.0/24"]\n'
    up = load.parse(to_regions(text))

    assert ("shop.example", 9.0) == (up.service.domain, up.dns.life_seconds if up.dns else 0)
    assert [("203.0.113.0/24", "192.0.2.0/24"), ("198.51.100.0/24",)] == [one.networks for one in up.regions.values()]
    down = load.parse(edit.apply(to_regions(text), rungs.edits(up, rungs.named("single"))))
    before = load.parse(text)
    assert (before.dns, before.regions, before.service) == (down.dns, down.regions, down.service), "not the ladder's"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('listen = "0.0.0.0:8080"', r"0.0.0.0:8080 found, .* add \[regions.seoul\] with primary = true and addresses"),
        ('tls = { certificate = "own.pem" }', "nothing found beside a certificate of your own"),
    ],
)
def test_what_name_servers_would_have_to_guess_is_asked_for(line: str, said: str) -> None:
    text = SINGLE.replace("[database]", f"{line}\n\n[database]")

    with pytest.raises(errors.BadInput, match=said):
        to_regions(text)


def test_a_range_is_left_with_the_number_that_it_has_now() -> None:
    text = at(rungs.named("autoscaled"))
    now = load.parse(text).decided({"web": 3, "workers": 9})
    down = edit.apply(text, rungs.edits(now, rungs.named("stateless")))

    assert (3, None) == (load.parse(down).web.servers, load.parse(down).web.bounds)


def test_a_decided_number_stays_inside_its_bounds() -> None:
    topology = load.parse(at(rungs.named("autoscaled")))

    assert [2, 2, 3, 3] == [topology.decided({"web": number}).web.count for number in (0, 2, 3, 9)]
    assert 2 == topology.web.count


def test_sessions_are_tokens_where_there_is_no_cache() -> None:
    skipped = (rungs.named("cached"),)
    text = edit.apply(SINGLE, rungs.edits(load.parse(SINGLE), rungs.named("stateless"), skipped))

    assert ("token", None) == (load.parse(text).sessions.store, load.parse(text).cache)


def test_stateless_ends_stickiness_and_memory() -> None:
    text = SINGLE + '[balancer]\nservers = 2\nsticky = true\n[sessions]\nstore = "memory"\nlife = "2h"\n'
    topology = load.parse(edit.apply(text, rungs.edits(load.parse(text), rungs.named("stateless"))))

    assert ("cache", 7200.0, False) == (topology.sessions.store, topology.sessions.life_seconds, topology.is_sticky)


def test_what_a_process_keeps_itself_stays_when_the_cache_servers_go() -> None:
    text = SINGLE + '[cache]\nservers = 3\nlocal_memory = "8MiB"\n'
    down = load.parse(edit.apply(text, rungs.edits(load.parse(text), rungs.named("single"))))

    assert down.cache is not None
    assert (0, 8 * 1024**2) == (down.cache.servers, down.cache.local_memory_bytes)


def test_static_files_stay_when_the_edges_go() -> None:
    text = at(rungs.named("cdn")).replace("edges = 2", 'edges = 3\nstatic = "static"')
    down = load.parse(edit.apply(text, rungs.edits(load.parse(text), rungs.named("single"))))
    up = edit.apply(text, rungs.edits(load.parse(text), rungs.named("cdn")))

    assert down.cdn is not None
    assert (0, "static") == (down.cdn.edges, down.cdn.static)
    assert text == up


def test_commits_wait_for_no_other_region_where_one_is_left() -> None:
    text = '[service]\nname = "shop"\napp = "shop:app"\n[database]\nreplicas = 1\nsynchronous = "regions"\n'
    up = load.parse(text + "[regions.home]\nprimary = true\n[regions.far]\n")

    down = edit.apply(text + "[regions.home]\nprimary = true\n[regions.far]\n", spreading.leave(up))

    assert load.parse(down).database.synchronous is True
