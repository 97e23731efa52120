"""State and journal against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from market.vm.journal import Journal, State, effective, load

keys = st.lists(st.sampled_from(["a", "b", "cc", "a-", "z"]), min_size=1, max_size=3).map("/".join)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.binary(max_size=3)),
        st.tuples(st.just("del"), keys, st.just(b"")),
        st.tuples(st.just("mark"), st.just(""), st.just(b"")),
        st.tuples(st.just("back"), st.just(""), st.just(b"")),
    ),
    max_size=40,
)


def under(model: dict[str, bytes], prefix: str) -> list[str]:
    return sorted(key for key in model if key.startswith(prefix))


@given(st.dictionaries(keys, st.binary(max_size=3), max_size=12), operations)
def test_journal_is_a_dictionary_with_marks(start: dict[str, bytes], steps: list) -> None:
    state = load(start.items())
    journal = Journal(state)
    model = dict(start)
    marks: list[tuple[int, dict[str, bytes]]] = []
    for kind, key, value in steps:
        if kind == "put":
            journal.put(key, value)
            model[key] = value
        elif kind == "del":
            journal.put(key, None)
            model.pop(key, None)
        elif kind == "mark":
            marks.append((journal.mark(), dict(model)))
        elif marks:
            mark, model = marks.pop()
            journal.rollback(mark)
        for prefix in ("", "a/", "cc/", "a/b/"):
            assert journal.keys_under(prefix) == under(model, prefix)
        for known in [*start, key]:
            assert journal.get(known) == model.get(known)
    assert state.items == start
    state.apply(effective(state, journal.writes))
    assert state.items == model
    for prefix in ("", "a/", "z/", "a-/"):
        assert sorted(state.keys_under(prefix)) == under(model, prefix)


def test_effective_leaves_out_what_changes_nothing() -> None:
    state = load([("a", b"1"), ("b", b"2")])
    assert effective(state, {"c": None, "b": b"2", "a": b"3"}) == {"a": b"3"}


def test_empty_folders_are_forgotten() -> None:
    state = State()
    state.apply({f"a/{i}/b/c": b"x" for i in range(50)})
    state.apply({f"a/{i}/b/c": None for i in range(50)})
    assert len(state._folders) == 1


def test_what_was_there_before_some_writes() -> None:
    journal = Journal(load([("a", b"1"), ("b", b"1"), ("c", b"1")]))
    journal.put("a", b"2")
    journal.put("b", b"2")
    journal.put("d", b"2")
    journal.settle()
    mark = journal.mark()
    journal.put("b", b"3")
    journal.put("b", b"4")
    journal.put("c", None)
    journal.put("e", b"3")
    before, writes = journal.since(mark)
    assert writes == {"b": b"4", "c": None, "e": b"3"}
    # Also of what an earlier call of the block wrote and this one did not.
    assert [before.get(key) for key in "abcdef"] == [b"2", b"2", b"1", b"2", None, None]
    assert "d" in before.items
    assert "e" not in before.items
