/* Preloaded into a process, writes down in one log what it does to the files of one database, and what it says.
 *
 * EDGE_OUTBOX_RECORDED names the database, EDGE_OUTBOX_LOG the log, to which is only ever appended: it goes on over the
 * lives of several processes, and survives their SIGKILL as everything does that was given to the kernel.
 *
 * The order in the log is one in which it happened: whatever changes something is done and written down under one lock.
 * A sync has two entries, since it takes a while and vouches only for what was written before it began. A line that is
 * said is written down in front of the write, by the thread that had waited for its sync before.
 *
 * EDGE_OUTBOX_LYING_CARD has a bit for each of what a sync is of (1 the database, 2 the log, 4 the journal, 8 the folder)
 * of which the card only says that it did it: no entry vouches for it.
 *
 * What it cannot follow it does not let happen: it says so, and aborts. See recorder.rs, which reads the log. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum entry { CREATE = 1, WRITE, SIZE, UNLINK, SYNC_BEGUN, SYNC_DONE, SAID, LIFE };
/* What a descriptor or a name stands for, plus one: 0 is nothing of ours. */
enum { NOTHING = 0, DATABASE, WAL, JOURNAL, FOLDER };
enum { DESCRIPTORS = 4096 };

struct header {
    uint8_t entry, what;
    uint16_t zero;
    uint32_t id; /* of a sync */
    uint64_t at; /* in the file; or its size */
    uint64_t size; /* of the bytes that follow */
};

static struct {
    unsigned char what;
    unsigned generation;
} descriptors[DESCRIPTORS];
/* How often the file of that name was deleted: what is done to one that has no name any more is nobody's business. */
static unsigned generations[FOLDER + 1];
static char database[4000], folder[4000];
static int log_fd = -1;
static unsigned slowness, syncs, lies;
static int64_t last_entry, entries;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void give_up(const char *why) {
    fprintf(stderr, "recorder: the process does what cannot be followed: %s\n", why);
    abort();
}

/* One thread at a time from here on, until it has written down what it does. The last one does not do it any more. */
static void enter(void) {
    pthread_mutex_lock(&lock);
    if (entries + 1 == last_entry) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
}

static void leave(void) { pthread_mutex_unlock(&lock); }

static void note(enum entry entry, int what, uint32_t id, uint64_t at, const void *bytes, uint64_t size) {
    entries++;
    struct header header = {entry, (uint8_t)(what - 1), 0, id, at, size};
    struct iovec both[2] = {{&header, sizeof header}, {(void *)bytes, size}};
    REAL(writev);
    if (real(log_fd, both, 2) != (ssize_t)(sizeof header + size)) give_up("the log is full");
}

__attribute__((constructor)) static void begin(void) {
    const char *of = getenv("EDGE_OUTBOX_RECORDED"), *to = getenv("EDGE_OUTBOX_LOG");
    if (!of || !to) return;
    const char *slow = getenv("EDGE_OUTBOX_SYNC_US"), *last = getenv("EDGE_OUTBOX_LAST_ENTRY");
    snprintf(database, sizeof database, "%s", of);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(of, '/') - of), of);
    slowness = slow ? (unsigned)atoi(slow) : 0;
    last_entry = last ? atoll(last) : 0;
    const char *lying = getenv("EDGE_OUTBOX_LYING_CARD");
    lies = lying ? (unsigned)atoi(lying) : 0;
    int fd = open(to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) give_up("no log");
    log_fd = fd;
    note(LIFE, FOLDER, 0, 0, NULL, 0);
}

static int named(const char *path) {
    size_t length = strlen(database);
    if (log_fd < 0) return NOTHING;
    if (!strcmp(path, folder)) return FOLDER;
    if (strncmp(path, database, length)) return NOTHING;
    if (!path[length]) return DATABASE;
    if (!strcmp(path + length, "-wal")) return WAL;
    if (!strcmp(path + length, "-journal")) return JOURNAL;
    return NOTHING;
}

