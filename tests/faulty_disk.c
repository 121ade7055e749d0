/* Preloaded into a process, fails what it does to the journal's files as a control file says at that moment.
 *
 * KEXPORT_FAULT names the control file. Its text is an operation ("write" or "sync") and what becomes of it:
 * an errno, "short" (half of it is written) or "slow" (a second passes). Empty or absent: all is well.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WELL = 0, SHORT = -1, SLOW = -2 };

static int meant(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, "/journal.db") != NULL;
}

static int fault(int file, const char *operation) {
    char text[64] = "", asked[16] = "", what[16] = "";
    const char *control = getenv("KEXPORT_FAULT");
    if (!control || !meant(file)) return WELL;
    int opened = open(control, O_RDONLY | O_CLOEXEC);
    if (opened < 0) return WELL;
    ssize_t length = read(opened, text, sizeof text - 1);
    close(opened);
    if (length <= 0 || sscanf(text, "%15s %15s", asked, what) != 2 || strcmp(asked, operation)) return WELL;
    if (!strcmp(what, "short")) return SHORT;
    if (!strcmp(what, "slow")) return SLOW;
    return atoi(what);
}

static ssize_t written(const char *real, int file, const void *data, size_t count, off64_t offset) {
    ssize_t (*call)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, real);
    int outcome = fault(file, "write");
    if (outcome > 0) {
        errno = outcome;
        return -1;
    }
    return call(file, data, outcome == SHORT && count > 1 ? count / 2 : count, offset);
}

ssize_t pwrite(int file, const void *data, size_t count, off_t offset) {
    return written("pwrite", file, data, count, offset);
}

ssize_t pwrite64(int file, const void *data, size_t count, off64_t offset) {
    return written("pwrite64", file, data, count, offset);
}

static int synced(const char *real, int file) {
    int (*call)(int) = dlsym(RTLD_NEXT, real);
    int outcome = fault(file, "sync");
    if (outcome == SLOW) nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    if (outcome > 0) {
        errno = outcome;
        return -1;
    }
    return call(file);
}

int fsync(int file) { return synced("fsync", file); }

int fdatasync(int file) { return synced("fdatasync", file); }
