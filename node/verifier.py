"""Signature checks that are paid once: gossip, mempool and block execution share one memory."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from wire.transaction import CheckedTransaction, Refused, check, check_validity

REMEMBERED_MAX: Final = 20_000


class TransactionVerifier:
    """Checks transactions, remembering good ones by the hash of their bytes.

    Called from the network's thread (before a batch is passed on), from the event loop and from
    the execution thread; the memory is guarded by a lock, the signatures are checked outside it.
    """

    def __init__(self, chain_id: str) -> None:
        self._chain_id = chain_id
        self._known: OrderedDict[bytes, CheckedTransaction] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, raws: Sequence[bytes], now_ms: int) -> list[CheckedTransaction | Refused]:
        """Return the checked transaction, or why it is refused at `now_ms`, for each input."""
        hashes = [hashlib.sha256(raw).digest() for raw in raws]
        with self._lock:
            known = [self._known.get(digest) for digest in hashes]
        fresh = [place for place, found in enumerate(known) if found is None]
        unchecked = Refused("malformed", "it has not been checked")
        results: list[CheckedTransaction | Refused] = [
            _still_valid(found, now_ms) if found else unchecked for found in known
        ]
        checked = check([raws[place] for place in fresh], self._chain_id, now_ms)
        for place, result in zip(fresh, checked, strict=True):
            results[place] = result
            if isinstance(result, CheckedTransaction):
                self._remember(hashes[place], result)
        return results

    def _remember(self, digest: bytes, checked: CheckedTransaction) -> None:
        with self._lock:
            self._known[digest] = checked
            while len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)


def _still_valid(checked: CheckedTransaction, now_ms: int) -> CheckedTransaction | Refused:
    try:
        check_validity(checked.tx, now_ms)
    except Refused as refused:
        return refused
    return checked
