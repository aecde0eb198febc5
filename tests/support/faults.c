/* Preloaded into a process, makes its calls on a database's files fail as another process says.
 *
 * EDGE_OUTBOX_FAULTS names a file of 64-bit integers, mapped by both: what is wanted of which calls, and how many there
 * were. See faults.rs, which writes it. Where that file is long enough it also holds what a power cut would lose: of
 * each page of the database and of its log how it stands, and what the card has of it. */
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
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum call { WRITE = 1, SYNC = 2, TRUNCATE = 4 };
enum { DATABASE = 1, LOG = 2, INDEX = 4, JOURNAL = 8, OWN = 16 };
/* Other values of `action` are the errno that is answered, without the call being made. */
enum { NOTHING = 0, KILL = -1, HALF = -2, LOSE = -3 };

struct orders {
    int64_t action, calls, files, from, count; /* the from-th such call and the count - 1 after it */
    int64_t seen, failed;
};

static volatile struct orders *orders;

/* How a page stands: as on the card; written since; on its way there; and lost, since Linux takes what it could not
 * write for written. Written again it is saved, but not in a place of a growing log that the card never took: ext4 has
 * zeros there for ever. */
enum state { CLEAN, DIRTY, SYNCING, LOST, ZEROS };
enum { PAGE = 4096, PAGES = 16384 };
struct file {
    unsigned char state[PAGES];
    unsigned char card[PAGES][PAGE];
};
/* The database and its log. Behind `orders`, and of each how many pages the card has. */
static struct file *files;
static volatile int64_t *taken;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("EDGE_OUTBOX_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    struct stat found;
    int pages = !fstat(fd, &found) && (size_t)found.st_size >= PAGE + 2 * sizeof *files;
    size_t size = pages ? PAGE + 2 * sizeof *files : sizeof *orders;
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return;
    orders = map;
    if (!pages) return;
    taken = (int64_t *)((char *)map + sizeof *orders);
    files = (struct file *)((char *)map + PAGE);
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
    if (!strncmp(end, ".db-outbox-", 11)) return OWN;
    return 0;
}

/* Whose pages those are; -1 where nobody asks. */
static int place(int fd) {
    if (!files) return -1;
    int before = errno, found = kind(fd);
    errno = before;
    return found == DATABASE ? 0 : found == LOG ? 1 : -1;
}

/* In front of a write: what the card has of these pages is kept. */
static void dirty(int fd, size_t size, off_t at) {
    int p = place(fd);
    if (p < 0 || !size) return;
    for (off_t page = at / PAGE; page <= (off_t)((at + size - 1) / PAGE); page++) {
        if (page >= PAGES) _exit(97); /* more than there is a place for: the test has to write less */
        unsigned char *state = &files[p].state[page], *card = files[p].card[page];
        if (*state == CLEAN || *state == SYNCING) {
            ssize_t got = pread(fd, card, PAGE, page * PAGE);
            memset(card + (got > 0 ? got : 0), 0, PAGE - (got > 0 ? got : 0));
        }
        if (*state != ZEROS) *state = DIRTY;
    }
}

static void sync_begins(int p) {
    for (int page = 0; p >= 0 && page < PAGES; page++)
        if (files[p].state[page] == DIRTY) files[p].state[page] = SYNCING;
}

static void sync_ended(int p, int fd, int well) {
    if (p < 0) return;
    for (int page = 0; page < PAGES; page++)
        if (files[p].state[page] == SYNCING)
            files[p].state[page] = well ? CLEAN : p == 1 && page >= taken[p] ? ZEROS : LOST;
    struct stat found;
    if (well && !fstat(fd, &found) && found.st_size / PAGE > taken[p]) taken[p] = found.st_size / PAGE;
}

/* Pages that are cut off are no more, and get other places if they are written again. */
static void cut(int fd, off_t size) {
    int p = place(fd);
    if (p < 0) return;
    off_t first = (size + PAGE - 1) / PAGE;
    if (first < PAGES) memset(&files[p].state[first], CLEAN, PAGES - first);
    if (taken[p] > first) taken[p] = first;
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
    if (wanted == HALF) size /= 2;
    dirty(fd, size, lseek(fd, 0, SEEK_CUR));
    return real(fd, bytes, size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    REAL(pwrite);
    FAIL_OR_GO_ON(WRITE, fd);
    if (wanted == HALF) size /= 2;
    dirty(fd, size, at);
    return real(fd, bytes, size, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    REAL(pwrite64);
    FAIL_OR_GO_ON(WRITE, fd);
    if (wanted == HALF) size /= 2;
    dirty(fd, size, at);
    return real(fd, bytes, size, at);
}

static int synced(int fd, int (*real)(int)) {
    int p = place(fd);
    sync_begins(p);
    int64_t wanted = action(SYNC, fd);
    int answer = wanted > 0 || wanted == LOSE ? -1 : real(fd);
    int why = wanted > 0 ? (int)wanted : wanted == LOSE ? EIO : errno;
    if (wanted == LOSE || !answer) sync_ended(p, fd, !answer);
    errno = why;
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

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    FAIL_OR_GO_ON(TRUNCATE, fd);
    cut(fd, size);
    return real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    FAIL_OR_GO_ON(TRUNCATE, fd);
    cut(fd, size);
    return real(fd, size);
}
