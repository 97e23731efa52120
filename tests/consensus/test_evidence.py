"""R25: offences are found, proved, and only real ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus import events
from consensus.errors import EvidenceRefused
from consensus.evidence import (
    check_evidence,
    conflicting_certificates,
    duplicate_proposal,
    duplicate_vote,
)
from consensus.messages import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    ConflictingCertificates,
    DuplicateProposal,
    DuplicateVote,
    claim_of,
)
from tests.consensus.table import CHAIN_ID, NOW_MS, Table, hash_of, only
from tests.sim import keys

TABLE = Table()
ONE, OTHER = TABLE.block(), TABLE.block(time_ms=NOW_MS + 1)


def check(evidence):
    return check_evidence(evidence, TABLE.authorities, CHAIN_ID, keys.verify)


def two_votes(kind=PREVOTE):
    return duplicate_vote(TABLE.vote(kind, 2, hash_of(ONE)), TABLE.vote(kind, 2, NIL))


def two_proposals():
    claims = [claim_of(TABLE.proposal(block), hash_of(block)) for block in (ONE, OTHER)]
    return duplicate_proposal(*claims)


def two_certificates(round_=0):
    return conflicting_certificates(
        TABLE.certificate(PRECOMMIT, hash_of(ONE), 0, (0, 1, 2)),
        TABLE.certificate(PRECOMMIT, hash_of(OTHER), round_, (1, 2, 3)),
    )


def test_r25_a_double_vote_is_reported_once():
    table = Table()
    table.handle(events.BeginRounds(1))
    reports = []
    for filler in (1, 2, 3):
        effects = table.hear(table.vote(PREVOTE, 2, bytes([filler] * 32)), 2)
        reports += only(effects, events.ReportEvidence)
    assert len(reports) == 1
    assert check(reports[0].evidence).offenders == (table.publics[2],)


def test_r25_a_double_proposal_is_reported_once():
    table = Table()
    table.hear(table.proposal(ONE))
    reports = only(table.hear(table.proposal(OTHER)), events.ReportEvidence)
    third = table.block(time_ms=NOW_MS + 2)
    reports += only(table.hear(table.proposal(third)), events.ReportEvidence)
    assert len(reports) == 1
    assert check(reports[0].evidence).offenders == (table.publics[1],)


def test_r25_the_second_proposals_block_may_still_be_decided():
    table = Table()
    table.hear_proposal(ONE)
    table.hear_proposal(OTHER)
    effects = table.hear_votes(PRECOMMIT, hash_of(OTHER))
    assert only(effects, events.Decide)[0].block == OTHER


def test_r25_two_decisions_are_the_end_and_proved():
    table = Table()
    table.lock(ONE)
    table.hear_votes(PRECOMMIT, hash_of(ONE))
    (report,) = only(table.hear(table.decided(OTHER)), events.ReportEvidence)
    assert isinstance(report.evidence, ConflictingCertificates)
    assert len(check(report.evidence).offenders) == 2
    assert not table.hear(table.decided(ONE))


def test_offenders_of_one_round_are_those_in_both_certificates():
    assert check(two_certificates()).offenders == TABLE.publics[1:3]
    assert check(two_certificates(round_=1)).offenders == ()


def test_each_offence_has_an_identity_of_its_own():
    offences = [two_votes(), two_proposals(), two_certificates()]
    assert len({check(evidence).id for evidence in offences}) == len(offences)
    # A height is decided twice, by whichever rounds.
    assert check(two_certificates(round_=1)).id == check(two_certificates()).id


@pytest.mark.parametrize("evidence", [two_votes(), two_proposals(), two_certificates()])
def test_an_offence_has_one_order(evidence):
    assert check(evidence).height == 1
    swapped = replace(evidence, first=evidence.second, second=evidence.first)
    with pytest.raises(EvidenceRefused, match="order"):
        check(swapped)
    same = replace(evidence, second=evidence.first)
    with pytest.raises(EvidenceRefused, match="agree"):
        check(same)


def test_different_offences_have_different_identities():
    offences = [two_votes(), two_votes(PRECOMMIT), two_proposals(), two_certificates()]
    assert len({check(evidence).id for evidence in offences}) == len(offences)


@given(
    field=st.sampled_from(["height", "round", "epoch", "voter", "kind", "signature", "block_hash"]),
    which=st.sampled_from(["first", "second"]),
    number=st.integers(min_value=3, max_value=60),
)
def test_twisted_votes_convict_nobody(field, which, number):
    evidence = two_votes()
    value = {
        "signature": bytes([number]) * 64,
        "block_hash": bytes([number]) * 32,
        "kind": PRECOMMIT,
    }.get(field, number)
    twisted = replace(evidence, **{which: replace(getattr(evidence, which), **{field: value})})
    with pytest.raises(EvidenceRefused):
        check(twisted)


@given(
    field=st.sampled_from(["height", "round", "epoch", "proposer", "signature", "valid_round"]),
    which=st.sampled_from(["first", "second"]),
    number=st.integers(min_value=3, max_value=60),
)
def test_twisted_proposals_convict_nobody(field, which, number):
    evidence = two_proposals()
    value = bytes([number]) * 64 if field == "signature" else number
    twisted = replace(evidence, **{which: replace(getattr(evidence, which), **{field: value})})
    with pytest.raises(EvidenceRefused):
        check(twisted)


def test_prevotes_of_two_kinds_or_rounds_are_no_offence():
    mixed = DuplicateVote(TABLE.vote(PREVOTE, 2, NIL), TABLE.vote(PRECOMMIT, 2, hash_of(ONE)))
    rounds = DuplicateVote(TABLE.vote(PREVOTE, 2, NIL), TABLE.vote(PREVOTE, 2, hash_of(ONE), 1))
    claims = [
        claim_of(TABLE.proposal(ONE, 0), hash_of(ONE)),
        claim_of(TABLE.proposal(OTHER, 4), hash_of(OTHER)),
    ]
    turns = DuplicateProposal(*sorted(claims, key=lambda claim: claim.block_hash))
    for evidence in (mixed, rounds, turns):
        with pytest.raises(EvidenceRefused):
            check(evidence)
