"""A key is replaced by its holder or the regulator, and refused from then on; invitations."""

import pytest

from market import client
from market.client import Call
from market.receipts import Receipt
from tests.market.street import HOME_KEYS, HOUR_MS, METER_KEYS, REGULATOR, SLOT, Street, params
from wire.keys import SigningKey
from wire.transaction import Refused

HOME = HOME_KEYS[0]
METER = METER_KEYS[0]
NEW = SigningKey(bytes([100]) * 32)
NEWER = SigningKey(bytes([101]) * 32)
DOOR = SigningKey(bytes([102]) * 32)
ORDER = client.post_order(SLOT, "buy", 500, 100_000)


def send(street: Street, key: SigningKey, call: Call) -> Receipt:
    return street.block([street.sign(key, call)]).receipts[0]


def done(street: Street, key: SigningKey, call: Call) -> None:
    receipt = send(street, key, call)
    assert receipt.code == "ok", receipt


def refused(street: Street, key: SigningKey, call: Call) -> str:
    receipt = send(street, key, call)
    assert receipt.code != "ok"
    return receipt.reason


def rotated(old: SigningKey = HOME, new: SigningKey = NEW) -> Street:
    street = Street(params())
    done(street, old, client.offer_key(HOME.address, "account", new.address))
    done(street, new, client.take_key())
    return street


# -- accounts


def test_a_new_key_speaks_for_the_account_and_the_old_one_for_nobody() -> None:
    street = Street(params())
    done(street, HOME, ORDER)
    before = client.account(street.query, HOME.address)
    done(street, HOME, client.offer_key(HOME.address, "account", NEW.address))
    # Until it is taken the old key goes on.
    done(street, HOME, client.post_order(SLOT + 1, "buy", 500, 100_000))
    done(street, NEW, client.take_key())
    found = client.home(street.query, HOME.address)
    assert (found.address, found.key, found.offers) == (HOME.address, NEW.address, {})
    assert refused(street, HOME, ORDER) == "key_retired"
    with pytest.raises(Refused, match="was replaced by another key"):
        street.app.check(street.sign(HOME, ORDER))
    street.app.check(street.sign(NEW, client.leave()))
    withdrawn = client.withdraw_order(client.order_book(street.query, SLOT)[0].order_id)
    done(street, NEW, withdrawn)
    done(street, NEW, client.withdraw_order(client.order_book(street.query, SLOT + 1)[0].order_id))
    after = client.account(street.query, HOME.address)
    assert after.balance_micro == before.balance_micro + before.held_micro
    assert after.held_micro == 0


def test_what_the_new_key_does_is_the_accounts() -> None:
    street = rotated()
    done(street, NEW, ORDER)
    assert [order.home for order in client.order_book(street.query, SLOT)] == [1]
    done(street, NEW, client.transfer(HOME_KEYS[1].address, 7))
    assert client.account(street.query, HOME_KEYS[1].address).balance_micro == 10_000_007


def test_a_key_is_replaced_again_and_none_comes_back() -> None:
    street = rotated()
    done(street, NEW, client.offer_key(HOME.address, "account", NEWER.address))
    done(street, NEWER, client.take_key())
    assert [refused(street, old, ORDER) for old in (HOME, NEW)] == ["key_retired"] * 2
    done(street, NEWER, ORDER)
    for used in (HOME, NEW):
        call = client.offer_key(HOME.address, "account", used.address)
        assert refused(street, NEWER, call) == "key_in_use"


def test_a_stolen_key_is_refused_from_the_regulators_offer_on() -> None:
    street = Street(params())
    done(street, REGULATOR, client.offer_key(HOME.address, "account", NEW.address))
    assert refused(street, HOME, ORDER) == "key_retired"
    call = client.offer_key(HOME.address, "account", NEWER.address)
    assert refused(street, HOME, call) == "key_retired"
    done(street, NEW, client.take_key())
    done(street, NEW, ORDER)


def test_a_later_offer_takes_the_place_of_an_earlier() -> None:
    street = Street(params())
    done(street, HOME, client.offer_key(HOME.address, "account", NEW.address))
    done(street, HOME, client.offer_key(HOME.address, "account", NEWER.address))
    assert refused(street, NEW, client.take_key()) == "stranger"
    done(street, NEWER, client.take_key())


def test_nobody_gives_a_home_away_or_takes_it() -> None:
    street = Street(params())
    call = client.offer_key(HOME.address, "account", NEW.address)
    assert refused(street, HOME_KEYS[1], call) == "not_holder"
    assert refused(street, METER, call) == "not_holder"
    assert refused(street, NEW, client.take_key()) == "stranger"
    assert refused(street, HOME_KEYS[1], client.take_key()) == "not_offered"


@pytest.mark.parametrize("used", [HOME, METER, HOME_KEYS[1], METER_KEYS[1], REGULATOR])
def test_a_place_is_not_offered_to_a_key_that_is_something_already(used: SigningKey) -> None:
    street = Street(params())
    call = client.offer_key(HOME.address, "account", used.address)
    assert refused(street, HOME, call) == "key_in_use"


