"""Denormal numbers are zero inside, and what they were outside, whatever happens."""

import sys

import pytest

from pilothouse.router.denormals import as_zero


def denormals() -> bool:
    return sys.float_info.min / 2 > 0.0


def test_they_are_zero_inside_and_not_after() -> None:
    assert denormals()
    with as_zero():
        assert not denormals()
        with as_zero():
            assert not denormals()
        assert not denormals()  # the inner one leaves the outer one's mode
    assert denormals()


def test_a_failure_puts_the_mode_back() -> None:
    @as_zero()
    def fails() -> None:
        assert not denormals()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert denormals()
