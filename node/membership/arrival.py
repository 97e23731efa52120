"""How an invited newcomer comes into a closed community (see `node.membership.invitations`)."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from market.client import accept_invite, sign_call
from node.errors import PeerError
from node.genesis import Genesis
from node.membership.invitations import Invitation, check_regulator, check_until
from node.membership.joining import PROTOCOL, Acceptance, GetGenesis, decode_acceptance, read_shown
from node.network.base import Network
from node.proofs.light import visit_community
from wire.codec import encode
from wire.keys import SigningKey

log = logging.getLogger("commonwatt.arrival")

VALID_MS: Final = 60_000
CONNECT_TIMEOUT_S: Final = 15.0
LET_IN_TIMEOUT_S: Final = 60.0
RETRY_S: Final = 1.0
# What the contract refuses an invitation with, as its carrier should hear it.
_SENTENCES: Final = {
    "key_retired": "the invitation has been used or taken back; ask the regulator for a new one",
    "stranger": "the community knows no such invitation; ask the regulator for a new one",
    "no_invite": "the community knows no such invitation; ask the regulator for a new one",
    "invite_expired": "the invitation has run out; ask the regulator for a new one",
}


class Arrival:
    """One newcomer's way in.

    Parameters
    ----------
    invitation : Invitation
    now_ms : callable
        Real time, UTC. [ms]
    network : callable, optional
        Makes the network of a key; for tests in place of libp2p.
    connect_timeout_s : float, optional
        How long until the first of the addresses has answered.

    Raises
    ------
    ConfigError
        The invitation has run out.
    """

    def __init__(
        self,
        invitation: Invitation,
        now_ms: Callable[[], int],
        network: Callable[[SigningKey], Network] | None = None,
        connect_timeout_s: float | None = None,
    ) -> None:
        check_until(invitation, now_ms())
        self._invitation = invitation
        self._now_ms = now_ms
        self._network = network
        self._timeout_s = CONNECT_TIMEOUT_S if connect_timeout_s is None else connect_timeout_s

    async def genesis(self) -> Genesis:
        """Fetch the community's genesis as the invitation's carrier.

        Raises
        ------
        PeerError
            Nobody lets it in, or what is shown is not the genesis it names, or its regulator did
            not sign the invitation.
        GenesisError
            This program cannot use that genesis.
        """
        answer = await self._ask(self._invitation.door_key, encode(GetGenesis()))
        found = read_shown(answer, bytes.fromhex(self._invitation.genesis_hash))
        check_regulator(self._invitation, found)
        return found

    async def accept(self, home: SigningKey) -> None:
        """Use the invitation up for a home's key, and wait until that is let in.

        Done again after an interruption, it does what is lacking.

        Raises
        ------
        PeerError
            The invitation is refused, or no block took it in time.
        """
        now_ms = self._now_ms()
        door = self._invitation.door_key
        call = accept_invite(home.address)
        signed = sign_call(call, door, self._invitation.chain_id, now_ms, now_ms + VALID_MS)
        refused: PeerError | None = None
        try:
            answer = await self._ask(door, encode(Acceptance(signed.raw)))
        except PeerError as error:
            # Used by this very home before an interruption?
            refused = error
        else:
            state = decode_acceptance(answer)
            if state.code != "ok":
                raise PeerError(_SENTENCES.get(state.code, f"refused: {state.code}"))
        until_s = time.monotonic() + (0.0 if refused else LET_IN_TIMEOUT_S)
        while True:
            try:
                await self._ask(home, encode(GetGenesis()))
                return
            except PeerError as error:
                if time.monotonic() >= until_s:
                    raise refused or PeerError(
                        f"no block took the invitation within {LET_IN_TIMEOUT_S:g} s ({error})"
                    ) from None
            await asyncio.sleep(RETRY_S)

    async def _ask(self, key: SigningKey, question: bytes) -> bytes:
        """Ask the first of the homes that lets a key in."""
        try:
            async with visit_community(
                bytes.fromhex(self._invitation.genesis_hash),
                self._invitation.addresses,
                None if self._network is None else self._network(key),
                self._timeout_s,
                key,
                self._invitation.network_key,
            ) as source:
                return await source.ask(PROTOCOL, question)
        except PeerError as error:
            log.debug("%s", error)
            raise PeerError(
                "nobody lets this invitation in: it has been used or taken back, or no home is at "
                f"{', '.join(self._invitation.addresses)}"
            ) from None
