/* SPDX-License-Identifier: MIT */
/*
 * Is a piece of memory all zero? One version for each instruction set, chosen once at run time, so
 * that a wheel built anywhere runs everywhere and is fast where it can be.
 *
 * Guest memory may change while it is read. That is harmless here: the dirty log marks such a page
 * again and it is looked at once more.
 */
#ifndef PYEMU_ZERO_H
#define PYEMU_ZERO_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef int (*pyemu_zero_fn)(const uint8_t *, size_t);

/* Any length; what the wide versions leave over at the end comes here too. */
static int pyemu_zero_plain(const uint8_t *p, size_t n)
{
    uint64_t w;

    for (; n >= sizeof w; p += sizeof w, n -= sizeof w) {
        memcpy(&w, p, sizeof w);
        if (w) {
            return 0;
        }
    }
    for (; n; p++, n--) {
        if (*p) {
            return 0;
        }
    }
    return 1;
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define PYEMU_ZERO_X86 1
#include <immintrin.h>

__attribute__((target("sse2"))) static int pyemu_zero_sse2(const uint8_t *p, size_t n)
{
    const __m128i zero = _mm_setzero_si128();

    for (; n >= 128; p += 128, n -= 128) {
        const __m128i *v = (const __m128i *)p;
        __m128i a = _mm_or_si128(_mm_loadu_si128(v), _mm_loadu_si128(v + 1));
        __m128i b = _mm_or_si128(_mm_loadu_si128(v + 2), _mm_loadu_si128(v + 3));
        __m128i c = _mm_or_si128(_mm_loadu_si128(v + 4), _mm_loadu_si128(v + 5));
        __m128i d = _mm_or_si128(_mm_loadu_si128(v + 6), _mm_loadu_si128(v + 7));
        a = _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d));
        if (_mm_movemask_epi8(_mm_cmpeq_epi8(a, zero)) != 0xffff) {
            return 0;
        }
    }
    return pyemu_zero_plain(p, n);
}

__attribute__((target("avx2"))) static int pyemu_zero_avx2(const uint8_t *p, size_t n)
{
    for (; n >= 256; p += 256, n -= 256) {
        const __m256i *v = (const __m256i *)p;
        __m256i a = _mm256_or_si256(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
        __m256i b = _mm256_or_si256(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3));
        __m256i c = _mm256_or_si256(_mm256_loadu_si256(v + 4), _mm256_loadu_si256(v + 5));
        __m256i d = _mm256_or_si256(_mm256_loadu_si256(v + 6), _mm256_loadu_si256(v + 7));
        a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
        if (!_mm256_testz_si256(a, a)) {
            return 0;
        }
    }
    return pyemu_zero_plain(p, n);
}
#endif

static pyemu_zero_fn pyemu_zero = pyemu_zero_plain;
static const char *pyemu_zero_level = "plain";

/* Selects a version by name; NULL means the best one. Returns 0 if this processor lacks it. */
static int pyemu_zero_select(const char *name)
{
#ifdef PYEMU_ZERO_X86
    __builtin_cpu_init();
    if ((!name || !strcmp(name, "avx2")) && __builtin_cpu_supports("avx2")) {
        pyemu_zero = pyemu_zero_avx2;
        pyemu_zero_level = "avx2";
        return 1;
    }
    if ((!name || !strcmp(name, "sse2")) && __builtin_cpu_supports("sse2")) {
        pyemu_zero = pyemu_zero_sse2;
        pyemu_zero_level = "sse2";
        return 1;
    }
#endif
    if (!name || !strcmp(name, "plain")) {
        pyemu_zero = pyemu_zero_plain;
        pyemu_zero_level = "plain";
        return 1;
    }
    return 0;
}

/* Page bits are shared by writers; each change is one atomic operation on a 64-bit word. */
static inline uint64_t pyemu_bits_take(uint64_t *word, uint64_t mask)
{
    return __atomic_fetch_and(word, ~mask, __ATOMIC_ACQ_REL) & mask;
}

static inline void pyemu_bits_set(uint64_t *word, uint64_t mask)
{
    __atomic_fetch_or(word, mask, __ATOMIC_RELAXED);
}

static inline void pyemu_bits_clear(uint64_t *word, uint64_t mask)
{
    __atomic_fetch_and(word, ~mask, __ATOMIC_RELAXED);
}

static inline uint64_t pyemu_bits_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

#endif
