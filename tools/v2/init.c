/* The first process of the guest: loads modules, makes the host's root its own, runs the tests.
 *
 * The command to run stands in /command; its status goes to the second serial line, and the guest
 * is switched off whatever happens. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(const char *what, int status) {
    char text[160];
    int fd = open("/dev/ttyS1", O_WRONLY | O_NOCTTY);
    int n = snprintf(text, sizeof text, "%s %d\n", what, status);
    if (fd >= 0) {
        if (write(fd, text, (size_t)n) < 0) perror("/dev/ttyS1");
        fsync(fd);
        close(fd);
    }
    printf("guest: %s", text);
    fflush(stdout);
    sync();
    reboot(RB_AUTOBOOT); /* with -no-reboot this ends QEMU */
    pause();
}

static void must(int ret, const char *what) {
    if (ret >= 0) return;
    fprintf(stderr, "guest: %s: %s\n", what, strerror(errno));
    leave(what, -errno);
}

static void load_modules(void) {
    char name[256];
    FILE *order = fopen("/modules/order", "r");
    must(order ? 0 : -1, "/modules/order");
    while (fscanf(order, "%255s", name) == 1) {
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        must(fd, name);
        if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST) must(-1, name);
        close(fd);
    }
    fclose(order);
}

static void tmpfs(const char *path, const char *options) {
    struct stat is;
    if (stat(path, &is) == 0) must(mount("tmpfs", path, "tmpfs", 0, options), path);
}

/* The checkout may be in a folder that gets a file system in memory: show it there again. Paths are
 * relative to the new root. */
static void show_again(int checkout, const char *path) {
    char part[4096], source[48];
    struct stat is;
    if (stat(path, &is) == 0) return;
    for (size_t n = 1; n <= strlen(path); n++) {
        if (path[n] && path[n] != '/') continue;
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (mkdir(part, 0755) < 0 && errno != EEXIST) must(-1, part);
    }
    snprintf(source, sizeof source, "proc/self/fd/%d", checkout);
    must(mount(source, path, NULL, MS_BIND | MS_REC, NULL), path);
}

/* `inside` is the path of the program to run, three names below the checkout. */
static int open_checkout(const char *inside, char *path, size_t size) {
    snprintf(path, size, "%s", inside + (*inside == '/'));
    for (int i = 0; i < 3 && strrchr(path, '/'); i++) *strrchr(path, '/') = 0;
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    must(fd, path);
    return fd;
}

static void mount_root(const char *inside) {
    char path[4096];
    mkdir("/root", 0755);
    must(mount("root", "/root", "virtiofs", MS_RDONLY, ""), "virtiofs");
    must(chdir("/root"), "/root");
    must(mount("dev", "dev", "devtmpfs", 0, ""), "dev");
    must(mount("proc", "proc", "proc", 0, ""), "proc");
    must(mount("sysfs", "sys", "sysfs", 0, ""), "sys");
    must(mount("cgroup2", "sys/fs/cgroup", "cgroup2", 0, ""), "cgroup2");
    mkdir("dev/pts", 0755);
    mkdir("dev/shm", 01777);
    must(mount("devpts", "dev/pts", "devpts", 0, "ptmxmode=666"), "dev/pts");
    int checkout = open_checkout(inside, path, sizeof path);
    tmpfs("dev/shm", "mode=1777");
    tmpfs("tmp", "mode=1777");
    tmpfs("var/tmp", "mode=1777");
    tmpfs("run", "mode=755");
    tmpfs("var/lib", "mode=755");
    show_again(checkout, path);
    close(checkout);
    /* In a chroot there are no user namespaces: this has to be the root of the mount namespace. */
    must(mount(".", "/", NULL, MS_MOVE, NULL), "move");
    must(chroot("."), "chroot");
}

static char **read_command(void) {
    static char text[65536], *words[512];
    int fd = open("/command", O_RDONLY | O_CLOEXEC), count = 0;
    must(fd, "/command");
    ssize_t n = read(fd, text, sizeof text - 1);
    for (char *p = text; p < text + n && count < 511; p += strlen(p) + 1) words[count++] = p;
    close(fd);
    return words;
}

int main(void) {
    int status = -1;
    char **command = read_command();
    must(mount("dev", "/dev", "devtmpfs", 0, "") < 0 && errno != EBUSY ? -1 : 0, "/dev");
    load_modules();
    mount_root(command[0]);
    pid_t child = fork();
    must(child, "fork");
    if (!child) {
        setsid();
        execvp(command[0], command);
        perror(command[0]);
        _exit(127);
    }
    for (pid_t ended = 0; ended != child;) ended = wait(&status);
    leave("status", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
