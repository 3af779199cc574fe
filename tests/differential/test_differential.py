"""What passes the door passes unchanged: each difference from a direct call is known, and has a reason."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import Phase

from tests.differential import golden, reasons
from tests.differential.compare import Difference
from tests.differential.exchange import Case
from tests.differential.generated import answers, asks
from tests.differential.observe import Differ
from tests.differential.recorder import Recorder
from tests.differential.ways import FETCH, image_nginx, version, ways
from tests.support.examples import times
from tests.support.raw import NGINX

# No `explain`: it takes minutes over a case that takes eight exchanges.
SETTINGS = hypothesis.settings(
    max_examples=times(500), phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
)


@pytest.fixture(scope="module", params=["installed", "of the image"])
def nginx(request) -> str:
    """Return an nginx that there are golden files for."""
    binary = NGINX
    if request.param != "installed":
        try:
            binary = image_nginx()
        except subprocess.CalledProcessError:
            pytest.skip(
                f"the image's nginx cannot be fetched: {FETCH.name} says why, on stderr; it needs a Debian mirror"
            )
    if not golden.has(version(binary)):
        pytest.skip(f"there are no golden files for nginx {version(binary)}: `make golden` with it writes them")
    return binary


@pytest.fixture(scope="module")
def differ(nginx: str) -> Iterator[Differ]:
    """Return what sends a case every way."""
    recorder = Recorder()
    with ways(nginx, recorder) as all_ways:
        yield Differ(recorder, all_ways)
    recorder.close()


@pytest.mark.slow
@pytest.mark.parametrize("title", golden.TABLES)
def test_direct_and_through_the_door_differ_as_the_golden_file_says_and_not_otherwise(differ, nginx, title):
    found, known = golden.observed(title, differ), golden.expected(title, version(nginx))
    assert found.keys() == known.keys()
    for heading, lines in found.items():
        changes = difflib.unified_diff(known[heading], lines, "golden", "now", lineterm="", n=0)
        assert lines == known[heading], "\n".join([heading, *changes])


@pytest.mark.slow
@SETTINGS
@hypothesis.given(case=asks())
def test_whatever_becomes_of_a_request_has_a_reason(differ, case):
    assert _without_reason(differ, case) == []


@pytest.mark.slow
@SETTINGS
@hypothesis.given(case=answers())
def test_whatever_becomes_of_an_answer_has_a_reason(differ, case):
    assert _without_reason(differ, case) == []


def _without_reason(differ: Differ, case: Case) -> list[tuple[str, Difference]]:
    return [
        (way, difference)
        for way, found in differ.differences(case).items()
        for difference in found
        if not reasons.reason(difference.kind, way)
    ]
