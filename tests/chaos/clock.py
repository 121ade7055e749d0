"""A wall clock of kexport's own that can be set forth and back, while the machine's goes on.

A small library before the C library's (LD_PRELOAD) adds to each reading of the wall clock what a file says;
the monotonic clock stays as it is, as when a clock is really set. The kernel knows nothing of it, so who
waits until a moment of this clock (with C11's cnd_timedwait, as the Kafka client's threads do) waits until
the machine's moment instead. Without a C compiler there are no jumps.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <dlfcn.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile const long long *ahead;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *place = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) ahead = place;
    if (file >= 0) close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int answer = syscall(SYS_clock_gettime, id, now);
    if (!answer && ahead && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *ahead;
    return answer;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    int answer = clock_gettime(CLOCK_REALTIME, &precise);
    if (now) { now->tv_sec = precise.tv_sec; now->tv_usec = precise.tv_nsec / 1000; }
    return answer;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict lock, const struct timespec *restrict until) {
    static int (*wait)(cnd_t *, mtx_t *, const struct timespec *);
    if (!wait) wait = (int (*)(cnd_t *, mtx_t *, const struct timespec *)) dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec moment = *until;
    if (ahead) moment.tv_sec -= *ahead;
    return wait(condition, lock, &moment);
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
"""


def can_compile() -> bool:
    return shutil.which("cc") is not None


class Clock:
    """`command` runs a program by this clock; `jump` sets it so many seconds ahead of the machine's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        source, self._library, self._file = folder / "clock.c", folder / "clock.so", folder / "ahead"
        source.write_text(_SOURCE)
        self.jump(0)
        compiler = ["cc", "-O1", "-shared", "-fPIC", "-o", str(self._library), str(source), "-ldl"]
        subprocess.run(compiler, check=True, capture_output=True, timeout=60)

    def command(self, program: list[str]) -> list[str]:
        return ["env", f"LD_PRELOAD={self._library}", f"CHAOS_CLOCK={self._file}", *program]

    def jump(self, seconds: int) -> None:
        """At once, for what runs by it already, too: the file stays the same one."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack("q", seconds))