/* What this descriptor writes to, as long as that has its name. */
static int written(int fd) {
    if (log_fd < 0 || fd < 0 || fd >= DESCRIPTORS) return NOTHING;
    int what = descriptors[fd].what;
    return descriptors[fd].generation == generations[what] ? what : NOTHING;
}

static int opened(const char *path, int flags, mode_t mode, int (*really)(int, const char *, int, ...), int at) {
    int what = named(path);
    if (what == NOTHING) return really(at, path, flags, mode);
    if (flags & O_DIRECT) give_up("O_DIRECT");
    enter();
    struct stat found;
    int is_new = what != FOLDER && (flags & O_CREAT) && stat(path, &found) != 0;
    int fd = really(at, path, flags, mode), error = errno;
    if (fd >= DESCRIPTORS) give_up("too many open files");
    if (fd >= 0 && !(flags & O_PATH)) {
        descriptors[fd].what = (unsigned char)what;
        descriptors[fd].generation = generations[what];
        if (is_new) note(CREATE, what, 0, 0, NULL, 0);
        if (!is_new && what != FOLDER && (flags & O_TRUNC)) note(SIZE, what, 0, 0, NULL, 0);
    }
    leave();
    errno = error;
    return fd;
}

#define MODE \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);

int openat(int at, const char *path, int flags, ...) {
    MODE
    REAL(openat);
    return opened(path, flags, mode, real, at);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE
    REAL(openat);
    return opened(path, flags, mode, real, at);
}
int open(const char *path, int flags, ...) {
    MODE
    REAL(openat);
    return opened(path, flags, mode, real, AT_FDCWD);
}
int open64(const char *path, int flags, ...) {
    MODE
    REAL(openat);
    return opened(path, flags, mode, real, AT_FDCWD);
}
int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    REAL(close);
    if (written(fd) == NOTHING && (fd < 0 || fd >= DESCRIPTORS || !descriptors[fd].what)) return real(fd);
    enter();
    descriptors[fd].what = NOTHING;
    int answer = real(fd), error = errno;
    leave();
    errno = error;
    return answer;
}

/* Does `call`, which answers how much was written, and writes that down. */
#define WRITTEN(what, at, bytes, call) \
    enter(); \
    uint64_t place = (uint64_t)(at); \
    ssize_t size = (call); \
    int error = errno; \
    if (size > 0) note(WRITE, what, 0, place, bytes, (uint64_t)size); \
    leave(); \
    errno = error; \
    return size;

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    int what = written(fd);
    if (log_fd >= 0 && fd == STDOUT_FILENO) {
        enter();
        note(SAID, FOLDER, 0, 0, bytes, count);
        leave();
    }
    if (what == NOTHING) return real(fd, bytes, count);
    WRITTEN(what, lseek(fd, 0, SEEK_CUR), bytes, real(fd, bytes, count))
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    REAL(pwrite);
    int what = written(fd);
    if (what == NOTHING) return real(fd, bytes, count, at);
    WRITTEN(what, at, bytes, real(fd, bytes, count, at))
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(pwrite64);
    int what = written(fd);
    if (what == NOTHING) return real(fd, bytes, count, at);
    WRITTEN(what, at, bytes, real(fd, bytes, count, at))
}

