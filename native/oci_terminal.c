/* A terminal of a container in the foreground: ours is made raw, and bytes are carried. */
#include "oci.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static int is_raw;

/* The master that the container sent; -1 where it sent none. */
int oci_terminal_receive(int socket) {
    char name[128];
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec data = {name, sizeof name};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    int master = -1;
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) <= 0) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS)
        memcpy(&master, CMSG_DATA(header), sizeof master);
    return master;
}

void oci_terminal_resize(int master) {
    struct winsize size;
    if (ioctl(0, TIOCGWINSZ, &size) == 0) ioctl(master, TIOCSWINSZ, &size);
}

void oci_terminal_begin(int master) {
    struct termios raw;
    if (tcgetattr(0, &before) < 0) return;
    raw = before;
    cfmakeraw(&raw);
    is_raw = tcsetattr(0, TCSANOW, &raw) == 0;
    oci_terminal_resize(master);
}

void oci_terminal_end(void) {
    if (is_raw) tcsetattr(0, TCSANOW, &before);
    is_raw = 0;
}

static int write_all(int fd, const char *data, ssize_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, (size_t)size);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd ready = {.fd = fd, .events = POLLOUT};
            poll(&ready, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return -1;
        } else if (n > 0) {
            data += n;
            size -= n;
        }
    }
    return 0;
}

/* Carry what is there; 0 once that side has ended. */
int oci_terminal_carry(int master, short events, int from_us) {
    char data[16384];
    if (!events) return 1;
    ssize_t n = read(from_us ? 0 : master, data, sizeof data);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (n == 0 && from_us) { /* our input is over: so is the terminal's */
        char end = 4;
        write_all(master, &end, 1);
    }
    if (n <= 0) return 0;
    return write_all(from_us ? master : 1, data, n) == 0;
}
