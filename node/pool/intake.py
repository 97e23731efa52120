"""How many transactions a neighbour may bring: paid before a signature is looked at.

Checking one costs every node the same whether it is good or not, so who brings many is charged for
each that is new here, whoever signed it. Authorities, which are few and have bonds, may bring more.
Where all together bring too much, or more waits already than the next blocks can take, those go on
who have brought little.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from node.network._limits import Rate
from node.network.base import EXCESS, Verdict

# A home posts a few in a slot; a made-up load of hundreds of homes may come through one node.
PER_S: Final = 250.0
BURST: Final = 2_000.0
# What a peer has at first. With all of the burst, new names would be worth more than a good one.
FIRST: Final = 256.0
# What this home says stays so much below what others take from it.
OWN_SHARE: Final = 0.8
AUTHORITY_PER_S: Final = 1_500.0
AUTHORITY_BURST: Final = 10_000.0
# All together who are neither authorities nor modest: no more than one of them may say, so that
# however many names a flooder has, most of what can be decided is left to the others.
ALL_PER_S: Final = OWN_SHARE * PER_S
ALL_BURST: Final = 1_000.0
# With more than this waiting, another transaction is only another one that waits.
CROWDED: Final = 100
# Of its burst a peer has so much left if it has been modest.
MODEST_SHARE: Final = 0.5
PEERS_MAX: Final = 1_024


class Intake:
    """What each neighbour may still bring.

    Called from the network's thread and from the event loop.

    Parameters
    ----------
    is_authority : callable
        `is_authority(peer_id)`.
    clock : callable, optional
        Monotonic. [s]
    """

    def __init__(
        self,
        is_authority: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_authority = is_authority
        self._clock = clock
        self._all = Rate(ALL_PER_S, ALL_BURST, clock())
        self._rates: OrderedDict[tuple[str, bool], Rate] = OrderedDict()
        self._lock = threading.Lock()

    def verdict(self, peer: str, transactions: int, waiting: int) -> Verdict:
        """Charge a peer for transactions that are new here, of which `waiting` wait already.

        True takes them; EXCESS is more than the peer may bring; None more than all may just now.
        """
        is_authority = self._is_authority(peer)
        with self._lock:
            now_s = self._clock()
            rate = self._rate(peer, is_authority, now_s)
            if not rate.take(transactions, now_s):
                return EXCESS
            if is_authority or rate.left >= MODEST_SHARE * BURST:
                return True
            return True if waiting <= CROWDED and self._all.take(transactions, now_s) else None

    def _rate(self, peer: str, is_authority: bool, now_s: float) -> Rate:
        rate = self._rates.get((peer, is_authority))
        if rate is None:
            if is_authority:
                rate = Rate(AUTHORITY_PER_S, AUTHORITY_BURST, now_s)
            else:
                rate = Rate(PER_S, BURST, now_s, FIRST)
            self._rates[peer, is_authority] = rate
            if len(self._rates) > PEERS_MAX:
                self._rates.popitem(last=False)
        else:
            self._rates.move_to_end((peer, is_authority))
        return rate


def own_allowance(is_authority: bool, now_s: float) -> Rate:
    """Return what this home may say to others and be heard, an authority or not."""
    if is_authority:
        return Rate(OWN_SHARE * AUTHORITY_PER_S, OWN_SHARE * AUTHORITY_BURST, now_s)
    return Rate(OWN_SHARE * PER_S, OWN_SHARE * BURST, now_s, FIRST)