/* Nobody needs them for these files. */
#define NOT_FOR(fd, why) \
    if (written(fd) != NOTHING || (log_fd >= 0 && (fd) == STDOUT_FILENO)) give_up(why);

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    NOT_FOR(fd, "writev")
    return real(fd, parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    REAL(pwritev);
    NOT_FOR(fd, "pwritev")
    return real(fd, parts, count, at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    REAL(pwritev64);
    NOT_FOR(fd, "pwritev")
    return real(fd, parts, count, at);
}
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags) {
    REAL(copy_file_range);
    NOT_FOR(to, "copy_file_range")
    return real(from, from_at, to, to_at, size, flags);
}
int dup(int fd) {
    REAL(dup);
    NOT_FOR(fd, "dup")
    return real(fd);
}
int dup2(int fd, int to) {
    REAL(dup2);
    NOT_FOR(fd, "dup2")
    return real(fd, to);
}
int dup3(int fd, int to, int flags) {
    REAL(dup3);
    NOT_FOR(fd, "dup3")
    return real(fd, to, flags);
}
static void not_duplicated(int fd, int command) {
    if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && written(fd) != NOTHING) give_up("F_DUPFD");
}
int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    REAL(fcntl);
    not_duplicated(fd, command);
    return real(fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    REAL(fcntl64);
    not_duplicated(fd, command);
    return real(fd, command, argument);
}
static void not_mapped(int fd, int protection, int flags) {
    if ((protection & PROT_WRITE) && (flags & MAP_SHARED) && written(fd) != NOTHING) give_up("a writable shared map");
}
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t at) {
    REAL(mmap);
    not_mapped(fd, protection, flags);
    return real(address, size, protection, flags, fd, at);
}
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t at) {
    REAL(mmap64);
    not_mapped(fd, protection, flags);
    return real(address, size, protection, flags, fd, at);
}

/* Whatever `call` does to the size of a file. */
#define RESIZED(fd, call) \
    int what = written(fd); \
    if (what == NOTHING) return (call); \
    enter(); \
    int answer = (call), error = errno; \
    struct stat found; \
    if (!answer && !fstat(fd, &found)) note(SIZE, what, 0, (uint64_t)found.st_size, NULL, 0); \
    leave(); \
    errno = error; \
    return answer;

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    RESIZED(fd, real(fd, size))
}
int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    RESIZED(fd, real(fd, size))
}
int posix_fallocate(int fd, off_t at, off_t size) {
    REAL(posix_fallocate);
    RESIZED(fd, real(fd, at, size))
}
int posix_fallocate64(int fd, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    RESIZED(fd, real(fd, at, size))
}
int fallocate(int fd, int mode, off_t at, off_t size) {
    REAL(fallocate);
    if (mode & ~1) NOT_FOR(fd, "holes")
    RESIZED(fd, real(fd, mode, at, size))
}
int fallocate64(int fd, int mode, off64_t at, off64_t size) {
    REAL(fallocate64);
    if (mode & ~1) NOT_FOR(fd, "holes")
    RESIZED(fd, real(fd, mode, at, size))
}
static void not_by_name(const char *path, const char *why) {
    int what = named(path);
    if (what != NOTHING) give_up(why);
}
int truncate(const char *path, off_t size) {
    REAL(truncate);
    not_by_name(path, "truncate");
    return real(path, size);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    not_by_name(from, "rename"), not_by_name(to, "rename");
    return real(from, to);
}
int link(const char *from, const char *to) {
    REAL(link);
    not_by_name(from, "link"), not_by_name(to, "link");
    return real(from, to);
}

int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    int what = named(path);
    if (what == NOTHING) return real(at, path, flags);
    enter();
    int answer = real(at, path, flags), error = errno;
    if (!answer) {
        generations[what]++;
        note(UNLINK, what, 0, 0, NULL, 0);
    }
    leave();
    errno = error;
    return answer;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int remove(const char *path) {
    REAL(remove);
    return named(path) == NOTHING ? real(path) : unlinkat(AT_FDCWD, path, 0);
}

static int synced(int fd, int (*really)(int)) {
    int what = written(fd);
    if (what == NOTHING) return really(fd);
    enter();
    uint32_t id = ++syncs;
    int is_true = !(lies >> (what - 1) & 1);
    if (is_true) note(SYNC_BEGUN, what, id, 0, NULL, 0);
    leave();
    if (slowness) usleep(slowness);
    int answer = really(fd), error = errno;
    enter();
    if (!answer && is_true) note(SYNC_DONE, what, id, 0, NULL, 0);
    leave();
    errno = error;
    return answer;
}
int fsync(int fd) {
    REAL(fsync);
    return synced(fd, real);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    return synced(fd, real);
}
