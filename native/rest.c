/* viscum-rest: what a governor that died leaves behind.
 *
 *   viscum-rest LOCK FILE MILLISECONDS
 *
 * It is started by the governor with a pipe as its standard input. A byte means that the governor
 * ended in order. The end of the file means that it died: then, unless another governor holds the
 * lock after that time, the limits in the file are written, a line of PATH, tab, VALUE each. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LARGEST (4 << 20)

static int governor_died(void) {
    char byte;
    ssize_t n;
    do n = read(0, &byte, 1);
    while (n < 0 && errno == EINTR);
    return n == 0;
}

static void wait_for(long milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) continue;
}

static int take_lock(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static char *read_all(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat is;
    if (fd < 0 || fstat(fd, &is) < 0 || is.st_uid != geteuid() || is.st_size > LARGEST) return NULL;
    char *text = malloc((size_t)is.st_size + 1);
    ssize_t n = text ? read(fd, text, (size_t)is.st_size) : -1;
    if (n < 0) return NULL;
    text[n] = 0;
    return text;
}

/* A group that is gone is no reason to leave the others. */
static void write_line(char *line) {
    char *value = strchr(line, '\t');
    if (!value) return;
    *value++ = 0;
    int fd = open(line, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    ssize_t ignored = write(fd, value, strlen(value));
    (void)ignored;
    close(fd);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    signal(SIGINT, SIG_IGN); /* a terminal sends these to both */
    signal(SIGQUIT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (!governor_died()) return 0;
    wait_for(strtol(argv[3], NULL, 10));
    if (!take_lock(argv[1])) return 0;
    char *text = read_all(argv[2]);
    for (char *line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n"))
        write_line(line);
    return 0;
}
