/* SPDX-License-Identifier: MIT */
/*
 * Keeps a picture of guest memory while the guest goes on writing it: userfaultfd write protection in synchronous
 * mode, with a thread that copies a page aside before its first write.
 *
 * The thread is plain C. The one that waits for it may hold Python's lock in the middle of a store into an
 * array, so a handler that needed the interpreter would never come to an end.
 *
 * Of each page it is known (bitmaps, one bit a page):
 *   kept     its bytes are still wanted, and it is protected
 *   pending  the writer has not begun with it (the writer takes bits from here)
 *   aside    it was copied aside; the copy is for the writer to take
 *
 * A page that the writer is just reading is copied aside like any other and so written twice; the copy is
 * written last, and is right. That is why the handler never waits for the writer to finish a page.
 *
 * Copies have a limit. A write that finds it reached waits for the writer, unless it looks as if the waiting
 * thread held Python's lock (the lock's prober does not come round), or the writer says that it is away: then it
 * might never go on, and the page takes room from the reserve. When that is used up, too, the picture is given up and everybody goes on.
 */
#ifndef PYEMU_KEEPER_H
#define PYEMU_KEEPER_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>

#include "_userfault.h"

#define PYEMU_KEEPER_MESSAGES 64
/* How long Python's lock may take to come round before its holder is taken for stuck. */
#define PYEMU_KEEPER_STUCK_NS 100000000L

typedef struct pyemu_keeper_range {
    uint8_t *base;
    uint8_t *copies;
    size_t length; /* bytes, whole host pages */
    size_t pages;
    size_t page_size;
    uint64_t *kept;
    uint64_t *pending;
    uint64_t *aside;
} pyemu_keeper_range;

typedef struct pyemu_keeper {
    int fd;
    int wake;
    int started; /* the thread is there */
    int joined;  /* it was, so the lock is usable */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t room;   /* copies were given back, or it ends */
    pthread_cond_t pressed; /* somebody waits for room, or it ends */
    pyemu_keeper_range *ranges;
    size_t count;
    size_t unit; /* bytes that are unprotected at a time: a host page at least */
    size_t limit;
    size_t reserve;
    size_t used;
    size_t peak;
    uint64_t faults;
    uint64_t copied;
    uint64_t waits;
    uint64_t asked; /* the prober is asked to come round */
    uint64_t answered;
    uint64_t stuck; /* the latest question that had no answer in time */
    int away; /* the writer does something else, which may depend on whoever waits for room */
    int stopping;
    int failed; /* error number of what ended the picture, 0 while it is good */
} pyemu_keeper;

static inline int pyemu_keeper_bit(const uint64_t *bits, size_t page)
{
    return (int)(__atomic_load_n(&bits[page / 64], __ATOMIC_ACQUIRE) >> (page % 64) & 1);
}

static inline void pyemu_keeper_set(uint64_t *bits, size_t page)
{
    __atomic_fetch_or(&bits[page / 64], 1ull << (page % 64), __ATOMIC_ACQ_REL);
}

static inline void pyemu_keeper_clear(uint64_t *bits, size_t page)
{
    __atomic_fetch_and(&bits[page / 64], ~(1ull << (page % 64)), __ATOMIC_ACQ_REL);
}

static void pyemu_keeper_later(struct timespec *when, long ns)
{
    clock_gettime(CLOCK_MONOTONIC, when);
    when->tv_nsec += ns;
    when->tv_sec += when->tv_nsec / 1000000000L;
    when->tv_nsec %= 1000000000L;
}

