# SPDX-License-Identifier: MIT
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory.models import BitmapModel

from pyemu.errors import MemoryMapError
from pyemu.memory import DirtyBitmap
from pyemu.testing._probe import bitmap_sets, bitmap_takes

SIZES = [1, 63, 64, 65, 127, 128, 200, 256]


def same(bitmap, model):
    assert {p for p in range(model.pages) if bitmap.test(p)} == model.set
    assert bitmap.count() == len(model.set)
    words = np.unpackbits(bitmap.words.view(np.uint8), bitorder="little")
    assert set(np.flatnonzero(words)) == model.set


@st.composite
def scripts(draw):
    pages = draw(st.sampled_from(SIZES))
    page = st.integers(0, pages - 1)
    spans = st.tuples(st.integers(0, pages), st.integers(0, pages)).map(lambda p: (min(p), max(p) - min(p)))
    step = st.one_of(
        st.tuples(st.sampled_from(["set_range", "test_and_clear_range"]), spans),
        st.tuples(st.just("take_run"), st.tuples(st.integers(0, pages), st.integers(1, pages + 5))),
        st.tuples(st.just("find"), st.tuples(st.integers(0, pages), st.booleans())),
        st.tuples(st.just("runs"), st.tuples(page, st.integers(1, pages))),
        st.tuples(st.just("merge"), st.sets(page)),
    )
    return pages, draw(st.sets(page)), draw(st.lists(step, max_size=12))


@settings(max_examples=2 * settings.default.max_examples)
@given(scripts())
def test_any_script_does_what_the_model_does(script):
    pages, start, steps = script
    bitmap, model = DirtyBitmap(pages), BitmapModel(pages)
    for page in start:
        assert bitmap.set(page)
        assert not bitmap.set(page)
        model.set.add(page)
    for step, arguments in steps:
        if step == "find":
            at, wanted = arguments
            assert (bitmap.find_next if wanted else bitmap.find_next_clear)(at) == model.find(at, wanted)
        elif step == "runs":
            assert list(bitmap.runs(*arguments)) == model.runs(*arguments)
        elif step == "merge":
            other = DirtyBitmap(pages)
            for page in arguments:
                other.set(page)
            assert bitmap.merge(other) == len(arguments - model.set)
            model.set |= arguments
        else:
            assert getattr(bitmap, step)(*arguments) == getattr(model, step)(*arguments)
        assert bitmap.count() == len(model.set)
    same(bitmap, model)


@pytest.mark.parametrize("pages", SIZES)
def test_all_and_none(pages):
    bitmap = DirtyBitmap(pages)
    assert (bitmap.count(), bitmap.find_next(), bitmap.find_next_clear()) == (0, -1, 0)
    bitmap.set_all()
    assert (bitmap.count(), bitmap.find_next_clear(), len(bitmap)) == (pages, -1, pages)
    assert list(bitmap.runs()) == [(0, pages)]
    assert int(bitmap.words[-1]) == (1 << ((pages - 1) % 64 + 1)) - 1
    bitmap.clear_all()
    assert bitmap.count() == 0


def test_counts_of_parts():
    bitmap = DirtyBitmap(200)
    bitmap.set_range(60, 80)
    assert [bitmap.count(0, 60), bitmap.count(60), bitmap.count(100, 20), bitmap.count(140), bitmap.count(200)] == [
        0, 80, 20, 0, 0,
    ]  # fmt: skip


@pytest.mark.parametrize("pages", [0, -1, (1 << 40) + 1])
def test_impossible_sizes_are_refused(pages):
    with pytest.raises(MemoryMapError, match=f"of {pages} pages"):
        DirtyBitmap(pages)


@pytest.mark.parametrize(
    "use",
    [
        lambda b: b.set(100),
        lambda b: b.test(-1),
        lambda b: b.set_range(99, 2),
        lambda b: b.set_range(-1, 1),
        lambda b: b.test_and_clear_range(0, 101),
        lambda b: b.clear_range(50, -1),
        lambda b: b.count(101),
        lambda b: b.find_next(101),
        lambda b: b.take_run(101, 1),
        lambda b: b.take_run(0, 0),
        lambda b: list(b.runs(0, 0)),
        lambda b: b.merge(DirtyBitmap(99)),
        lambda b: b.set(1 << 70),
    ],
)
def test_nothing_reaches_outside(use):
    bitmap = DirtyBitmap(100)
    with pytest.raises(MemoryMapError):
        use(bitmap)
    assert bitmap.count() == 0


def test_words_are_the_memory_and_outlive_the_bitmap():
    bitmap = DirtyBitmap(130)
    words = bitmap.words
    assert (words.dtype, len(words), words.ctypes.data) == (np.uint64, 3, bitmap.pointer)
    words[1] |= np.uint64(1 << 5)
    assert bitmap.find_next() == 69
    del bitmap
    assert int(words[1]) == 32


@pytest.mark.parametrize("by_run", [False, True])
def test_no_page_is_lost_or_given_twice_between_threads(by_run):
    """Writers set pages of few words while collectors take them: each setting is taken exactly once.

    The loops run in C without the GIL, so that they really meet.
    """
    bitmap = DirtyBitmap(150)
    start = threading.Barrier(4)

    def write(n):
        start.wait()
        return bitmap_sets(bitmap, n, 2 * n + 1, 2_000_000)

    def take(n):
        start.wait()
        return bitmap_takes(bitmap, by_run, 4_000_000)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, n) for n in range(2)]
        takers = [pool.submit(take, n) for n in range(2)]
    left = bitmap.test_and_clear_range(0, 150)
    assert sum(t.result() for t in takers) + left == sum(w.result() for w in writers)
    assert bitmap.count() == 0
