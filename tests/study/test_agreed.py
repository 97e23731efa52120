"""A day decided by authorities is the day that one process executes."""

import msgspec

from study.agreed import AgreedChain
from study.ce.day import Community
from tests.study.test_day import FLAT, PLAIN


def test_four_authorities_agree_on_the_same_day() -> None:
    setting = msgspec.structs.replace(PLAIN, users=2, share_percent=50, hours=(12, 13))
    alone = Community(setting, FLAT).live()
    community = Community(msgspec.structs.replace(setting, authorities=4), FLAT)
    assert community.live() == alone
    assert alone.trades > 0
    chain = community.chain
    assert isinstance(chain, AgreedChain)
    assert {one.app.height for one in chain.authorities} == {alone.blocks}
    proposers = [one for one in chain.authorities if one._certificate is not None]
    assert len(proposers) == 4