def test_a_replaced_key_and_an_offered_one_become_no_other_home() -> None:
    street = rotated()
    for address, meter in ((NEW, DOOR), (DOOR, NEW)):
        call = client.register_home(address.address, meter.address, "x", "consumer", 1, 0)
        assert refused(street, REGULATOR, call) == "duplicate_home"


def test_a_seat_is_not_stood_for_by_a_later_key() -> None:
    street = rotated()
    assert refused(street, NEW, Call("governance", "stand", {})) == "no_own_key"


# -- meters


@pytest.mark.parametrize("by", [METER, REGULATOR], ids=["the old one", "the regulator"])
def test_a_meter_is_replaced_and_the_old_one_refused(by: SigningKey) -> None:
    street = Street(params())
    done(street, by, client.offer_key(HOME.address, "meter", NEW.address))
    done(street, NEW, client.take_key())
    assert client.home(street.query, HOME.address).meter == NEW.address
    street.to_end()
    reading = client.post_reading(SLOT, 100, 0, 1)
    assert refused(street, METER, reading) == "key_retired"
    done(street, NEW, reading)


def test_a_home_does_not_replace_its_own_meter() -> None:
    street = Street(params())
    call = client.offer_key(HOME.address, "meter", NEW.address)
    assert refused(street, HOME, call) == "not_holder"


def test_a_new_meter_is_no_account() -> None:
    street = Street(params())
    done(street, METER, client.offer_key(HOME.address, "meter", NEW.address))
    done(street, NEW, client.take_key())
    assert refused(street, NEW, ORDER) == "not_a_home"


# -- invitations


def invited(days: int = 1) -> Street:
    street = Street(params())
    done(street, REGULATOR, client.invite(DOOR.address, street.time_ms + days * 24 * HOUR_MS))
    return street


def guests(street: Street) -> list[str]:
    return [key.rpartition("/")[2] for key, _ in street.app.state_items()
            if key.startswith("registry/guest/")]  # fmt: skip


def test_an_invitation_lets_one_in_once() -> None:
    street = invited()
    done(street, DOOR, client.accept_invite(NEW.address))
    assert guests(street) == [NEW.address]
    assert refused(street, DOOR, client.accept_invite(NEWER.address)) == "key_retired"
    call = client.register_home(NEW.address, NEWER.address, "new", "consumer", 1_000, 0)
    done(street, REGULATOR, call)
    assert guests(street) == []


def test_an_invitation_that_has_run_out_or_is_taken_back_is_refused() -> None:
    street = invited()
    street.time_ms += 24 * HOUR_MS + 1
    assert refused(street, DOOR, client.accept_invite(NEW.address)) == "invite_expired"
    street = invited()
    done(street, REGULATOR, client.revoke_invite(DOOR.address))
    assert refused(street, DOOR, client.accept_invite(NEW.address)) == "key_retired"
    assert refused(street, REGULATOR, client.revoke_invite(DOOR.address)) == "no_invite"
    assert guests(street) == []


def test_only_the_regulator_invites_and_for_a_bounded_time() -> None:
    street = Street(params())
    until_ms = street.time_ms + HOUR_MS
    assert refused(street, HOME, client.invite(DOOR.address, until_ms)) == "not_regulator"
    assert refused(street, HOME, client.revoke_invite(DOOR.address)) == "not_regulator"
    late = client.invite(DOOR.address, until_ms + 91 * 24 * HOUR_MS)
    assert refused(street, REGULATOR, late) == "bad_argument"
    past = client.invite(DOOR.address, street.time_ms)
    assert refused(street, REGULATOR, past) == "bad_argument"
    assert refused(street, REGULATOR, client.invite(HOME.address, until_ms)) == "key_in_use"


def test_an_invitation_is_no_home() -> None:
    street = invited()
    assert refused(street, DOOR, ORDER) == "not_a_home"
    call = client.offer_key(HOME.address, "account", NEW.address)
    assert refused(street, DOOR, call) == "not_holder"
    assert refused(street, DOOR, client.accept_invite(HOME.address)) == "key_in_use"


def test_invitations_are_bounded_and_those_that_ran_out_make_room() -> None:
    street = Street(params())
    until_ms = street.time_ms + HOUR_MS
    doors = [SigningKey(number.to_bytes(32, "big")).address for number in range(1, 258)]
    txs = [street.sign(REGULATOR, client.invite(door, until_ms)) for door in doors[:256]]
    assert {receipt.code for receipt in street.block(txs).receipts} == {"ok"}
    last = client.invite(doors[256], until_ms)
    assert refused(street, REGULATOR, last) == "too_many_invites"
    street.time_ms = until_ms + 1
    done(street, REGULATOR, client.invite(doors[256], until_ms + HOUR_MS))
    assert street.query("registry", "invites", {}) == [[doors[256], until_ms + HOUR_MS]]
