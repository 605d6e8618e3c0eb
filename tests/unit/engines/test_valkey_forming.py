"""How servers become a cluster, without servers: every state that a cut can leave leads to a whole cluster."""

import dataclasses
import itertools

import pytest

from tenfold.engines.valkey import forming

PORT = 6379
COUNT = 6


class World:
    """Servers that do what they are told, as Valkey does, and gossip at once."""

    def __init__(self) -> None:
        self.ids = itertools.count(1)
        self.nodes = {f"127.1.1.{number}": self._fresh(f"127.1.1.{number}") for number in range(1, COUNT + 1)}
        self.known: dict[str, set[str]] = {address: set() for address in self.nodes}
        """By address, the addresses it has met."""
        self.epochs = dict.fromkeys(self.nodes, 0)
        self.ghosts: dict[str, set[str]] = {address: set() for address in self.nodes}
        """By address, ids it remembers that nobody has any more."""

    def views(self) -> list[forming.View]:
        return [self._view(address) for address in self.nodes]

    def carry_out(self, order: forming.Order) -> None:
        me = self.nodes[order.address]
        match order.words:
            case ("CLUSTER", "MEET", str(other), _):
                group = {order.address, other} | self.known[order.address] | self.known[other]
                for one in group:
                    self.known[one] = group - {one}
            case ("CLUSTER", "ADDSLOTSRANGE", int(first), int(last)):
                self.nodes[order.address] = dataclasses.replace(me, ranges=(*me.ranges, (first, last)))
            case ("CLUSTER", "REPLICATE", str(primary)):
                self.nodes[order.address] = dataclasses.replace(me, is_primary=False, primary_id=primary)
            case ("CLUSTER", "FORGET", str(gone)):
                self.ghosts[order.address].discard(gone)
            case ("CLUSTER", "RESET", "HARD"):
                self.lose(order.address, is_remembered=False)
            case ("CLUSTER", "SET-CONFIG-EPOCH", int(epoch)):
                self.epochs[order.address] = epoch
            case ("FLUSHALL", "SYNC"):
                pass
            case _:
                raise AssertionError(order)

    def lose(self, address: str, *, is_remembered: bool = True) -> None:
        """It comes back as somebody new."""
        old = self.nodes[address].id
        for one in self.known.pop(address):
            self.known[one].discard(address)
            if is_remembered:
                self.ghosts[one].add(old)
        self.known[address] = set()
        self.ghosts[address] = set()
        self.epochs[address] = 0
        self.nodes[address] = self._fresh(address)

    def work(self, most: int = 100) -> None:
        """Look and obey until there is nothing to do."""
        for _ in range(most):
            found = forming.orders(self.views(), PORT)
            if not found:
                return
            for order in found:
                self.carry_out(order)
        raise AssertionError("they never come to rest")

    def _fresh(self, address: str) -> forming.Node:
        return forming.Node(f"id-{next(self.ids)}", address, is_primary=True)

    def _view(self, address: str) -> forming.View:
        others = [self.nodes[one] for one in sorted(self.known[address])]
        ghosts = [forming.Node(one, "", is_primary=True) for one in sorted(self.ghosts[address])]
        return forming.View(address, self.nodes[address], (*others, *ghosts), self.epochs[address])


def roles(world: World) -> list[int]:
    """How many replicas each primary with slots has."""
    followed = [node.primary_id for node in world.nodes.values() if not node.is_primary]
    return [followed.count(node.id) for node in world.nodes.values() if node.ranges]


def test_new_servers_become_three_primaries_with_a_replica_each() -> None:
    world = World()
    world.work()
    assert forming.is_whole(world.views())
    assert [1, 1, 1] == roles(world)
    assert forming.SLOTS == sum(len(node.slots) for node in world.nodes.values())


@pytest.mark.parametrize("cut", range(1, 20))
def test_cut_short_after_any_order_it_is_completed(cut: int) -> None:
    world, given = World(), 0
    while given < cut and (found := forming.orders(world.views(), PORT)):
        for order in found[: cut - given]:
            world.carry_out(order)
            given += 1
    world.work()
    assert forming.is_whole(world.views())
    assert [1, 1, 1] == roles(world)


def test_begun_anew_it_forgets_what_it_was() -> None:
    world = World()
    world.work()
    for order in forming.begin_anew(world.views()):
        world.carry_out(order)
    assert not any(node.ranges for node in world.nodes.values())
    assert not any(world.known.values())
    world.work()
    assert forming.is_whole(world.views())


def test_a_server_that_comes_back_without_its_data_takes_the_place_it_had() -> None:
    world = World()
    world.work()
    replica = next(address for address, node in world.nodes.items() if not node.is_primary)
    world.lose(replica)
    assert not forming.is_whole(world.views())
    world.work()
    assert forming.is_whole(world.views())
    assert not any(world.ghosts.values())


def test_slots_whose_primary_and_replica_are_lost_are_served_again() -> None:
    world = World()
    world.work()
    primary = next(node for node in world.nodes.values() if node.ranges)
    replica = next(node for node in world.nodes.values() if node.primary_id == primary.id)
    for one in (replica, primary):
        world.lose(one.address)
    world.work()
    assert forming.is_whole(world.views())
    assert [1, 1, 1] == roles(world)


def test_replicas_are_spread_evenly() -> None:
    world = World()
    world.work()
    first = next(node for node in world.nodes.values() if node.ranges)
    moved = next(node for node in world.nodes.values() if node.primary_id not in ("", first.id))
    world.nodes[moved.address] = dataclasses.replace(moved, primary_id=first.id)
    assert [2, 0, 1] == sorted(roles(world), key=[2, 0, 1].index)
    world.work()
    assert [1, 1, 1] == roles(world)


def test_what_a_server_says_of_its_cluster_is_read() -> None:
    text = (
        "aa 127.1.1.1:6379@16379,,shard-id=x myself,master - 0 0 7 connected 0-5460 7000 [93->-bb]\n"
        "bb 127.1.1.2:6379@16379 slave aa 0 1 7 connected\n"
        "cc 127.1.1.3:6379@16379 handshake - 0 0 0 disconnected\n"
        "dd :0@0 master,fail,noaddr - 1 1 2 disconnected 5461-5470\n"
    )
    view = forming.read("127.1.1.1", text, is_settled=True)
    assert forming.Node("aa", "127.1.1.1", True, "", True, ((0, 5460), (7000, 7000))) == view.me
    assert 7 == view.epoch
    assert ["bb", "cc", "dd"] == [one.id for one in view.others]
    assert (False, "aa") == (view.others[0].is_primary, view.others[0].primary_id)
    assert not view.others[1].is_known
    assert "" == view.others[2].address
