"""What pytest needs of the tests' files."""

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_no_two_test_modules_have_one_name():
    """Of two that do, in folders that are no packages, pytest runs one alone."""
    found = Counter(path.name for path in TESTS.rglob("test_*.py") if "serving" not in path.parts)
    assert [name for name, times in found.items() if times > 1] == []
