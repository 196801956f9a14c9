/* SPDX-License-Identifier: MIT
 *
 * Preloaded into a test process: writes down every call that changes files below one directory, and
 * makes one of them fail, fall short, or be the last thing the process does.
 *
 * A call has a number, counted from 0 since sc_begin(). Python reads the log through ctypes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* What happens to the chosen call, beside errno values, which are positive. */
enum { NOTHING = 0, SHORT = -1, KILL_BEFORE = -2, KILL_HALFWAY = -3, KILL_AFTER = -4 };

struct record {
    char call[12];
    char path[256];          /* of a descriptor: what it was opened as */
    char second[256];        /* rename: the new name */
    long long offset, length, result;
    int error, direct;
};

enum { MOST = 4096, FDS = 4096 };
static struct record records[MOST];
static int count, chosen = -1, fault, watching, direct_alignment;
static char root[PATH_MAX];
static char names[FDS][256];
static char direct_fds[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void sc_begin(const char *directory, int number, int what)
{
    pthread_mutex_lock(&lock);
    snprintf(root, sizeof root, "%s/", directory);
    count = 0;
    chosen = number;
    fault = what;
    watching = 1;
    pthread_mutex_unlock(&lock);
}

/* Direct writes and reads that are not multiples of *bytes* fail from now on, as on a disk with larger sectors. */
void sc_align(int bytes) { direct_alignment = bytes; }

int sc_end(void)
{
    watching = 0;
    return count;
}

const struct record *sc_record(int number) { return &records[number]; }
int sc_record_size(void) { return sizeof(struct record); }

static int below(const char *path)
{
    size_t length = strlen(root);
    return watching && (!strncmp(path, root, length) || (strlen(path) == length - 1 && !strncmp(path, root, length - 1)));
}

static int known(int fd) { return watching && fd >= 0 && fd < FDS && names[fd][0]; }

/* Opens a record; returns what is to happen to this call. */
static int enter(struct record **out, const char *call, const char *path, const char *second, long long offset,
                 long long length, int direct)
{
    static struct record beyond;
    int what = NOTHING;
    pthread_mutex_lock(&lock);
    struct record *r = count < MOST ? &records[count] : &beyond;
    memset(r, 0, sizeof *r);
    snprintf(r->call, sizeof r->call, "%s", call);
    snprintf(r->path, sizeof r->path, "%s", path);
    snprintf(r->second, sizeof r->second, "%s", second);
    r->offset = offset;
    r->length = length;
    r->direct = direct;
    if (count++ == chosen)
        what = fault;
    pthread_mutex_unlock(&lock);
    *out = r;
    if (what == KILL_BEFORE)
        kill(getpid(), SIGKILL);
    return what;
}

static long long leave(struct record *r, int what, long long result)
{
    r->result = result;
    r->error = result < 0 ? errno : 0;
    if (what == KILL_AFTER || what == KILL_HALFWAY)
        kill(getpid(), SIGKILL);
    return result;
}

static long long fail(struct record *r, int code)
{
    r->result = -1;
    r->error = errno = code;
    return -1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* -- names ------------------------------------------------------------------------------------------ */

static int opened(int fd, const char *path, int flags)
{
    if (fd >= 0 && fd < FDS) {
        snprintf(names[fd], sizeof names[fd], "%s", below(path) ? path : "");
        direct_fds[fd] = !!(flags & O_DIRECT);
    }
    return fd;
}

#define OPEN(name, ...) \
    { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list list; \
            va_start(list, flags); \
            mode = va_arg(list, mode_t); \
            va_end(list); \
        } \
        if (!below(path) || !(flags & (O_WRONLY | O_RDWR | O_DIRECTORY))) \
            return opened(real(__VA_ARGS__), path, flags); \
        struct record *r; \
        int what = enter(&r, "open", path, "", 0, 0, !!(flags & O_DIRECT)); \
        if (what > 0) \
            return fail(r, what); \
        return opened(leave(r, what, real(__VA_ARGS__)), path, flags); \
    }

int open(const char *path, int flags, ...) OPEN(open, path, flags, mode)
int open64(const char *path, int flags, ...) OPEN(open64, path, flags, mode)
int openat(int at, const char *path, int flags, ...) OPEN(openat, at, path, flags, mode)
int openat64(int at, const char *path, int flags, ...) OPEN(openat64, at, path, flags, mode)

int close(int fd)
{
    REAL(close);
    if (fd >= 0 && fd < FDS)
        names[fd][0] = 0;
    return real(fd);
}

/* A duplicate is the same file. */
#define CONTROL(name) \
    int name(int fd, int command, ...) \
    { \
        REAL(name); \
        va_list list; \
        va_start(list, command); \
        long argument = va_arg(list, long); \
        va_end(list); \
        int result = real(fd, command, argument); \
        if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && result >= 0 && result < FDS && fd >= 0 && fd < FDS) { \
            memcpy(names[result], names[fd], sizeof names[result]); \
            direct_fds[result] = direct_fds[fd]; \
        } \
        return result; \
    }
CONTROL(fcntl)
CONTROL(fcntl64)

