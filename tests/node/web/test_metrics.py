"""Prometheus' text format, of values that are not nice."""

from node.web.metrics import Sample, family


def test_a_family_has_its_meaning_and_its_samples() -> None:
    samples = [Sample(3, {"chain": "a"}), Sample(0.25, {"chain": "b"})]
    assert family("height", "gauge", "How high.", samples) == [
        "# HELP commonwatt_height How high.",
        "# TYPE commonwatt_height gauge",
        'commonwatt_height{chain="a"} 3',
        'commonwatt_height{chain="b"} 0.25',
    ]
    assert family("height", "gauge", "How high.", []) == []


def test_names_from_elsewhere_cannot_break_a_line() -> None:
    evil = 'a"} 1\ncommonwatt_height{chain="\\'
    (line,) = family("x", "gauge", "X.", [Sample(1, {"name": evil})])[2:]
    assert line == r'commonwatt_x{name="a\"} 1\ncommonwatt_height{chain=\"\\"} 1'


def test_large_numbers_keep_their_digits() -> None:
    (line,) = family("x", "gauge", "X.", [Sample(1_763_764_219_123)])[2:]
    assert line == "commonwatt_x 1763764219123"
