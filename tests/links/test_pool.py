"""Links kept between uses. The clock is the test's own, so nothing waits."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from fieldops.deadline import Deadline
from fieldops.edges.pool import BACK_OFF_S, IDLE_S, Pool
from fieldops.errors import LinkLost, Unreachable
from tests.links.conftest import soon


@dataclass
class Link:
    """A link that counts."""

    alive: bool = True
    closed: int = 0

    def close(self) -> None:
        self.alive = False
        self.closed += 1


@dataclass
class Hosts:
    """now: the pool's clock. takes: seconds a dial costs on it. fails: hosts that do not answer."""

    now: float = 100.0
    takes: float = 0.0
    fails: bool = False
    made: list[Link] = field(default_factory=list)

    def dial(self) -> Link:
        self.now += self.takes
        if self.fails:
            raise Unreachable("no answer", phase="tcp", next_step="look", device="x")
        self.made.append(Link())
        return self.made[-1]


def use(pool: Pool[Link], hosts: Hosts, *, host: str = "a", basis: object = 1) -> Link:
    with pool.borrow(host, basis, hosts.dial, soon()) as link:
        return link


def test_a_link_is_used_again_and_shared_until_its_ground_changes() -> None:
    hosts = Hosts()
    pool: Pool[Link] = Pool(lambda: hosts.now)
    first = use(pool, hosts)
    with pool.borrow("a", 1, hosts.dial, soon()) as one, pool.borrow("a", 1, hosts.dial, soon()) as two:
        assert one is two is first
    assert use(pool, hosts, host="b") is not first
    with pool.borrow("a", 1, hosts.dial, soon()) as held:
        assert use(pool, hosts, basis=2) is not first  # known_hosts changed
        assert held.alive  # its user is not done
    assert not first.alive
    pool.close()
    assert [link.closed for link in hosts.made] == [1, 1, 1]


def test_a_dead_link_and_one_that_failed_are_not_handed_out_again() -> None:
    hosts = Hosts()
    pool: Pool[Link] = Pool(lambda: hosts.now)
    use(pool, hosts).alive = False
    second = use(pool, hosts)
    assert second.alive
    with pytest.raises(LinkLost), pool.borrow("a", 1, hosts.dial, soon()):
        raise LinkLost("gone", next_step="look")
    assert second.closed == 1
    with pytest.raises(ValueError, match="not a link's"), pool.borrow("a", 1, hosts.dial, soon()) as third:
        raise ValueError("not a link's")
    assert use(pool, hosts) is third
    pool.close()


def test_idle_links_are_closed() -> None:
    hosts = Hosts()
    pool: Pool[Link] = Pool(lambda: hosts.now)
    with pool.borrow("busy", 1, hosts.dial, soon()) as busy:
        idle = use(pool, hosts)
        pool._sweep(hosts.now + IDLE_S + 1)
        assert (busy.alive, idle.alive) == (True, False)
    pool.close()


def test_a_host_that_costs_time_in_vain_is_left_alone_for_a_while_each_time_longer() -> None:
    hosts = Hosts(takes=5.0, fails=True)
    pool: Pool[Link] = Pool(lambda: hosts.now)
    for pause in (*BACK_OFF_S, BACK_OFF_S[-1]):
        with pytest.raises(Unreachable, match=r"no answer$"):
            use(pool, hosts)
        asked = hosts.now
        with pytest.raises(Unreachable, match="tried just now"):
            use(pool, hosts)
        assert hosts.now == asked  # nobody was asked
        hosts.now += pause
    hosts.fails = False
    assert use(pool, hosts).alive
    pool.close()


def test_a_failure_that_cost_nothing_is_tried_again_at_once() -> None:
    hosts = Hosts(fails=True)
    pool: Pool[Link] = Pool(lambda: hosts.now)
    with pytest.raises(Unreachable):
        use(pool, hosts)
    hosts.fails = False
    assert use(pool, hosts).alive
    pool.close()


def test_one_dead_host_delays_no_other_and_is_dialled_once_at_a_time() -> None:
    """The dead one's dial ends only after all others were served."""
    served = threading.Event()
    pool: Pool[Link] = Pool(time.monotonic)
    dials: list[str] = []

    def dead() -> Link:
        dials.append("dead")
        assert served.wait(20)
        raise Unreachable("no answer", phase="tcp", next_step="look")

    def ask(host: str) -> bool:
        def alive() -> Link:
            dials.append(host)
            return Link()

        try:
            with pool.borrow(host, 1, dead if host == "dead" else alive, Deadline.after(30, time.monotonic)) as link:
                return link.alive
        except Unreachable:
            return False

    with ThreadPoolExecutor(16) as workers:
        dead_ones = [workers.submit(ask, "dead") for _ in range(2)]
        others = [workers.submit(ask, f"host-{number}") for number in range(50)]
        assert all(other.result(20) for other in others)
        again = [workers.submit(ask, f"host-{number}") for number in range(50)]
        assert all(other.result(20) for other in again)
        assert dials.count("dead") == 1
        served.set()
        assert not any(each.result(20) for each in dead_ones)
    assert len([host for host in dials if host != "dead"]) == 50
    pool.close()
