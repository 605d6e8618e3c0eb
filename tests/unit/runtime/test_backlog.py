"""What waits in both queues, and when a person should hear of it."""

from tenfold.engines.nats import admin
from tenfold.runtime import backlog


def stream(oldest_at: float, *waiting: int) -> admin.Stream:
    consumers = tuple(admin.Consumer(f"c{number}", "queue-1", count, 0, 0) for number, count in enumerate(waiting))
    return admin.Stream("s", "queue-1", 1, oldest_at, 1, (), consumers)


def test_messages_on_queue_servers_wait_since_the_first_that_is_not_settled() -> None:
    assert (7, 60.0) == backlog.waiting_in([stream(940.0, 3, 4), stream(990.0, 0)], 1000.0)
    assert (0, 0.0) == backlog.waiting_in([stream(100.0, 0)], 1000.0), "it is being handled: nobody waits"
    assert (5, 10.0) == backlog.waiting_in([stream(990.0, 2), stream(995.0, 3)], 1000.0)
    assert (0, 0.0) == backlog.waiting_in([], 1000.0)


def test_a_person_hears_of_messages_that_have_waited_for_long() -> None:
    def codes(found: backlog.Backlog) -> list[str]:
        return [one.code for one in backlog.troubles(found)]

    assert ["messages_wait"] == codes(backlog.Backlog(7, 31.0, 0))
    assert ["dead_letters"] == codes(backlog.Backlog(7, 29.0, 1))
