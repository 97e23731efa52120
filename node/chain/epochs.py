"""Who decides a height, and by which parameters (R28): one place to ask, for all of the node.

The market's state holds the authorities of each epoch as long as evidence may speak of them, and
the chain's parameters (`market/contracts/governance.star`). Both are made in an epoch's last block
for the next, so whoever has applied a block knows who decides the one after it, and whoever lags
behind the end of an epoch does not.
"""

from typing import Final

from consensus.authorities import AuthoritySet
from market.app import Application
from market.terms import Terms
from node.genesis import ChainParams, Genesis, chain_of

SETS_KEPT_MAX: Final = 512


class Epochs:
    """The authority sets and parameters of one chain. Safe to ask from any thread."""

    def __init__(self, genesis: Genesis, app: Application) -> None:
        self._app = app
        self._first = AuthoritySet(0, tuple(genesis.authorities))
        self._sets: dict[int, AuthoritySet] = {}

    def epoch_of(self, height: int) -> int:
        """Return the epoch a height belongs to."""
        return self._app.epoch_of(height)

    def of_epoch(self, epoch: int) -> AuthoritySet | None:
        """Return an epoch's set; None if it is not made yet, or forgotten."""
        if epoch == 0:
            return self._first
        found = self._sets.get(epoch)
        if found is None:
            publics = self._app.authorities(epoch)
            if publics is None:
                return None
            found = AuthoritySet(epoch, publics)
            if len(self._sets) >= SETS_KEPT_MAX:
                self._sets = {}
            self._sets[epoch] = found
        return found

    def of_height(self, height: int) -> AuthoritySet | None:
        """Return the set that decides a height; None as in `of_epoch`."""
        return self.of_epoch(self.epoch_of(height))

    def chain(self) -> ChainParams:
        """Return the parameters of the block that follows the applied ones."""
        return chain_of(self._app.terms().chain)


def set_of(terms: Terms) -> AuthoritySet:
    """Return the authority set of a block's terms."""
    return AuthoritySet(terms.epoch, terms.authorities)
