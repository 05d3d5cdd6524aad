/* A disk that is slow, full or broken, for one folder and for a process that preloads this.

   FAULTY_DISK_FOLDER   calls on files below it are counted, and may go wrong
   FAULTY_DISK_CONTROL  a file that is looked at on each such call, see `struct conduct`
   FAULTY_DISK_LOG      if it is set, where all that is done to those files is written, in order

   A write that fails has written half of its bytes: nothing may rely on them, or on their absence.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct conduct {
    int sync_ms;      /* how long a sync takes more than it would */
    int sync_errno;   /* with what a sync fails; 0: it does not */
    int write_errno;  /* with what a write, or a change of a file's length, fails */
    int only_call;    /* the one call of the process that fails, from 1; 0: all */
};

static const char *const FORMAT = "sync_ms=%d sync_errno=%d write_errno=%d only_call=%d";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t counting;
static int calls;

/* The next library's function of that name. */
#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

/* The name of an open file below the folder; NULL for others. */
static const char *watched(int fd, char path[PATH_MAX]) {
    const char *folder = getenv("FAULTY_DISK_FOLDER");
    char link[32];
    if (folder == NULL) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    size_t below = strlen(folder);
    if (strncmp(path, folder, below) != 0 || path[below] != '/') return NULL;
    return path + below + 1;
}

static struct conduct conduct(void) {
    struct conduct now = {0, 0, 0, 0};
    const char *control = getenv("FAULTY_DISK_CONTROL");
    int fd = control == NULL ? -1 : open(control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return now;
    char text[200];
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length < 0 ? 0 : length] = 0;
    sscanf(text, FORMAT, &now.sync_ms, &now.sync_errno, &now.write_errno, &now.only_call);
    return now;
}

/* Whether this call fails, if calls of its kind do. */
static int is_hit(const struct conduct *now) {
    pthread_mutex_lock(&lock);
    if (counting != getpid()) {
        counting = getpid();
        calls = 0;
    }
    int number = ++calls;
    pthread_mutex_unlock(&lock);
    return now->only_call == 0 || now->only_call == number;
}

/* Write down: what was done, to which file, where, how long, and the bytes. */
static void note(char what, const char *name, int64_t offset, int64_t length, const void *data) {
    const char *log = getenv("FAULTY_DISK_LOG");
    if (log == NULL) return;
    struct __attribute__((packed)) {
        char what;
        char name[47];
        int64_t offset, length, bytes;
    } head = {what, "", offset, length, data == NULL ? 0 : length};
    strncpy(head.name, name, sizeof head.name - 1);
    pthread_mutex_lock(&lock);
    int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || REAL(write)(fd, &head, sizeof head) != (ssize_t)sizeof head) abort();
    if (data != NULL && REAL(write)(fd, data, (size_t)length) != length) abort();
    close(fd);
    pthread_mutex_unlock(&lock);
}

static int fail(int number) {
    errno = number;
    return -1;
}

static int sync_file(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    const char *name = watched(fd, path);
    if (name == NULL) return real(fd);
    struct conduct now = conduct();
    struct timespec pause = {now.sync_ms / 1000, now.sync_ms % 1000 * 1000000L};
    nanosleep(&pause, NULL);
    if (is_hit(&now) && now.sync_errno) {
        note('f', name, 0, 0, NULL);
        return fail(now.sync_errno);
    }
    int result = real(fd);
    if (result == 0) note('s', name, 0, 0, NULL);
    return result;
}

static ssize_t write_at(int fd, const void *data, size_t length, off64_t offset) {
    char path[PATH_MAX];
    const char *name = watched(fd, path);
    if (name == NULL) return REAL(pwrite64)(fd, data, length, offset);
    struct conduct now = conduct();
    int hit = is_hit(&now) && now.write_errno;
    ssize_t written = REAL(pwrite64)(fd, data, hit ? length / 2 : length, offset);
    if (written > 0) note('w', name, offset, written, data);
    return hit ? fail(now.write_errno) : written;
}

static int change_length(int fd, off64_t length) {
    char path[PATH_MAX];
    const char *name = watched(fd, path);
    if (name == NULL) return REAL(ftruncate64)(fd, length);
    struct conduct now = conduct();
    if (is_hit(&now) && now.write_errno) return fail(now.write_errno);
    int result = REAL(ftruncate64)(fd, length);
    if (result == 0) note('t', name, 0, length, NULL);
    return result;
}

static int delete(const char *path) {
    const char *folder = getenv("FAULTY_DISK_FOLDER");
    int result = REAL(unlink)(path);
    size_t below = folder == NULL ? 0 : strlen(folder);
    if (result == 0 && below && strncmp(path, folder, below) == 0 && path[below] == '/')
        note('d', path + below + 1, 0, 0, NULL);
    return result;
}

int fsync(int fd) { return sync_file(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_file(fd, REAL(fdatasync)); }

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return write_at(fd, data, length, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    return write_at(fd, data, length, offset);
}
ssize_t write(int fd, const void *data, size_t length) {
    char path[PATH_MAX];
    if (watched(fd, path) == NULL) return REAL(write)(fd, data, length);
    ssize_t written = write_at(fd, data, length, lseek64(fd, 0, SEEK_CUR));
    if (written > 0) lseek64(fd, written, SEEK_CUR);
    return written;
}

int ftruncate(int fd, off_t length) { return change_length(fd, length); }
int ftruncate64(int fd, off64_t length) { return change_length(fd, length); }

int unlink(const char *path) { return delete(path); }
