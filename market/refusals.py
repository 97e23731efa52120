"""Every code with which something is refused, and what would be accepted instead.

A receipt's message says what was wrong with this one transaction; the sentences here say what right
ones are like. `docs/spec/market.md` prints the same table, and `tests/market/test_refusal_table.py`
holds it against every `revert` of the contracts and every refusal of the machine.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

ANYWHERE: Final = "all"
ADMISSION: Final = "admission"
GATE: Final = "gate"
MACHINE: Final = "machine"


class Refusal(NamedTuple):
    """A code, who refuses with it (contracts, `admission`, `gate`, `machine`, or `all`), and the
    end of the sentence "accepted would be ..."."""

    code: str
    places: tuple[str, ...]
    accepted: str


_TRADERS: Final = ("ledger", "registry", "tariff", "market", "carbon", "footprint")

REFUSALS: Final = (
    # Before a transaction runs.
    Refusal("malformed", (ADMISSION,), "the canonical encoding of one signed transaction"),
    Refusal("bad_signature", (ADMISSION,), "a signature by the key that is named as sender"),
    Refusal("wrong_chain", (ADMISSION,), "a transaction made for this chain"),
    Refusal("expired", (ADMISSION,), "the same call signed anew, valid until later than now"),
    Refusal("valid_too_long", (ADMISSION,), "a transaction valid for at most two hours from now"),
    Refusal("bad_nonce", (ADMISSION,), "a nonce above the last that the sender has used"),
    Refusal("stranger", (ADMISSION,), "a home, its meter, an authority or the regulator as sender"),
    Refusal(
        "key_retired",
        (ADMISSION,),
        "the key that took this one's place, or an invitation that is not used up",
    ),
    Refusal(
        "unknown_contract", (ADMISSION,), "a contract that there is; `commonwatt contracts list`"
    ),
    Refusal("unknown_entry", (ADMISSION,), "an entry that the contract has for transactions"),
    Refusal("bad_arguments", (ADMISSION,), "exactly the arguments that the entry takes, by name"),
    Refusal("too_many_pending", (ADMISSION,), "the same, once some of the sender's are decided"),
    Refusal("mempool_full", (ADMISSION,), "the same a few blocks later, or at another node"),
    Refusal("bad_argument", (ANYWHERE,), "an argument of the type and in the range named"),
    # Who may.
    Refusal("not_a_home", ("registry", "homes"), "the account of a registered home as sender"),
    Refusal(
        "not_a_meter",
        ("settlement",),
        "the key of a registered meter as sender, not the home's own",
    ),
    Refusal("not_regulator", _TRADERS, "the regulator as sender"),
    Refusal(
        "not_keeper",
        ("ledger", "market", "carbon"),
        "a call by the market's own contracts; there is no such transaction",
    ),
    # Keys and invitations.
    Refusal("not_holder", ("registry",), "the key whose place is offered, or the regulator"),
    Refusal("key_in_use", ("registry",), "a key made for this, that was nothing here before"),
    Refusal("not_offered", ("registry",), "the key that a place is offered to as sender"),
    Refusal("no_invite", ("registry",), "an invitation that is open, once"),
    Refusal("invite_expired", ("registry",), "an invitation before it has run out"),
    Refusal(
        "too_many_invites", ("registry",), "one when others are used, taken back or have run out"
    ),
    Refusal("no_own_key", ("governance",), "a home whose first key was never replaced"),
    # Orders, requests, offers.
    Refusal("unanchored", ("homes",), "the same once the main chain has anchored more again"),
    Refusal(
        "wrong_mechanism",
        ("market", "requests"),
        "orders where the market clears rounds, requests and offers where it is by request_offer",
    ),
    Refusal(
        "gate_closed", ("market", "requests"), "a slot, or a request, whose gate is still open"
    ),
    Refusal("slot_too_far", ("market", "requests"), "a slot within the horizon that is named"),
    Refusal(
        "bad_price", ("market", "requests"), "a whole price from 1 micro per kWh to the band's end"
    ),
    Refusal(
        "wrong_role", ("market", "requests"), "a sale by a prosumer, a producer or a speculator"
    ),
    Refusal(
        "over_capability",
        ("market", "requests"),
        "at most what the meter is certified for in a slot, with what is pending already",
    ),
    Refusal(
        "other_side",
        ("market",),
        "orders of one side in a slot: withdraw those of the other side first",
    ),
    Refusal(
        "too_many_orders",
        ("market", "requests", "carbon"),
        "another once the home has withdrawn one of those that stand",
    ),
    Refusal(
        "slot_full",
        ("market", "requests"),
        "an order for another slot; an offer, or a request, once others are closed or withdrawn",
    ),
    Refusal("too_many_unfinished", ("homes",), "another once some of the home's slots are settled"),
    Refusal(
        "default_rate", ("homes",), "orders again once the slots not kept have left the record"
    ),
    Refusal(
        "unknown_order",
        ("market", "requests", "carbon"),
        "the number of an order, request or offer that stands, and is one's own to withdraw",
    ),
    # Sealed orders.
    Refusal(
        "sealed_market",
        ("market",),
        "sealed.commit_order before the gate, sealed.reveal_order after it; no rounds before it",
    ),
    Refusal(
        "already_committed", ("sealed",), "one commitment of a home in a slot; withdraw the other"
    ),
    Refusal("no_commitment", ("sealed",), "a slot in which the home has committed, once"),
    Refusal("gate_closed", ("sealed",), "a withdrawal before the gate; after it, what reveals it"),
    Refusal("slot_full", ("sealed",), "a commitment for another slot"),
    Refusal("too_early", ("sealed",), "the same once a block is past the slot's gate"),
    Refusal("too_late", ("sealed",), "what reveals a commitment within reveal_ms after its gate"),
    Refusal("wrong_reveal", ("sealed",), "the orders that were committed to, with their salt"),
    Refusal("over_commitment", ("sealed",), "orders that need no more margin than was put aside"),
    Refusal("not_keeper", ("sealed",), "nothing by transaction: only the registry does this"),
    # Money.
    Refusal(
        "no_margin", ("ledger",), "a smaller order, or a balance that covers the margin it needs"
    ),
    Refusal(
        "open_default", ("ledger",), "the same once the arrears are paid, by ledger.pay_arrears"
    ),
    Refusal("no_money", ("ledger",), "an amount that the balance covers"),
    Refusal("unknown_account", ("ledger",), "an account that there is; minting to it opens one"),
    Refusal(
        "unbalanced", ("ledger",), "nothing of the sender's: the market's contracts have a bug"
    ),
    # Readings and tables.
    Refusal("too_early", ("settlement",), "the reading once its slot has ended"),
    Refusal(
        "too_early",
        ("requests",),
        "an interval from the first slot on in which the home is metered",
    ),
    Refusal("too_late", ("settlement",), "a reading within the settlement window after its slot"),
    Refusal("too_late", ("tariff",), "a table from a slot on that has neither begun nor any order"),
    Refusal("already_settled", ("settlement",), "readings of slots that are not settled yet"),
    Refusal("already_read", ("settlement",), "one reading of a home and slot, the first"),
    Refusal(
        "out_of_order", ("settlement",), "a sequence number above the last that the meter has used"
    ),
    Refusal(
        "implausible", ("settlement",), "at most 110 % of what the meter is certified for in a slot"
    ),
    Refusal(
        "too_many_rows", ("tariff", "market"), "fewer dated rows, or more once old ones are past"
    ),
    # The registry.
    Refusal("duplicate_home", ("registry",), "an account and a meter that are not registered yet"),
    Refusal(
        "has_left",
        ("homes",),
        "a home, or a slot of it, before it left; who comes back asks with a key of its own anew",
    ),
    Refusal("too_many_homes", ("registry",), "at most 5,000 homes in a region"),
    # Carbon.
    Refusal(
        "no_quota", ("carbon",), "an offer of at most the quota that is not sold or offered yet"
    ),
    Refusal(
        "unknown_period",
        ("carbon", "footprint"),
        "a period that is kept; the contract's `periods` lists them",
    ),
    Refusal("closed", ("carbon",), "a period that is still open"),
    Refusal("too_many_periods", ("carbon", "footprint"), "another once the oldest period is over"),
    # Governance.
    Refusal("not_authority", ("governance",), "an authority as sender"),
    Refusal("convicted", ("governance",), "an account that never broke the rules of agreement"),
    Refusal("already_standing", ("governance",), "`stand` once, by who has no seat"),
    Refusal("not_candidate", ("governance",), "one who stands for a seat: `stand` comes first"),
    Refusal("no_bond", ("governance",), "a balance that covers the bond"),
    Refusal("unknown_parameter", ("governance",), "one of the parameters that are named"),
    Refusal("no_change", ("governance",), "a value, or a seat, that is not so already"),
    Refusal("misfit", ("governance",), "a value that fits the parameters that are named with it"),
    Refusal("too_few_seats", ("governance",), "a removal that leaves at least 4 seats"),
    Refusal("too_many_seats", ("governance",), "an addition up to 32 seats"),
    Refusal("too_many_proposals", ("governance",), "another once one of the open ones has ended"),
    Refusal("already_proposed", ("governance",), "a vote on the proposal that asks for the same"),
    Refusal("unknown_proposal", ("governance",), "the number of a proposal; `commonwatt gov list`"),
    Refusal("closed", ("governance",), "a vote on a proposal that is open"),
    Refusal("already_voted", ("governance",), "one vote of each authority on a proposal"),
    Refusal(
        "not_chain",
        ("governance", "export"),
        "nothing by transaction: only blocks themselves do this",
    ),
    Refusal("already_convicted", ("governance",), "an offence that is not known yet"),
    Refusal(
        "bad_upload", ("governance",), "all parts in order, then propose_code with their SHA-256"
    ),
    # The second tier: regions on the main chain.
    Refusal("unknown_region", ("regions",), "the number of a region that is registered"),
    Refusal("duplicate_region", ("regions",), "a number and a chain that no other region has"),
    Refusal("not_sponsor", ("regions",), "the account that registered the region as sender"),
    Refusal("not_sponsor", ("override",), "the region's sponsor or a main authority as sender"),
    Refusal(
        "not_keeper",
        ("regions", "anchor", "audit", "exchange", "export", "footprint"),
        "a call by another contract of the chain; there is no such transaction",
    ),
    Refusal("not_authority", ("regions", "override"), "an authority of the main chain as sender"),
    Refusal("already_voted", ("regions",), "one approval of each authority for a region"),
    Refusal("already_voted", ("override",), "one approval of each authority for a successor"),
    Refusal("no_possession", ("regions",), "a signature by each key over this chain and genesis"),
    Refusal(
        "wrong_status",
        ("regions", "exchange", "override"),
        "the same for a region of the status that is named",
    ),
    Refusal("no_escrow", ("regions",), "at most what the region's escrow holds"),
    Refusal("too_early", ("regions",), "the same once the time of holding is over"),
    Refusal("too_far_ahead", ("regions",), "a set once a checkpoint of a later epoch is anchored"),
    Refusal("not_the_last", ("regions",), "the last header of the epoch whose set is the newest"),
    Refusal("bad_set", ("regions", MACHINE), "4 to 24 different public keys in their order"),
    Refusal(
        "stale_set",
        ("regions", "anchor", MACHINE),
        "a header of the set that is registered for its epoch, of the heights of that epoch",
    ),
    Refusal("wrong_chain", ("anchor", MACHINE), "what the region's own chain has certified"),
    Refusal("malformed", (MACHINE,), "the canonical encoding in hexadecimal, in small letters"),
    Refusal("malformed", ("exchange",), "an outbox entry as the contract export writes it"),
    Refusal("oversized", (MACHINE,), "what is not longer than the bytes named"),
    Refusal(
        "bad_certificate",
        (MACHINE,),
        "distinct good signatures of a quorum of the registered set, over this header",
    ),
    Refusal("not_proven", (MACHINE,), "a record that the certified state root holds"),
    Refusal("no_evidence", (MACHINE,), "certificates of one set for two blocks at one height"),
    Refusal("already_anchored", ("anchor", "export"), "the one after what is known as anchored"),
    Refusal("gap", ("anchor",), "the next checkpoint, from the next height on"),
    Refusal("fork", ("anchor", "export"), "a record that continues the ones that are anchored"),
    Refusal("old_header", ("export",), "a header of the main chain later than the one known here"),
    Refusal("unknown_header", ("export",), "the height of a header that was shown here lately"),
    Refusal("forgotten", ("export",), "one of the last 64 records, which are kept"),
    Refusal("settled_twice", ("anchor",), "each slot of a region in one checkpoint, once"),
    Refusal("unbalanced", ("anchor",), "slots whose energy and money balance with the grid legs"),
    Refusal("went_back", ("anchor",), "counts and sums that never become smaller"),
    Refusal("negative", ("anchor",), "a region that has not redeemed more than was minted"),
    Refusal("old_header", ("override",), "a header of the region later than the one known here"),
    Refusal("no_stop", ("override",), "the last header first that the region has certified"),
    Refusal("other_stop", ("override",), "a successor of the last block that was shown"),
    Refusal("not_anchored", ("override",), "the same once all that the region closed is anchored"),
    Refusal("not_audited", ("override",), "the same once the region's last record is audited"),
    Refusal("no_proposal", ("override",), "a vote on a successor that is proposed"),
    Refusal("other_proposal", ("override",), "the hash of the genesis that is proposed"),
    # Audit.
    Refusal("no_duty", ("audit",), "the record that is to be audited, once it is drawn for"),
    Refusal("not_auditor", ("audit",), "one of the auditors that were drawn as sender"),
    Refusal("already_audited", ("audit",), "one answer of each auditor to a record"),
    Refusal("case_open", ("audit",), "one accusation of each sender at a time"),
    Refusal("case_open", ("override",), "the same once the region is accused of nothing"),
    Refusal("no_case", ("audit",), "an accusation first, then its proof"),
    Refusal("not_shown", (MACHINE,), "all parts of the proof whose digest was named"),
    # Trade across regions.
    Refusal("no_exchange", ("exchange",), "a main chain whose genesis has an exchange"),
    Refusal("unknown_checkpoint", ("exchange",), "one of the last 64 that are anchored"),
    Refusal("wrong_slot", ("exchange",), "an offer of a region whose slots are as long as here"),
    Refusal("too_late", ("exchange",), "an offer for a slot that is not closed yet"),
    Refusal("slot_too_far", ("exchange",), "an offer for a slot at most 192 ahead"),
    Refusal("already_offered", ("exchange",), "one offer of each region for a slot"),
    Refusal("not_traded", ("exchange",), "slots settled on what the exchange made of them"),
    Refusal("unknown_offer", ("export",), "a slot of which the region has offered something"),
    Refusal("already_claimed", ("export",), "one end of each offer"),
    Refusal("already_refunded", ("export",), "either a claim or a refund of each offer"),
    Refusal("bad_result", ("export",), "a result within the steps that were offered"),
    Refusal("too_early", ("export",), "a refund once the exchange has closed the slot"),
    Refusal("too_late", ("export",), "a refund while the exchange keeps what came of the slot"),
    # The deploy gate, its type checker, and what puts code in force.
    Refusal("name", (GATE,), "plain ASCII names that are not taken and mean something here"),
    Refusal("too_many", (GATE,), "fewer contracts or libraries"),
    Refusal("source_size", (GATE, "governance"), "a text of at most the characters named"),
    Refusal("syntax", (GATE,), "the part of Starlark that docs/spec/market.md names"),
    Refusal("nesting", (GATE,), "expressions that nest less deep"),
    Refusal("library", (GATE,), "LIBRARIES of names that there are; libraries without entries"),
    Refusal("redefined", (GATE,), "one meaning for each name"),
    Refusal("top_level", (GATE,), "functions and literal constants outside of functions"),
    Refusal("exports", (GATE,), "EXPORTS that name functions of the text, each with its kind"),
    Refusal("function_size", (GATE,), "functions of fewer lines: divide the long one"),
    Refusal("function_value", (GATE,), "functions that are only called, by their names"),
    Refusal("recursion", (GATE,), "functions that do not call themselves, not even in a circle"),
    Refusal("literal", (GATE,), "integers, texts and booleans of the size named; no floats"),
    Refusal("tuple", (GATE,), "a list in the tuple's place"),
    Refusal("method", (GATE,), "one of the methods that contracts have, called at once"),
    Refusal("load", (GATE,), "a text that the engine loads"),
    Refusal("types", (GATE,), "what the sentence names, at its line"),
    Refusal("library_changed", (GATE,), "a new proposal, judged with the libraries as they are"),
    Refusal("needed", (GATE,), "code with every entry that the chain itself calls"),
    Refusal("terms", (GATE,), "a governance that names authorities and parameters for each epoch"),
    Refusal("busy", (GATE, "audit"), "the same in a later block"),
    Refusal("not_governance", (GATE,), "code by a vote: governance.propose_code"),
    Refusal("law", (MACHINE,), "a call that keeps the conservation laws"),
    # While it runs.
    Refusal("compute", (MACHINE,), "a smaller call: one that ends within its gas"),
    Refusal("storage", (MACHINE,), "a call that leaves less in the state"),
    Refusal("contract_fault", (MACHINE,), "nothing else by the sender: the contract has a bug"),
    Refusal("not_plain", (MACHINE,), "a contract that hands over plain values of bounded size"),
    Refusal("call_depth", (MACHINE,), "contracts that call each other less deep"),
    Refusal("bad_key", (MACHINE,), "a contract that names its keys by short ASCII text"),
    Refusal("bad_name", (MACHINE,), "a contract that names entries and events by ASCII text"),
    Refusal("bad_text", (MACHINE,), "a contract that hashes text"),
    Refusal("bad_message", (MACHINE,), "a contract that refuses with a text"),
    Refusal("value_size", (MACHINE,), "a call that keeps less under one key"),
    Refusal("batch_size", (MACHINE,), "a call that touches fewer keys at once"),
    Refusal("event_size", (MACHINE,), "a call with smaller events"),
    Refusal("event_count", (MACHINE,), "a call with fewer events"),
)

_BY_CODE: Final[Mapping[str, tuple[Refusal, ...]]] = {
    code: tuple(row for row in REFUSALS if row.code == code)
    for code in dict.fromkeys(row.code for row in REFUSALS)
}


def refusals_of(code: str) -> tuple[Refusal, ...]:
    """Return the rows of a code; empty for one that this program does not know."""
    return _BY_CODE.get(code, ())


def accepted(code: str, contract: str = "") -> str:
    """Say what would be accepted, where a transaction to `contract` is refused with `code`.

    Empty for a code that this program does not know: a contract that came later may have its own.
    """
    rows = refusals_of(code)
    if not rows:
        return ""
    # What a contract calls on its way may refuse too: then any row of the code is about it.
    own = [row for row in rows if contract in row.places]
    return (own or rows)[0].accepted
