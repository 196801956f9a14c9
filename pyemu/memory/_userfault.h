/* SPDX-License-Identifier: MIT */
/*
 * The kernel's userfaultfd and PAGEMAP_SCAN as far as they are used here. Numbers and layouts are the kernel's
 * interface (linux/userfaultfd.h, linux/fs.h), which the headers of older distributions do not have yet.
 *
 * Each function returns 0 (or a descriptor) or a negative error number.
 */
#ifndef PYEMU_USERFAULT_H
#define PYEMU_USERFAULT_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PYEMU_UFFD_API 0xaaull
/* The third argument of open: faults of the kernel itself fail with EFAULT instead of waiting. */
#define PYEMU_UFFD_USER_MODE_ONLY 1
#define PYEMU_UFFD_PAGEFAULT_FLAG_WP (1ull << 0)
#define PYEMU_UFFD_WP_HUGETLBFS_SHMEM (1ull << 12)
#define PYEMU_UFFD_WP_UNPOPULATED (1ull << 13)
#define PYEMU_UFFD_WP_ASYNC (1ull << 15)
#define PYEMU_UFFD_REGISTER_WP 2ull
#define PYEMU_UFFD_EVENT_PAGEFAULT 0x12

#define PYEMU_UFFDIO_API 0xc018aa3ful
#define PYEMU_UFFDIO_REGISTER 0xc020aa00ul
#define PYEMU_UFFDIO_UNREGISTER 0x8010aa01ul
#define PYEMU_UFFDIO_WRITEPROTECT 0xc018aa06ul
#define PYEMU_PAGEMAP_SCAN 0xc0606610ul

typedef struct pyemu_uffd_msg {
    uint8_t event;
    uint8_t reserved[7];
    uint64_t flags;
    uint64_t address;
    uint64_t thread;
} pyemu_uffd_msg;

static inline int pyemu_uffd_open(uint64_t features, int flags)
{
    uint64_t api[3] = {PYEMU_UFFD_API, features, 0};
    int code, fd = (int)syscall(SYS_userfaultfd, (long)(O_CLOEXEC | O_NONBLOCK | flags));

    if (fd < 0) {
        return -errno;
    }
    if (ioctl(fd, PYEMU_UFFDIO_API, api) != 0) {
        code = -errno;
        close(fd);
        return code;
    }
    return fd;
}

static inline int pyemu_uffd_register(int fd, const void *start, uint64_t length)
{
    uint64_t area[4] = {(uint64_t)(uintptr_t)start, length, PYEMU_UFFD_REGISTER_WP, 0};

    return ioctl(fd, PYEMU_UFFDIO_REGISTER, area) != 0 ? -errno : 0;
}

static inline int pyemu_uffd_unregister(int fd, const void *start, uint64_t length)
{
    uint64_t area[2] = {(uint64_t)(uintptr_t)start, length};

    return ioctl(fd, PYEMU_UFFDIO_UNREGISTER, area) != 0 ? -errno : 0;
}

/* Protects, or takes the protection away and wakes who waits for that. */
static inline int pyemu_uffd_protect(int fd, const void *start, uint64_t length, int on)
{
    uint64_t area[3] = {(uint64_t)(uintptr_t)start, length, (uint64_t)(on != 0)};

    while (ioctl(fd, PYEMU_UFFDIO_WRITEPROTECT, area) != 0) {
        /* EAGAIN: the address space is changing at this moment (a fork, a move). */
        if (errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
    }
    return 0;
}

#endif
