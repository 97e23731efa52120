"""Who is let into a closed community: whom its chain knows, and whom its settings name.

A peer id holds its node's public key, so it names an account without anybody's word. Let in are

    homes that are registered and have not left; the key that speaks for one, and one that may
    authorities and candidates; the regulator
    invitations that are open, and homes that one has let in
    the genesis' authorities and `bootstrap`, whom a node without the chain has to begin with
    on a main chain (ADR 27) the genesis' sponsors, and of regions that a quorum has let in the
    sponsor and whoever is in one of the sets that are kept of it

Called in the network's thread for every connection and every author of gossip: it looks keys up in
the committed state, and asks no contract.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from market.admission import SIGNER_PREFIX
from market.invariants import MEMBER_PREFIX
from market.tiers import (
    POSTER_PREFIX,
    REGION_RULES_KEY,
    region_epochs_key,
    region_key,
    region_money_key,
    region_set_key,
)
from node.genesis import Genesis
from node.network._limits import Limits
from node.network.base import Network
from wire.codec import decode_plain
from wire.keys import address_of, public_key_of_peer

log = logging.getLogger("commonwatt.members")

# An entry of the registry or of governance.
ENTRY_BYTES_MAX: Final = 65_536
OFFENCES_TO_A_BAN: Final = Limits().offences_max


class Members:
    """Tells members of one community from others.

    Parameters
    ----------
    genesis : Genesis
    bootstrap : iterable of str
        Multiaddresses that end in `/p2p/PEER_ID`.
    now_ms : callable
        Real time, UTC. [ms]
    """

    def __init__(
        self, genesis: Genesis, bootstrap: Iterable[str], now_ms: Callable[[], int]
    ) -> None:
        self._clock = genesis.market.clock()
        self._now_ms = now_ms
        self._first = {address_of(public) for public in genesis.authorities}
        self._first.add(genesis.market.regulator)
        main = genesis.market.main
        if main is not None:
            self._first.update(sponsor for sponsor, _ in main.sponsors)
        self._neighbours = {address.rpartition("/p2p/")[2] for address in bootstrap}
        self._value: Callable[[str], bytes | None] = lambda key: None

    def bind(self, value: Callable[[str], bytes | None]) -> None:
        """Take the committed state to look into: `Application.value`."""
        self._value = value

    def allowed(self, peer_id: str) -> bool:
        """Tell whether a peer is let in; safe to call from any thread."""
        if peer_id in self._neighbours:
            return True
        public = public_key_of_peer(peer_id)
        if public is None:
            return False
        address = address_of(public)
        return self.is_member(address) or self._is_of_region(address, public.hex())

    def is_member(self, address: str) -> bool:
        """Tell whether the chain knows an address as one to be let in."""
        home = self._entry(f"registry/home/{address}")
        if home is not None:
            # Whom the regulator took the first key's rights from is no longer known by it.
            return not home.get("lost") and self._is_here(home)
        if self._is_seated(address):
            return True
        speaks_for = self._plain(SIGNER_PREFIX + address)
        if speaks_for is not None:
            home = self._entry(f"registry/home/{speaks_for}")
            return home is not None and self._is_here(home)
        offered = self._plain(f"registry/offered/{address}")
        if offered is not None:
            return True
        return self._is_until(f"registry/invite/{address}") or self._is_until(
            f"registry/guest/{address}"
        )

    def _is_of_region(self, address: str, public: str) -> bool:
        """Tell whether a region that is let in has this sponsor, or this key in a kept set."""
        for number in self._plain(POSTER_PREFIX + address) or ():
            region = self._entry(region_key(number))
            if region is None or not self._is_let_in(number, region):
                continue
            if region["sponsor"] == address or self._decides(number, public):
                return True
        return False

    def _is_let_in(self, number: int, region: Mapping[str, Any]) -> bool:
        status = region["status"]
        if status == "left":
            # What it has put up may still be claimed: by its sponsor, or by who proves a fraud.
            return any(self._plain(region_money_key(number)) or ())
        if status == "frozen":
            # Its honest nodes have to hear of it, and to show at home what came of its offers.
            rules = self._entry(REGION_RULES_KEY) or {"hold_ms": 0}
            return bool(self._now_ms() < region["since_ms"] + rules["hold_ms"])
        return status in ("live", "halted")

    def _decides(self, number: int, public: str) -> bool:
        oldest, newest = self._plain(region_epochs_key(number)) or (0, -1)
        sets = (
            self._entry(region_set_key(number, epoch)) for epoch in range(newest, oldest - 1, -1)
        )
        return any(found is not None and public in found["keys"] for found in sets)

    def _is_here(self, home: Mapping[str, Any]) -> bool:
        until_slot = home.get("until_slot")
        return until_slot is None or self._clock.slot_at(self._now_ms()) < until_slot

    def _is_seated(self, address: str) -> bool:
        entry = self._entry(MEMBER_PREFIX + address)
        if entry is None:
            return address in self._first
        return not entry["convicted"] and entry["seat"] != "left"

    def _is_until(self, key: str) -> bool:
        row = self._plain(key)
        return row is not None and row[1] >= self._now_ms()

    def _entry(self, key: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._plain(key)
        return found

    def _plain(self, key: str) -> Any:
        data = self._value(key)
        return None if data is None else decode_plain(data, ENTRY_BYTES_MAX)

    def dismiss(self, network: Network) -> None:
        """Disconnect peers that are members no longer; cheap enough for every block."""
        for peer in network.peers():
            if self.allowed(peer.peer_id):
                continue
            log.info("%s is no member any more: disconnected", peer.peer_id)
            for _ in range(OFFENCES_TO_A_BAN):
                network.penalize(peer.peer_id, "it is not of this community any more")
