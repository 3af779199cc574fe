"""A list is read while it arrives, and says the same as if it had been read whole."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.kube import listing
from rayproxy.kube.listing import Listing

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    """Cut at these places, as a network would: no chunk is empty, since that ends an answer."""
    places = [0, *sorted({cut % (len(raw) + 1) for cut in cuts}), len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(places) if a < b]


@given(
    st.lists(VALUES, max_size=6),
    st.dictionaries(st.text(max_size=4), VALUES, max_size=3),
    st.permutations(["items", "metadata", "kind"]),
    st.booleans(),
    st.lists(st.integers(0, 10**6), max_size=8),
)
def test_any_list_in_any_pieces_reads_as_the_standard_decoder_reads_it(items, metadata, order, ascii_only, cuts):
    whole = {"items": items, "metadata": metadata, "kind": "RayServiceList"}
    raw = json.dumps({name: whole[name] for name in order}, ensure_ascii=ascii_only, indent=1).encode(
        "utf-8", "surrogatepass" if ascii_only else "replace"
    )
    found = Listing(pieces(raw, cuts))
    assert list(found) == json.loads(raw)["items"]
    assert found.metadata == json.loads(raw)["metadata"]


@pytest.mark.parametrize("number", ["-0.0", "1.5", "1e5", "2E-7", "3.25e+10", "12"])
def test_a_number_is_whole_wherever_a_piece_ends(number: str):
    raw = f'{{"items": [{number}, {number}], "metadata": {{}}}}'.encode()
    for cut in range(len(raw)):
        assert list(Listing(pieces(raw, [cut]))) == [json.loads(number)] * 2, cut


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_bytes_that_are_no_list_are_an_error_and_never_emptiness(raw: bytes, cuts):
    with pytest.raises((ValueError, RecursionError)):
        list(Listing(pieces(raw, cuts)))


@given(st.integers(0, 10**6))
def test_a_list_that_breaks_off_anywhere_is_an_error(cut: int):
    raw = json.dumps({"metadata": {"resourceVersion": "7"}, "items": [{"a": 12}, {"b": [1, 2]}]}).encode()
    with pytest.raises(ValueError, match=r"."):
        list(Listing(pieces(raw[: cut % len(raw)], [])))


@pytest.mark.parametrize(
    "text",
    [
        '{"metadata":{}}',
        '{"items":[]}',
        '{"kind":"Status","metadata":{},"status":"Success"}',
        '{"metadata":{},"items":{}}',
        '{"metadata":{},"items":5}',
        '{"metadata":{},"items":[{},]}',
        '{"metadata":{},"items":[{}]]',
        '{"metadata":{},"items":[{}]}{}',
        '{"metadata":{},"items":[{}],"items":[]}',
        '{"metadata":[],"items":[]}',
        '{"metadata":{},"items":[}',
        '{[]:0,"metadata":{},"items":[]}',
        '{{}:0,"metadata":{},"items":[]}',
        '{5:0,"metadata":{},"items":[]}',
    ],
)
def test_what_is_almost_a_list_is_an_error(text: str):
    with pytest.raises(ValueError, match=r"."):
        list(Listing([text.encode()]))


@pytest.mark.parametrize(
    "deep", ["[" * 100_000 + "]" * 100_000, '{"a]":[' * 100_000 + '"\\"}"' + "]}" * 100_000], ids=["lists", "mappings"]
)
@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_an_object_that_nests_too_deep_for_the_decoder_is_none_and_takes_no_other_with_it(deep: str, piece: int):
    """A CRD may keep whatever is in an object, and the API server takes a depth of 10,000."""
    raw = f'{{"items": [{{"a": 1}}, {deep} , {{"b": "]"}}], "metadata": {{"resourceVersion": "7"}}}}'.encode()
    found = Listing(pieces(raw, list(range(0, len(raw), piece))))
    assert list(found) == [{"a": 1}, None, {"b": "]"}]
    assert found.metadata == {"resourceVersion": "7"}


@pytest.mark.parametrize("cut", ["[" * 100_000, "[" * 100_000 + '"]', "[" * 100_000 + "]" * 99_999])
def test_an_object_that_nests_too_deep_and_breaks_off_is_an_error(cut: str):
    with pytest.raises(ValueError, match=r"."):
        list(Listing([f'{{"metadata": {{}}, "items": [{cut}'.encode()]))


def test_a_list_that_was_never_made_is_null_and_empty():
    assert list(Listing([b'{"items": nu', b'll, "metadata": {}}'])) == []


def test_a_value_without_an_end_is_given_up():
    def endless():
        yield b'{"items": ["'
        while True:
            yield b"x" * listing.PIECE

    with pytest.raises(ValueError, match="one value has more than"):
        list(Listing(endless()))


def test_a_large_value_in_small_pieces_is_not_read_again_with_each_of_them(monkeypatch: pytest.MonkeyPatch):
    read = 0
    decode = json.JSONDecoder().raw_decode

    def counted(text: str, place: int) -> tuple[object, int]:
        nonlocal read
        read += len(text) - place
        return decode(text, place)

    monkeypatch.setattr(listing, "_decode", counted)
    raw = json.dumps({"metadata": {}, "items": ["x" * 4_000_000]}).encode()
    assert len(list(Listing(raw[at : at + 1000] for at in range(0, len(raw), 1000)))) == 1
    assert read < 4 * len(raw)
