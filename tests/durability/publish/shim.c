/* Counts the calls that change files below a folder, in this process and all that it starts, and kills all of them
   before one, or one of them. With LOSE it notes which files were written and not fsynced.

   SWEEP_ROOT   the folder
   SWEEP_COUNT  a file that holds the count; its lock makes one point at a time
   SWEEP_KILL   number of the call to kill before; 0: none
   SWEEP_CLIENT number of the one process that is killed; the others go on
   SWEEP_LOG    one line a call: "w DEV INO" (written), "s DEV INO" (fsynced), "c" (another) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static ssize_t (*real_write)(int, const void *, size_t);

static int below(const char *path) {
    const char *root = getenv("SWEEP_ROOT");
    char full[8192], cwd[4096];
    if (!root || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(cwd, sizeof cwd)) return 0;
        snprintf(full, sizeof full, "%s/%s", cwd, path);
        path = full;
    }
    return strncmp(path, root, strlen(root)) == 0;
}

static int below_at(int folder, const char *path) {
    char link[64], name[4096];
    if (!path || path[0] == '/' || folder == AT_FDCWD) return below(path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return 0;
    name[length] = 0;
    return below(name);
}

static int below_fd(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && below_at(fd, "");
}

static void note(const char *line) {
    const char *log = getenv("SWEEP_LOG");
    int fd = log ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) {
        real_write(fd, line, strlen(line));
        close(fd);
    }
}

static void point(void) {
    const char *counter = getenv("SWEEP_COUNT"), *kill_at = getenv("SWEEP_KILL");
    char text[32] = {0};
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    if (!counter || !kill_at) return;
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = real_open(counter, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return;
    flock(fd, LOCK_EX);
    long count = pread(fd, text, sizeof text - 1, 0) > 0 ? atol(text) + 1 : 1;
    if (count == atol(kill_at)) {
        const char *client = getenv("SWEEP_CLIENT");
        kill(client ? (pid_t)atol(client) : 0, SIGKILL);
    }
    int length = snprintf(text, sizeof text, "%ld", count);
    if (pwrite(fd, text, length, 0) < 0) _exit(3);
    close(fd);
}

static void note_fd(char kind, int fd) {
    struct stat found;
    char line[96];
    if (fstat(fd, &found)) return;
    snprintf(line, sizeof line, "%c %lu %lu\n", kind, (unsigned long)found.st_dev, (unsigned long)found.st_ino);
    note(line);
}

#define CHANGES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)
#define OPEN(name, declared, passed, where)                                                   \
    int name declared {                                                                       \
        mode_t mode = 0;                                                                      \
        if (flags & O_CREAT) { va_list more; va_start(more, flags); mode = va_arg(more, int); va_end(more); } \
        if ((flags & CHANGES) && where) point();                                              \
        int (*real) declared = dlsym(RTLD_NEXT, #name);                                       \
        return real passed;                                                                   \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode), below(path))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), below(path))
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), below_at(folder, path))
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), below_at(folder, path))

ssize_t write(int fd, const void *data, size_t size) {
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    if (below_fd(fd)) { point(); note_fd('w', fd); }
    return real_write(fd, data, size);
}

#define SYNC(name)                                          \
    int name(int fd) {                                      \
        if (below_fd(fd)) point();                          \
        int (*real)(int) = dlsym(RTLD_NEXT, #name);         \
        int done = real(fd);                                \
        if (!done && below_fd(fd)) note_fd('s', fd);        \
        return done;                                        \
    }
SYNC(fsync)
SYNC(fdatasync)

#define CHANGE(name, declared, passed, where)               \
    int name declared {                                     \
        if (where) point();                                 \
        int (*real) declared = dlsym(RTLD_NEXT, #name);     \
        return real passed;                                 \
    }
CHANGE(rename, (const char *from, const char *to), (from, to), below(to))
CHANGE(link, (const char *from, const char *to), (from, to), below(to))
CHANGE(unlink, (const char *path), (path), below(path))
CHANGE(rmdir, (const char *path), (path), below(path))
CHANGE(mkdir, (const char *path, mode_t mode), (path, mode), below(path))
CHANGE(ftruncate, (int fd, off_t size), (fd, size), below_fd(fd))
CHANGE(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), below_at(b, to))
CHANGE(linkat, (int a, const char *from, int b, const char *to, int how), (a, from, b, to, how), below_at(b, to))
CHANGE(unlinkat, (int folder, const char *path, int how), (folder, path, how), below_at(folder, path))
