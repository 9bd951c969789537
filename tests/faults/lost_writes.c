/* Records what a process does to the files below $LOST_WRITES_ROOT, in order, in $LOST_WRITES_LOG.

   Loaded by LD_PRELOAD. `lost_writes.py` replays the record with only what was flushed by then. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct __attribute__((packed)) head {
    char what;
    uint64_t inode;
    int64_t offset;
    uint32_t path_length, data_length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
static const char *root;
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void record(char what, uint64_t inode, int64_t offset, const char *path, const void *data,
                   size_t length) {
    struct head head = {what, inode, offset, (uint32_t)strlen(path), (uint32_t)length};
    struct iovec parts[] = {
        {&head, sizeof head}, {(void *)path, head.path_length}, {(void *)data, length}};
    if (writev(journal, parts, 3) < 0) abort();
}

static int is_watched(const char *path) {
    if (journal < 0) {
        const char *name = getenv("LOST_WRITES_LOG");
        root = getenv("LOST_WRITES_ROOT");
        if (!name || !root) return 0;
        journal = REAL(open)(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    return strncmp(path, root, strlen(root)) == 0;
}

static int absolute(const char *path, char *whole) {
    if (path[0] == '/') return snprintf(whole, PATH_MAX, "%s", path) < PATH_MAX;
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && snprintf(whole, PATH_MAX, "%s/%s", here, path) < PATH_MAX;
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_watched(path);
}

static uint64_t inode_of(int fd) {
    struct stat status;
    return fstat(fd, &status) ? 0 : status.st_ino;
}

static int opened(int fd, int existed, int flags, const char *path) {
    int error = errno;
    if (fd >= 0 && !existed) record('C', inode_of(fd), 0, path, "", 0);
    else if (fd >= 0 && flags & O_TRUNC) record('T', inode_of(fd), 0, path, "", 0);
    errno = error;
    return fd;
}

#define OPEN(name, at, parameters, call)                                                           \
    int name parameters {                                                                          \
        mode_t mode = 0;                                                                           \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                       \
            va_list more;                                                                          \
            va_start(more, flags);                                                                 \
            mode = va_arg(more, mode_t);                                                           \
            va_end(more);                                                                          \
        }                                                                                          \
        char whole[PATH_MAX];                                                                      \
        struct stat status;                                                                        \
        if (!absolute(path, whole) || !is_watched(whole) || !(flags & (O_CREAT | O_TRUNC)))        \
            return REAL(name) call;                                                                \
        pthread_mutex_lock(&lock);                                                                 \
        int existed = lstat(whole, &status) == 0;                                                  \
        int fd = opened(REAL(name) call, existed, flags, whole);                                   \
        pthread_mutex_unlock(&lock);                                                               \
        return fd;                                                                                 \
    }
OPEN(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, at, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, at, (int at, const char *path, int flags, ...), (at, path, flags, mode))

#define WRITE(name, parameters, call, where)                                                       \
    ssize_t name parameters {                                                                      \
        char path[PATH_MAX];                                                                       \
        if (fd == journal || !path_of(fd, path)) return REAL(name) call;                           \
        pthread_mutex_lock(&lock);                                                                 \
        int64_t at = where;                                                                        \
        ssize_t done = REAL(name) call;                                                            \
        int error = errno;                                                                         \
        if (done > 0) record('W', inode_of(fd), at, path, data, (size_t)done);                     \
        errno = error;                                                                             \
        pthread_mutex_unlock(&lock);                                                               \
        return done;                                                                               \
    }
WRITE(write, (int fd, const void *data, size_t length), (fd, data, length),
      lseek(fd, 0, SEEK_CUR))
WRITE(pwrite, (int fd, const void *data, size_t length, off_t offset), (fd, data, length, offset),
      offset)
WRITE(pwrite64, (int fd, const void *data, size_t length, off64_t offset),
      (fd, data, length, offset), offset)

#define ON_FILE(name, what, parameters, call, offset)                                              \
    int name parameters {                                                                          \
        char path[PATH_MAX];                                                                       \
        if (!path_of(fd, path)) return REAL(name) call;                                            \
        pthread_mutex_lock(&lock);                                                                 \
        int done = REAL(name) call;                                                                \
        int error = errno;                                                                         \
        if (done == 0) record(what, inode_of(fd), offset, path, "", 0);                            \
        errno = error;                                                                             \
        pthread_mutex_unlock(&lock);                                                               \
        return done;                                                                               \
    }
ON_FILE(ftruncate, 'T', (int fd, off_t length), (fd, length), length)
ON_FILE(ftruncate64, 'T', (int fd, off64_t length), (fd, length), length)
ON_FILE(fsync, 'S', (int fd), (fd), 0)
ON_FILE(fdatasync, 'S', (int fd), (fd), 0)

#define ON_NAME(name, what, parameters, call)                                                      \
    int name parameters {                                                                          \
        char whole[PATH_MAX];                                                                      \
        if (!absolute(path, whole) || !is_watched(whole)) return REAL(name) call;                  \
        pthread_mutex_lock(&lock);                                                                 \
        int done = REAL(name) call;                                                                \
        int error = errno;                                                                         \
        if (done == 0) record(what, 0, 0, whole, "", 0);                                           \
        errno = error;                                                                             \
        pthread_mutex_unlock(&lock);                                                               \
        return done;                                                                               \
    }
ON_NAME(unlink, 'U', (const char *path), (path))
ON_NAME(rmdir, 'U', (const char *path), (path))
ON_NAME(mkdir, 'D', (const char *path, mode_t mode), (path, mode))

int rename(const char *path, const char *to) {
    char from_whole[PATH_MAX], to_whole[PATH_MAX];
    if (!absolute(path, from_whole) || !absolute(to, to_whole) || !is_watched(to_whole))
        return REAL(rename)(path, to);
    pthread_mutex_lock(&lock);
    int done = REAL(rename)(path, to);
    int error = errno;
    if (done == 0) record('R', 0, 0, from_whole, to_whole, strlen(to_whole));
    errno = error;
    pthread_mutex_unlock(&lock);
    return done;
}
