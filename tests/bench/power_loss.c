/* For LD_PRELOAD: notes how much of Redis' append-only file is surely on disk.
 *
 * After each fsync or fdatasync of a file "*.incr.aof" that succeeds, the size that the file had *before* the call goes
 * into the file that the variable FSYNCED_SIZE names, as decimal text. What is beyond may be in the kernel's memory only,
 * and power loss may take it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long long largest = -1;

static int is_append_only_file(int fd) {
    static const char ending[] = ".incr.aof";
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    ssize_t end = (ssize_t)sizeof ending - 1;
    return length >= end && memcmp(path + length - end, ending, (size_t)end) == 0;
}

static void note(long long size) {
    const char *name = getenv("FSYNCED_SIZE");
    char text[32];
    if (name == NULL) return;
    pthread_mutex_lock(&lock);
    if (size > largest) { /* The file only grows, so text of the same or more digits replaces all of the older. */
        largest = size;
        int out = open(name, O_WRONLY | O_CREAT, 0600);
        if (out >= 0) {
            if (pwrite(out, text, (size_t)snprintf(text, sizeof text, "%lld", size), 0) < 0) abort();
            close(out);
        }
    }
    pthread_mutex_unlock(&lock);
}

static int synced(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before;
    int known = fstat(fd, &before) == 0 && is_append_only_file(fd);
    int result = real(fd);
    int error = errno;
    if (result == 0 && known) note((long long)before.st_size);
    errno = error;
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
