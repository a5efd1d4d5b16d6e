/* Who watches a machine and types to it: any number of clients, each over a connection of its own.
 * A client that reads too slowly loses output, and is told how much; it holds up nobody.
 *
 * A message is a letter and what belongs to it.
 *   to the monitor   A attach        i… input          c close input   w rows, columns (2 x u16)
 *                    S stop: signal (i32), patience in ms (i32)        U read settings again
 *   to the client    o… stdout       e… stderr         l bytes lost (u64)   x exit code (i32) */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG    64
#define PARTING_MS 200

/* The path of the folder may be longer than an address takes: bind by its descriptor. */
int vs_clients_listen(struct vs_monitor *mon) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    for (int i = 0; i < VS_CLIENTS; i++) mon->clients[i].fd = -1;
    unlinkat(mon->folder, "ctl", 0);
    mon->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (mon->listener < 0) return -errno;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/ctl", mon->folder);
    mode_t old = umask(0177);
    int ret = bind(mon->listener, (struct sockaddr *)&address, sizeof address);
    umask(old);
    if (ret < 0 || listen(mon->listener, BACKLOG) < 0) return -errno;
    return vs_watch(mon, mon->listener, POLLIN, VS_ON_LISTEN);
}

static int is_ours(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return 0;
    return peer.uid == geteuid() || peer.uid == 0;
}

static void leave(struct vs_monitor *mon, struct vs_client *client) {
    vs_unwatch(mon, client->fd);
    close(client->fd);
    client->fd = -1;
}

/* The place of a client that is gone, whose last input the machine never took. */
static unsigned free_place(struct vs_monitor *mon) {
    unsigned i = 0;
    while (i < VS_CLIENTS && !mon->clients[i].gone) i++;
    if (i < VS_CLIENTS) leave(mon, &mon->clients[i]);
    return i;
}

int vs_clients_add(struct vs_monitor *mon, int fd) {
    unsigned i = 0;
    while (i < VS_CLIENTS && mon->clients[i].fd >= 0) i++;
    if (i == VS_CLIENTS) i = free_place(mon);
    if (i == VS_CLIENTS || vs_watch(mon, fd, POLLIN, VS_ON_CLIENT + i) < 0) return -EMFILE;
    mon->clients[i] = (struct vs_client){.fd = fd};
    return 0;
}

void vs_clients_accept(struct vs_monitor *mon) {
    int fd = accept4(mon->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && (!is_ours(fd) || vs_clients_add(mon, fd) < 0)) close(fd);
}