/* With the lock held, which is let go meanwhile: waits until there is room for *size* bytes. 0 if there never will be. */
static int pyemu_keeper_room(pyemu_keeper *k, size_t size)
{
    struct timespec when;
    uint64_t ask;

    if (k->used + size <= k->limit) {
        return 1;
    }
    k->waits++;
    while (k->used + size > k->limit && !k->stopping && !k->failed) {
        if (k->answered >= k->stuck && !k->away) {
            ask = ++k->asked;
            pthread_cond_broadcast(&k->pressed);
            pyemu_keeper_later(&when, PYEMU_KEEPER_STUCK_NS);
            while (k->used + size > k->limit && !k->stopping && !k->away) {
                if (pthread_cond_timedwait(&k->room, &k->lock, &when) == ETIMEDOUT) {
                    break;
                }
            }
            if (k->answered < ask && !k->away) {
                k->stuck = ask;
            }
            /* Python goes on, so the writer does, too: then it is only a matter of time. */
            continue;
        }
        if (k->used + size <= k->limit + k->reserve) {
            return 1;
        }
        k->failed = ENOMEM;
    }
    return k->used + size <= k->limit;
}

/* With the lock held: copies what is still wanted of the bytes around *at* of a range. */
static void pyemu_keeper_copy(pyemu_keeper *k, pyemu_keeper_range *r, size_t at, size_t end)
{
    size_t page, last = (end - 1) / r->page_size;

    for (page = at / r->page_size; page <= last && page < r->pages && !k->failed; page++) {
        if (!pyemu_keeper_bit(r->kept, page)) {
            continue;
        }
        /* Afterwards the page may have been written meanwhile, and not be wanted any more. */
        if (!pyemu_keeper_room(k, r->page_size) || !pyemu_keeper_bit(r->kept, page)) {
            continue;
        }
        pyemu_keeper_clear(r->pending, page);
        memcpy(r->copies + page * r->page_size, r->base + page * r->page_size, r->page_size);
        pyemu_keeper_set(r->aside, page);
        pyemu_keeper_clear(r->kept, page);
        k->used += r->page_size;
        k->copied++;
        if (k->used > k->peak) {
            k->peak = k->used;
        }
    }
}

/* Copies aside what is wanted of a range of addresses and lets it be written. Any thread. */
static int pyemu_keeper_open(pyemu_keeper *k, uint8_t *address, size_t length)
{
    size_t n, at, end, step;
    int code = 0;

    for (n = 0; n < k->count; n++) {
        pyemu_keeper_range *r = &k->ranges[n];

        if (address < r->base || address >= r->base + r->length) {
            continue;
        }
        at = (size_t)(address - r->base) / k->unit * k->unit;
        end = (size_t)(address - r->base) + length;
        end = end < r->length ? (end + k->unit - 1) / k->unit * k->unit : r->length;
        for (; at < end && !code; at += step) {
            step = end - at < k->unit ? end - at : k->unit;
            pthread_mutex_lock(&k->lock);
            if (k->fd >= 0) {
                pyemu_keeper_copy(k, r, at, at + step);
                /* Under the lock: whoever comes next finds the page either kept and protected, or neither. */
                code = pyemu_uffd_protect(k->fd, r->base + at, step, 0);
            }
            pthread_mutex_unlock(&k->lock);
        }
    }
    return code;
}

static void *pyemu_keeper_main(void *opaque)
{
    pyemu_keeper *k = opaque;
    pyemu_uffd_msg messages[PYEMU_KEEPER_MESSAGES];
    struct pollfd polled[2] = {{k->fd, POLLIN, 0}, {k->wake, POLLIN, 0}};
    ssize_t got;
    size_t n;
    int code;

    for (;;) {
        if (poll(polled, 2, -1) < 0 && errno != EINTR) {
            break;
        }
        if (polled[1].revents) {
            break;
        }
        got = read(k->fd, messages, sizeof messages);
        for (n = 0; got > 0 && n < (size_t)got / sizeof messages[0]; n++) {
            if (messages[n].event != PYEMU_UFFD_EVENT_PAGEFAULT) {
                continue;
            }
            k->faults++;
            code = pyemu_keeper_open(k, (uint8_t *)(uintptr_t)messages[n].address, 1);
            if (code) {
                pthread_mutex_lock(&k->lock);
                k->failed = -code;
                pthread_mutex_unlock(&k->lock);
            }
        }
    }
    return NULL;
}

