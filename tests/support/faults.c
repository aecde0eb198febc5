/* Preloaded into a process, makes its calls on a database's files fail as another process says.
 *
 * EDGE_OUTBOX_FAULTS names a file of 64-bit integers, mapped by both: what is wanted of which calls, and how many there
 * were. See faults.rs, which writes it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum call { WRITE = 1, SYNC = 2, TRUNCATE = 4 };
enum { DATABASE = 1, LOG = 2, INDEX = 4, JOURNAL = 8 };
/* Other values of `action` are the errno that is answered, without the call being made. */
enum { NOTHING = 0, KILL = -1, HALF = -2 };

struct orders {
    int64_t action, calls, files, from, count; /* the from-th such call and the count - 1 after it */
    int64_t seen, failed;
};

static volatile struct orders *orders;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("EDGE_OUTBOX_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) orders = map;
    close(fd);
}

static int kind(int fd) {
    char link[40], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return 0;
    name[length] = 0;
    const char *end = strrchr(name, '.');
    if (!end) return 0;
    if (!strcmp(end, ".db")) return DATABASE;
    if (!strcmp(end, ".db-wal")) return LOG;
    if (!strcmp(end, ".db-shm")) return INDEX;
    if (!strcmp(end, ".db-journal")) return JOURNAL;
    return 0;
}

/* What shall become of this call. */
static int64_t action(enum call call, int fd) {
    int before = errno;
    int64_t wanted = NOTHING;
    if (orders && orders->action != NOTHING && (orders->calls & call) && (orders->files & kind(fd))) {
        int64_t number = __sync_add_and_fetch(&orders->seen, 1);
        if (number >= orders->from && number - orders->from < orders->count) {
            __sync_add_and_fetch(&orders->failed, 1);
            wanted = orders->action;
        }
    }
    if (wanted == KILL) raise(SIGKILL);
    errno = before;
    return wanted;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL_OR_GO_ON(call, fd)              \
    int64_t wanted = action(call, fd);       \
    if (wanted > 0) {                        \
        errno = (int)wanted;                 \
        return -1;                           \
    }

ssize_t write(int fd, const void *bytes, size_t size) {
    REAL(write);
    FAIL_OR_GO_ON(WRITE, fd);
    return real(fd, bytes, wanted == HALF ? size / 2 : size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    REAL(pwrite);
    FAIL_OR_GO_ON(WRITE, fd);
    return real(fd, bytes, wanted == HALF ? size / 2 : size, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    REAL(pwrite64);
    FAIL_OR_GO_ON(WRITE, fd);
    return real(fd, bytes, wanted == HALF ? size / 2 : size, at);
}

int fsync(int fd) {
    REAL(fsync);
    FAIL_OR_GO_ON(SYNC, fd);
    return real(fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    FAIL_OR_GO_ON(SYNC, fd);
    return real(fd);
}

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    FAIL_OR_GO_ON(TRUNCATE, fd);
    return real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    FAIL_OR_GO_ON(TRUNCATE, fd);
    return real(fd, size);
}