static ssize_t send_message(int fd, char type, const void *data, size_t size) {
    struct iovec parts[2] = {{&type, 1}, {(void *)data, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int send_to(struct vs_client *client, char type, const void *data, size_t size) {
    if (client->skipped) {
        if (send_message(client->fd, 'l', &client->skipped, sizeof client->skipped) < 0)
            return -errno;
        client->skipped = 0;
    }
    return send_message(client->fd, type, data, size) < 0 ? -errno : 0;
}

void vs_clients_send(struct vs_monitor *mon, char type, const void *data, size_t size) {
    for (int i = 0; i < VS_CLIENTS; i++) {
        struct vs_client *client = &mon->clients[i];
        if (client->fd < 0 || !client->follows) continue;
        int ret = send_to(client, type, data, size);
        if (ret == -EAGAIN || ret == -ENOBUFS)
            client->skipped += size;
        else if (ret < 0)
            client->follows = 0; /* it has left; what it typed before that still counts */
    }
}

/* The last words: whoever is slow has a moment to take them; what they miss, the status tells. */
void vs_clients_end(struct vs_monitor *mon, int32_t code) {
    for (int i = 0, left = PARTING_MS; i < VS_CLIENTS; i++) {
        struct vs_client *client = &mon->clients[i];
        struct pollfd room = {.fd = client->fd, .events = POLLOUT};
        if (client->fd < 0 || !client->follows) continue;
        while (send_to(client, 'x', &code, sizeof code) == -EAGAIN && left-- > 0) poll(&room, 1, 1);
    }
}

static void resize(struct vs_monitor *mon, const char *data, size_t size) {
    uint16_t cells[2];
    if (size != sizeof cells || mon->terminal < 0) return;
    memcpy(cells, data, sizeof cells);
    struct winsize window = {.ws_row = cells[0], .ws_col = cells[1]};
    ioctl(mon->terminal, TIOCSWINSZ, &window);
}

static int input_of(struct vs_monitor *mon) {
    return mon->terminal >= 0 ? mon->terminal : mon->input;
}

static void end_input(struct vs_monitor *mon) {
    mon->close_input = 0;
    if (mon->terminal >= 0) {
        if (write(mon->terminal, "\4", 1) < 0) errno = 0;
    } else if (mon->input >= 0) {
        vs_keeper_end(mon);
        vs_unwatch(mon, mon->input);
        close(mon->input);
        mon->input = -1;
    }
}

/* Write what is pending; watch for room where it does not all fit. */
void vs_input_ready(struct vs_monitor *mon) {
    int fd = input_of(mon);
    ssize_t n = 0;
    if (fd >= 0 && mon->pending_size) n = write(fd, mon->pending, mon->pending_size);
    if (fd < 0 || (n < 0 && errno != EAGAIN)) n = (ssize_t)mon->pending_size; /* nobody reads it */
    if (n > 0) {
        mon->pending_size -= (size_t)n;
        memmove(mon->pending, mon->pending + n, mon->pending_size);
    }
    unsigned idle = fd == mon->terminal ? POLLIN : 0;
    unsigned source = fd == mon->terminal ? VS_ON_TERMINAL : VS_ON_INPUT;
    if (fd >= 0) vs_watch(mon, fd, mon->pending_size ? idle | POLLOUT : idle, source);
    if (mon->pending_size) return;
    if (mon->close_input) end_input(mon);
    for (int i = 0; i < VS_CLIENTS; i++) {
        if (mon->clients[i].fd < 0 || !mon->clients[i].paused) continue;
        mon->clients[i].paused = 0;
        vs_watch(mon, mon->clients[i].fd, POLLIN, VS_ON_CLIENT + (unsigned)i);
    }
}

static void stop(struct vs_monitor *mon, const char *data, size_t size) {
    int32_t words[2];
    if (size != sizeof words) return;
    memcpy(words, data, sizeof words);
    vs_stop(mon, words[0], (int64_t)words[1] * 1000000);
}

static void reread(struct vs_monitor *mon) {
    struct vs_settings set;
    if (vs_settings_read(&set, mon->folder) < 0) return;
    mon->set = set;
    mon->log.max_size = set.log_size;
    mon->log.files = set.log_files;
}

static void take(struct vs_monitor *mon, struct vs_client *client, char *data, size_t size) {
    switch (*data) {
    case 'A': client->follows = 1; break;
    case 'i':
        memcpy(mon->pending, data + 1, size - 1);
        mon->pending_size = size - 1;
        vs_input_ready(mon);
        break;
    case 'c':
        mon->close_input = 1;
        if (!mon->pending_size) end_input(mon);
        break;
    case 'w': resize(mon, data + 1, size - 1); break;
    case 'S': stop(mon, data + 1, size - 1); break;
    case 'U': reread(mon); break;
    }
}

/* Input waits in the client's socket while the machine has not taken what came before, even where
 * the client has left: then there is nothing more to hear from it. */
static void wait_for_machine(struct vs_monitor *mon, int index, unsigned events) {
    struct vs_client *client = &mon->clients[index];
    client->paused = 1;
    client->gone = (events & POLLHUP) != 0;
    if (client->gone)
        vs_unwatch(mon, client->fd);
    else
        vs_watch(mon, client->fd, 0, VS_ON_CLIENT + (unsigned)index);
}

void vs_clients_receive(struct vs_monitor *mon, int index, unsigned events) {
    struct vs_client *client = &mon->clients[index];
    char data[VS_INPUT_SIZE + 1];
    if (client->fd < 0) return;
    ssize_t n = recv(client->fd, data, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 1 && *data == 'i' && mon->pending_size) {
        wait_for_machine(mon, index, events);
        return;
    }
    if (n > 0) n = recv(client->fd, data, sizeof data, MSG_DONTWAIT);
    if (n > 0)
        take(mon, client, data, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        leave(mon, client);
}