int rename(const char *from, const char *to)
{
    REAL(rename);
    if (!below(from) && !below(to))
        return real(from, to);
    struct record *r;
    int what = enter(&r, "rename", from, to, 0, 0, 0);
    return what > 0 ? fail(r, what) : leave(r, what, real(from, to));
}

int unlink(const char *path)
{
    REAL(unlink);
    if (!below(path))
        return real(path);
    struct record *r;
    int what = enter(&r, "unlink", path, "", 0, 0, 0);
    return what > 0 ? fail(r, what) : leave(r, what, real(path));
}

/* -- descriptors ------------------------------------------------------------------------------------ */

#define SYNC(name) \
    int name(int fd) \
    { \
        REAL(name); \
        if (!known(fd)) \
            return real(fd); \
        struct record *r; \
        int what = enter(&r, #name, names[fd], "", 0, 0, 0); \
        return what > 0 ? fail(r, what) : leave(r, what, real(fd)); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name) \
    int name(int fd, off_t length) \
    { \
        REAL(name); \
        if (!known(fd)) \
            return real(fd, length); \
        struct record *r; \
        int what = enter(&r, "ftruncate", names[fd], "", 0, length, 0); \
        return what > 0 ? fail(r, what) : leave(r, what, real(fd, length)); \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define ALLOCATE(name) \
    int name(int fd, int mode, off_t offset, off_t length) \
    { \
        REAL(name); \
        if (!known(fd)) \
            return real(fd, mode, offset, length); \
        struct record *r; \
        int what = enter(&r, "fallocate", names[fd], "", offset, length, 0); \
        return what > 0 ? fail(r, what) : leave(r, what, real(fd, mode, offset, length)); \
    }
ALLOCATE(fallocate)
ALLOCATE(fallocate64)

/* Half of it, in the units that a direct descriptor takes; at least one. */
static size_t half(size_t length, int direct)
{
    size_t unit = direct ? 4096 : 1;
    return length / unit > 1 ? length / unit / 2 * unit : length;
}

static int refused(int fd, const void *data, size_t length, long long offset)
{
    return direct_alignment && direct_fds[fd]
        && (((size_t)data | length | (size_t)offset) & (size_t)(direct_alignment - 1));
}

#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t length, off_t offset) \
    { \
        REAL(name); \
        if (!known(fd)) \
            return real(fd, data, length, offset); \
        struct record *r; \
        int what = enter(&r, "pwrite", names[fd], "", offset, length, direct_fds[fd]); \
        if (what > 0 || refused(fd, data, length, offset)) \
            return fail(r, what > 0 ? what : EINVAL); \
        if (what == SHORT || what == KILL_HALFWAY) \
            length = half(length, direct_fds[fd]); \
        return leave(r, what, real(fd, data, length, offset)); \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PREAD(name) \
    ssize_t name(int fd, void *data, size_t length, off_t offset) \
    { \
        REAL(name); \
        if (fd >= 0 && fd < FDS && refused(fd, data, length, offset)) { \
            errno = EINVAL; \
            return -1; \
        } \
        return real(fd, data, length, offset); \
    }
PREAD(pread)
PREAD(pread64)

ssize_t write(int fd, const void *data, size_t length)
{
    REAL(write);
    if (!known(fd))
        return real(fd, data, length);
    struct record *r;
    int what = enter(&r, "write", names[fd], "", -1, length, direct_fds[fd]);
    if (what > 0)
        return fail(r, what);
    if (what == SHORT || what == KILL_HALFWAY)
        length = half(length, direct_fds[fd]);
    return leave(r, what, real(fd, data, length));
}

static int refused_pieces(int fd, const struct iovec *vector, int pieces, long long offset)
{
    for (int i = 0; i < pieces; i++)
        if (refused(fd, vector[i].iov_base, vector[i].iov_len, i ? 0 : offset))
            return 1;
    return 0;
}

/* Vectored writes fall short at the end of their first piece. */
#define VECTORED(name, call, parameters, arguments, short_arguments, where) \
    ssize_t name parameters \
    { \
        REAL(name); \
        if (!known(fd)) \
            return real arguments; \
        size_t length = 0; \
        for (int i = 0; i < pieces; i++) \
            length += vector[i].iov_len; \
        struct record *r; \
        int what = enter(&r, call, names[fd], "", where, length, direct_fds[fd]); \
        if (what > 0 || refused_pieces(fd, vector, pieces, where)) \
            return fail(r, what > 0 ? what : EINVAL); \
        if (what == SHORT || what == KILL_HALFWAY) \
            return leave(r, what, real short_arguments); \
        return leave(r, what, real arguments); \
    }
VECTORED(writev, "writev", (int fd, const struct iovec *vector, int pieces), (fd, vector, pieces), (fd, vector, 1), -1)
VECTORED(pwritev, "pwritev", (int fd, const struct iovec *vector, int pieces, off_t offset),
         (fd, vector, pieces, offset), (fd, vector, 1, offset), offset)
VECTORED(pwritev64, "pwritev", (int fd, const struct iovec *vector, int pieces, off_t offset),
         (fd, vector, pieces, offset), (fd, vector, 1, offset), offset)
