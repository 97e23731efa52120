"""A closed community without consensus: its chain as one application, its door as a network."""

import time
from collections.abc import Callable

from market.app import Application, BlockEnv
from market.client import Call, sign_call
from node.genesis import Genesis, community_key
from node.membership.joining import Doorkeeper
from node.membership.members import Members
from node.network.base import Network
from node.network.libp2p import Libp2pNetwork
from tests.node.grid import REGULATOR, key_of, make_genesis
from wire.keys import SigningKey
from wire.transaction import Refused, check

PSK = bytes(range(32))
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Town:
    """What the homes of one closed community agree on; each transaction is a block of its own."""

    def __init__(self, ahead_ms: int = 0) -> None:
        self.genesis: Genesis = make_genesis(homes=5)
        self.app = Application(self.genesis.market, founding=self.genesis.founding())
        self.app.commit(self.app.genesis())
        self.ahead_ms = ahead_ms
        self.members = Members(self.genesis, (), self.now_ms)
        self.members.bind(self.app.value)
        self.networks: list[Network] = []

    def now_ms(self) -> int:
        return now_ms() + self.ahead_ms

    def submit(self, raw: bytes) -> None:
        """Judge a transaction as a mempool does, then decide it."""
        (tx,) = check([raw], self.genesis.chain_id, self.now_ms())
        if isinstance(tx, Refused):
            raise tx
        self.app.check(tx)
        env = BlockEnv(self.app.height + 1, max(self.now_ms(), self.app.time_ms + 1))
        result = self.app.execute(env, [tx])
        self.app.commit(result)
        (receipt,) = result.receipts
        if receipt.code != "ok":
            raise Refused(receipt.reason, receipt.message)

    def do(self, call: Call, key: SigningKey = REGULATOR) -> None:
        """Have a call decided; raises `Refused`."""
        nonce = max(self.app.nonce(key.address) + 1, self.now_ms())
        valid_ms = self.now_ms() + 60_000
        self.submit(sign_call(call, key, self.genesis.chain_id, nonce, valid_ms).raw)

    async def open(self, network: Network) -> Network:
        """Open a door that shows newcomers in."""
        Doorkeeper(self.genesis, self.app.query, network, submit=self.submit)
        self.networks.append(network)
        await network.start()
        return network

    async def listen(self) -> str:
        """Open the door of the first home on a loopback port; return where it is."""
        psk = community_key(self.genesis.hash, PSK)
        allowed: Callable[[str], bool] = self.members.allowed
        network = await self.open(Libp2pNetwork(key_of(0), LOOPBACK, psk, allowed=allowed))
        return network.listen_addresses()[0]

    async def close(self) -> None:
        for network in self.networks:
            await network.stop()
