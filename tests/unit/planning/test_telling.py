"""What the app is told when a home was lost."""

from tenfold.observation import snapshot
from tenfold.planning import telling


def test_commits_wait_no_more_for_a_region_that_was_lost_and_replaced() -> None:
    two, three = (snapshot.Told(witnesses=names) for names in (("a", "b"), ("a", "b", "c")))

    assert () == telling.without(two, "a").witnesses, "nobody else is there to wait for"
    assert ("b", "c") == telling.without(three, "a").witnesses
    assert two == telling.without(two, "c")
