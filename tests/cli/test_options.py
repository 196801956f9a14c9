# SPDX-License-Identifier: MIT
"""The notation of the command line."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.cli import options


@given(st.lists(st.text().map(lambda t: t.strip(",")).filter(bool), min_size=1))
def test_commas_inside_a_part_survive_when_they_are_doubled(parts):
    assert options.split_commas(",".join(p.replace(",", ",,") for p in parts)) == parts


def test_named():
    assert options.named("via-pc") == ("via-pc", {})
    assert options.named("dice,iobase=0x300,seed=7") == ("dice", {"iobase": "0x300", "seed": "7"})
    assert options.named("x,path=a,,b=c") == ("x", {"path": "a,b=c"})
    assert options.named("dice,help") == ("dice", {"help": ""})


@pytest.mark.parametrize("text", ["", ",a=1", "a=1", "x,a", "x,=1", "x,a=1,a=2", "x,"])
def test_named_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError):
        options.named(text)


def test_size_of_a_plain_number_is_mebibytes():
    assert options.size("32") == options.size("32M") == 32 << 20
    assert options.size("0x1000") == 4096


@pytest.mark.parametrize("text", ["", "M", "5x", "-1", "1.5G"])
def test_size_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number"):
        options.size(text)


def test_loader():
    assert options.loader("file=a.bin,addr=0x1000") == ("a.bin", 0x1000)


@pytest.mark.parametrize("text", ["a.bin", "file=a", "addr=0", "file=a,addr=x", "file=a,addr=0,size=1"])
def test_loader_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError):
        options.loader(text)
