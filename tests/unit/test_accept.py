"""Which changes nginx takes: found with few tests, and only the guilty ones are left out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.nginx.process import ConfigRefusedError
from rayproxy.nginx.render import file
from rayproxy.reconcile.bisect import MAX_TESTS, TooManyRefusedError, accept

ONE = 2 * math.ceil(math.log2(1000)) + 2  # tests that find one of 1,000


class Nginx:
    """Refuse the files that are bad, and pairs that collide; blame a file as nginx does where it is told to."""

    def __init__(self, bad=(), pairs=(), blames=True):
        self.bad, self.pairs, self.blames = set(bad), [set(pair) for pair in pairs], blames
        self.tests = 0

    def __call__(self, files):
        self.tests += 1
        guilty = sorted(name for name in files if name in self.bad and files[name].text == "new")
        guilty += [max(pair) for pair in self.pairs if pair <= files.keys()]
        if guilty:
            where = f" in /x/{guilty[0]}:1" if self.blames else ""
            raise ConfigRefusedError(f"something is wrong{where}")


def names(count):
    return [f"ray-m{number:04}.conf" for number in range(count)]


def run(nginx, wishes, start=()):
    live = {name: file("old") for name in start}
    return accept(nginx, live, wishes, {name: file("new") for name in wishes}, live=bool(live))


def test_what_is_good_takes_one_test():
    nginx = Nginx()
    accepted, refused = run(nginx, names(5000))
    assert (len(accepted), refused, nginx.tests) == (5000, {}, 1)


@pytest.mark.fault(31)
@pytest.mark.parametrize("blames", [True, False])
def test_one_bad_file_is_left_out_and_keeps_its_old_text(blames):
    wishes = names(1000)
    nginx = Nginx(bad=[wishes[700]], blames=blames)
    accepted, refused = run(nginx, wishes, start=[wishes[700]])
    assert list(refused) == [wishes[700]]
    assert accepted[wishes[700]].text == "old"
    assert sum(entry.text == "new" for entry in accepted.values()) == 999
    assert nginx.tests <= (3 if blames else ONE)


@pytest.mark.fault(32)
@pytest.mark.parametrize("blames", [True, False])
@pytest.mark.parametrize("where", [(3, 4), (0, 999), (499, 500)])
def test_two_bad_files_are_both_left_out(blames, where):
    wishes = names(1000)
    nginx = Nginx(bad=[wishes[index] for index in where], blames=blames)
    accepted, refused = run(nginx, wishes)
    assert sorted(refused) == [wishes[index] for index in where]
    assert len(accepted) == 998
    assert nginx.tests <= (5 if blames else 2 * ONE)


@pytest.mark.fault(32)
@pytest.mark.parametrize("blames", [True, False])
@pytest.mark.parametrize("pair", [(0, 1), (17, 900), (0, 999)])
def test_of_a_pair_that_collides_the_younger_loses(blames, pair):
    wishes = names(1000)
    nginx = Nginx(pairs=[(wishes[pair[0]], wishes[pair[1]])], blames=blames)
    accepted, refused = run(nginx, wishes)
    assert list(refused) == [wishes[pair[1]]]
    assert len(accepted) == 999
    assert nginx.tests <= ONE


def test_when_all_are_refused_the_ground_they_stand_on_is_tested():
    nginx = Nginx(bad=["ray-m0000.conf", "x"])
    nginx.bad = {"x"}
    with pytest.raises(ConfigRefusedError):
        accept(nginx, {"x": file("new")}, names(2), {name: file("new") for name in names(2)})


@pytest.mark.fault(30)
def test_a_fault_of_everything_ends_after_a_bounded_number_of_tests():
    nginx = Nginx(bad=names(5000), blames=False)
    with pytest.raises(ConfigRefusedError, match="this is no single route's fault"):
        run(nginx, names(5000))
    assert nginx.tests == MAX_TESTS


@pytest.mark.fault(151)
def test_a_fault_of_everything_says_what_was_refused_alone_and_is_none_where_a_live_route_goes():
    wishes = names(5000)
    with pytest.raises(TooManyRefusedError) as raised:
        run(Nginx(bad=wishes), wishes)
    assert list(raised.value.refused) == wishes[: len(raised.value.refused)]
    assert len(raised.value.refused) > 30
    nginx = Nginx(bad=wishes)
    accepted, refused = accept(nginx, {}, wishes, {name: file("new") for name in wishes}, live=True)
    assert not accepted
    assert refused.keys() == set(wishes)
    assert nginx.tests == MAX_TESTS


class OnePath(Nginx):
    """Refuse all new files but one in company, whichever they are: each has the same path in it."""

    def __call__(self, files):
        self.tests += 1
        if guilty := sorted(name for name in files if files[name].text == "new")[1:]:
            raise ConfigRefusedError(f"the same path in /x/{guilty[0]}:1")


@pytest.mark.fault(151)
@pytest.mark.parametrize("count", [40, 5000])
def test_when_the_tests_run_out_what_is_not_accepted_counts_as_refused_and_stays_as_it_is(count):
    wishes, nginx = names(count), OnePath()
    live = wishes[:-1]
    accepted, refused = run(nginx, wishes, start=live)
    assert nginx.tests <= MAX_TESTS
    assert accepted == {name: file("old") for name in live} | {wishes[0]: file("new")}
    assert refused.keys() == set(wishes[1:])
    assert all("the same path" in why.words for why in refused.values())
    untried = [why.words for why in refused.values() if not why.alone]
    assert 0 < len(untried) < count - 20
    assert all("before it could be tried alone" in words for words in untried)


@pytest.mark.fault(151)
@pytest.mark.parametrize("blames", [True, False])
def test_where_all_are_refused_and_what_is_live_passes_all_stay_as_they_are(blames):
    wishes = names(5000)
    nginx = Nginx(bad=wishes, blames=blames)
    accepted, refused = run(nginx, wishes, start=wishes)
    assert (accepted, len(refused)) == ({name: file("old") for name in wishes}, 5000)
    assert nginx.tests <= MAX_TESTS


def test_a_bad_ground_under_many_is_what_is_told():
    wishes = names(5000)
    nginx = Nginx(bad=["nginx.conf"])
    with pytest.raises(ConfigRefusedError, match=r"/nginx\.conf:1"):
        accept(
            nginx, {name: file("new") for name in ("nginx.conf", *wishes)}, wishes, {n: file("new") for n in wishes}
        )
    assert nginx.tests <= MAX_TESTS


@given(st.sets(st.integers(0, 29), max_size=4), st.sets(st.integers(0, 29), max_size=10), st.booleans())
def test_what_is_accepted_is_everything_but_the_bad_ones(bad, started, blames):
    wishes = names(30)
    nginx = Nginx(bad=[wishes[index] for index in bad], blames=blames)
    accepted, refused = run(nginx, wishes, start=[wishes[index] for index in started])
    assert sorted(refused) == [wishes[index] for index in sorted(bad)]
    for index, name in enumerate(wishes):
        expected = None if index in bad and index not in started else "old" if index in bad else "new"
        assert (accepted[name].text if name in accepted else None) == expected