static int pyemu_keeper_start(pyemu_keeper *k)
{
    pthread_condattr_t monotonic;
    sigset_t all, before;
    int code;

    k->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (k->wake < 0) {
        return -errno;
    }
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&k->room, &monotonic);
    pthread_cond_init(&k->pressed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    /* Signals are the interpreter's business, on threads of its own. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&k->thread, NULL, pyemu_keeper_main, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code) {
        pthread_cond_destroy(&k->pressed);
        pthread_cond_destroy(&k->room);
        pthread_mutex_destroy(&k->lock);
        close(k->wake);
        k->wake = -1;
        return -code;
    }
    k->started = 1;
    return 0;
}

/* Ends the protection and the thread; whoever waits for a page goes on. */
static void pyemu_keeper_stop(pyemu_keeper *k)
{
    uint64_t one = 1;
    size_t n;

    if (k->started) {
        pthread_mutex_lock(&k->lock);
        k->stopping = 1;
        pthread_cond_broadcast(&k->room);
        pthread_cond_broadcast(&k->pressed);
        pthread_mutex_unlock(&k->lock);
        while (write(k->wake, &one, sizeof one) < 0 && errno == EINTR) {
        }
        pthread_join(k->thread, NULL);
        k->started = 0;
        k->joined = 1;
    }
    for (n = 0; n < k->count; n++) {
        pyemu_uffd_protect(k->fd, k->ranges[n].base, k->ranges[n].length, 0);
        pyemu_uffd_unregister(k->fd, k->ranges[n].base, k->ranges[n].length);
    }
    if (k->joined) {
        pthread_mutex_lock(&k->lock);
    }
    if (k->fd >= 0) {
        close(k->fd);
        k->fd = -1;
    }
    if (k->joined) {
        pthread_mutex_unlock(&k->lock);
    }
}

/* The writer has taken these pages from memory: they may be written from now on without a fault. */
static int pyemu_keeper_done(pyemu_keeper *k, pyemu_keeper_range *r, size_t first, size_t count)
{
    size_t page, at = first * r->page_size / k->unit * k->unit;
    size_t end = ((first + count) * r->page_size + k->unit - 1) / k->unit * k->unit;
    int code = 0;

    pthread_mutex_lock(&k->lock);
    for (page = first; page < first + count; page++) {
        pyemu_keeper_clear(r->kept, page);
    }
    if (k->unit == r->page_size) {
        code = pyemu_uffd_protect(k->fd, r->base + at, end - at, 0);
    }
    pthread_mutex_unlock(&k->lock);
    return code;
}

/* The writer has taken these copies: their memory is given back. */
static void pyemu_keeper_returned(pyemu_keeper *k, pyemu_keeper_range *r, size_t first, size_t count)
{
    madvise(r->copies + first * r->page_size, count * r->page_size, MADV_DONTNEED);
    pthread_mutex_lock(&k->lock);
    k->used -= count * r->page_size;
    pthread_cond_broadcast(&k->room);
    pthread_mutex_unlock(&k->lock);
}

/* The writer goes away, or is back. */
static void pyemu_keeper_away(pyemu_keeper *k, int away)
{
    pthread_mutex_lock(&k->lock);
    k->away = away;
    pthread_cond_broadcast(&k->room);
    pthread_mutex_unlock(&k->lock);
}

/* Called with Python's lock freshly taken, and let go for the wait: 1 when asked to come round again, 0 at the end. */
static int pyemu_keeper_probe(pyemu_keeper *k)
{
    int go_on;

    pthread_mutex_lock(&k->lock);
    k->answered = k->asked;
    pthread_cond_broadcast(&k->room);
    while (k->answered == k->asked && !k->stopping) {
        pthread_cond_wait(&k->pressed, &k->lock);
    }
    go_on = !k->stopping;
    pthread_mutex_unlock(&k->lock);
    return go_on;
}

#endif
