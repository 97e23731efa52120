"""Who may have a transaction executed: its entry, its arguments, its sender and its nonce."""

from typing import Final

from market.errors import Rejected
from market.genesis import MarketParams
from market.invariants import ACCOUNT_PREFIX, MEMBER_PREFIX
from market.tiers import POSTER_PREFIX
from market.vm.executor import Executor
from market.vm.journal import Journal
from wire.codec import decode_plain
from wire.transaction import CheckedTransaction

NONCE_PREFIX: Final = "chain/nonce/"
SIGNER_PREFIX: Final = "registry/signer/"
_NONCE_BYTES_MAX: Final = 9
_ADDRESS_BYTES_MAX: Final = 64


def admit(
    executor: Executor, journal: Journal, checked: CheckedTransaction, params: MarketParams
) -> str:
    """Return the account that a transaction is of.

    Raises
    ------
    Rejected
        It cannot be executed on `journal`.
    """
    tx, sender = checked.tx, account_of(journal, checked.sender)
    export = executor.find(journal, tx.contract, tx.entry, ("execute",))
    executor.check_arguments(tx.contract, tx.entry, export, tx.args)
    if (
        sender != params.regulator
        and journal.get(f"registry/home/{sender}") is None
        and journal.get(f"registry/meter/{sender}") is None
        and journal.get(MEMBER_PREFIX + sender) is None
        and journal.get(f"registry/offered/{sender}") is None
        and journal.get(f"registry/invite/{sender}") is None
        and not (params.main is not None and _is_of_region(journal, sender))
    ):
        raise Rejected("stranger", f"{sender} is neither home, meter, authority nor regulator here")
    last = nonce_of(journal.get(NONCE_PREFIX + checked.sender))
    if tx.nonce <= last:
        raise Rejected("bad_nonce", f"the nonce must be above {last}, it is {tx.nonce}")
    return sender


def account_of(journal: Journal, signer: str) -> str:
    """Return the account that a key speaks for: its own, unless it has taken another key's place.

    Raises
    ------
    Rejected
        It speaks for none any more: it was replaced, or was an invitation that is used up.
    """
    data = journal.get(SIGNER_PREFIX + signer)
    if data is None:
        return signer
    account = decode_plain(data, _ADDRESS_BYTES_MAX)
    if not account:
        raise Rejected("key_retired", f"{signer} was replaced by another key, or is used up")
    return str(account)


def _is_of_region(journal: Journal, sender: str) -> bool:
    """Tell whether the main chain knows a sender as a region's authority, or by its money."""
    keys = (POSTER_PREFIX + sender, ACCOUNT_PREFIX + sender)
    return any(journal.get(key) is not None for key in keys)


def nonce_of(data: bytes | None) -> int:
    """Return the last nonce that stands in the state, 0 if none."""
    return 0 if data is None else int(decode_plain(data, _NONCE_BYTES_MAX))
