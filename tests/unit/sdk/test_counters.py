"""What a process counts, over the lives of those who count."""

from tenfold.sdk import counters


def test_a_source_that_is_taken_back_and_comes_again_counts_nothing_twice() -> None:
    kept = {"test.hits": 0}

    def seen() -> int:
        return counters.reading().get("test.hits", 0)

    take_back = counters.source(lambda: kept)
    kept["test.hits"] = 3
    assert 3 == seen()
    take_back()
    take_back()
    assert 3 == seen()

    take_back = counters.source(lambda: kept)
    assert 3 == seen()
    kept["test.hits"] = 5
    assert 5 == seen()
    take_back()
    assert 5 == seen()
