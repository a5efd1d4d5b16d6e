/* A server for the benchmark: each request takes a fixed time of CPU, a thread each connection.
 *
 *   server PORT MICROSECONDS */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long cost_us;

static int64_t cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void *serve(void *arg) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    int fd = (int)(intptr_t)arg;
    char request[4096];
    while (read(fd, request, sizeof request) > 0) {
        int64_t end = cpu_us() + cost_us;
        while (cpu_us() < end)
            for (volatile int i = 0; i < 500; i++) continue;
        if (write(fd, answer, sizeof answer - 1) < 0) break;
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 3) return 2;
    at.sin_port = htons((uint16_t)atoi(argv[1]));
    cost_us = atol(argv[2]);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 128)) return 1;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd)) return 1;
        pthread_detach(thread);
    }
}
