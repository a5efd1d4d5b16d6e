/* The log of a machine: a JSON object a line, {"log":…,"stream":…,"time":…}, as Docker's json-file
 * driver writes it and log shippers read it. A line of the machine is one record; one longer than
 * VS_LINE_SIZE is several, of which only the last ends in a newline. */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAX 128 /* bytes of a record beside the line */
#define WORST      6   /* bytes that one becomes at most: \u00XX */
#define OUT_SIZE   (VS_LINE_SIZE * WORST + RECORD_MAX)

int vs_log_open(struct vs_log *log, int folder, const struct vs_settings *set) {
    struct stat is = {0};
    log->folder = folder;
    log->max_size = set->log_size;
    log->files = set->log_files;
    if (!log->out) log->out = malloc(OUT_SIZE);
    log->fd = openat(folder, "log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log->fd < 0 || !log->out) return -errno;
    fstat(log->fd, &is);
    log->size = (uint64_t)is.st_size;
    return 0;
}

/* log becomes log.1, log.1 becomes log.2; the oldest goes. */
static void rotate(struct vs_log *log) {
    char from[32], to[32];
    for (int i = log->files - 1; i > 0; i--) {
        snprintf(to, sizeof to, "log.%d", i);
        snprintf(from, sizeof from, i > 1 ? "log.%d" : "log", i - 1);
        renameat(log->folder, from, log->folder, to);
    }
    if (log->files <= 1) unlinkat(log->folder, "log", 0);
    int fd = openat(log->folder, "log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return; /* go on in the one there is */
    close(log->fd);
    log->fd = fd;
    log->size = 0;
}

/* What a full disk does not take is counted, and said once there is room again. */
static void flush(struct vs_log *log) {
    size_t done = 0;
    if (log->max_size && log->size && log->size + log->used > log->max_size) rotate(log);
    while (done < log->used) {
        ssize_t n = write(log->fd, log->out + done, log->used - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        done += (size_t)n;
    }
    log->size += done;
    if (done < log->used) {
        log->lost += log->used - done;
        if (done) log->lost += (uint64_t)(write(log->fd, "\n", 1) < 0); /* end the cut record */
    }
    log->used = 0;
}

static void stamp(struct vs_log *log) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != log->second || !log->stamp[0]) {
        gmtime_r(&now.tv_sec, &parts);
        strftime(log->stamp, sizeof log->stamp, "%Y-%m-%dT%H:%M:%S", &parts);
        log->second = now.tv_sec;
    }
    char digits[21];
    size_t n = vs_decimal(digits, (uint64_t)now.tv_nsec + 1000000000);
    log->stamp[19] = '.';
    memcpy(log->stamp + 20, digits + 1, n - 1);
    memcpy(log->stamp + 29, "Z", 2);
}

static size_t put(char *out, const char *text) {
    size_t n = strlen(text);
    memcpy(out, text, n);
    return n;
}

/* The length of the UTF-8 sequence at `at`; 0 where there is none (Unicode, table 3-7). */
static size_t sequence(const unsigned char *at, const unsigned char *end) {
    unsigned low = 0x80, high = 0xbf;
    size_t n = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || (size_t)(end - at) < n) return 0;
    if (at[0] == 0xe0) low = 0xa0;
    if (at[0] == 0xed) high = 0x9f;
    if (at[0] == 0xf0) low = 0x90;
    if (at[0] == 0xf4) high = 0x8f;
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if (at[i] < 0x80 || at[i] > 0xbf) return 0;
    return n;
}

static size_t escape_one(char *out, unsigned char byte) {
    static const char hex[] = "0123456789abcdef";
    const char *shorts = "\"\"\\\\\nn\rr\tt";
    for (const char *s = shorts; *s; s += 2)
        if ((unsigned char)s[0] == byte) return out[0] = '\\', out[1] = s[1], 2;
    memcpy(out, "\\u00", 4);
    out[4] = hex[byte >> 4];
    out[5] = hex[byte & 15];
    return 6;
}

/* What is plain is most of it: it is copied in runs. */
static size_t escape(char *out, const unsigned char *at, const unsigned char *end) {
    char *start = out;
    while (at < end) {
        const unsigned char *run = at;
        while (at < end && *at >= ' ' && *at < 0x7f && *at != '"' && *at != '\\') at++;
        memcpy(out, run, (size_t)(at - run));
        out += at - run;
        if (at == end) break;
        size_t n = *at >= 0x80 ? sequence(at, end) : 0;
        if (n) {
            memcpy(out, at, n);
            out += n, at += n;
        } else {
            out += *at >= 0x80 ? put(out, "\\ufffd") : escape_one(out, *at);
            at++;
        }
    }
    return (size_t)(out - start);
}

static void record(struct vs_log *log, int stream, const char *data, size_t size) {
    if (!size) return;
    if (log->used + size * WORST + RECORD_MAX > OUT_SIZE) flush(log);
    const unsigned char *bytes = (const unsigned char *)data;
    char *out = log->out + log->used;
    out += put(out, "{\"log\":\"");
    out += escape(out, bytes, bytes + size);
    out += put(out, stream ? "\",\"stream\":\"stderr\",\"time\":\""
                           : "\",\"stream\":\"stdout\",\"time\":\"");
    out += put(out, log->stamp);
    out += put(out, "\"}\n");
    log->used = (size_t)(out - log->out);
}

/* Where to end a piece of a line that is too long: not within a character. */
static size_t boundary(const char *data, size_t size) {
    size_t n = size;
    for (int back = 0; back < 3 && n && ((unsigned char)data[n - 1] & 0xc0) == 0x80; back++) n--;
    if (n && (unsigned char)data[n - 1] >= 0xc0) return n - 1 ? n - 1 : size;
    return size;
}

static void tell_lost(struct vs_log *log) {
    char text[96];
    int n = snprintf(text, sizeof text, "viscum: %llu bytes of the log were lost: disk full\n",
                     (unsigned long long)log->lost);
    log->lost = 0;
    record(log, 1, text, (size_t)n);
    flush(log);
}

/* Complete the part of a line that was kept with the begin of what came. Returns what was used. */
static size_t complete(struct vs_log *log, int stream, const char *data, size_t size) {
    char *part = log->part[stream].data;
    size_t *used = &log->part[stream].used, room = VS_LINE_SIZE - *used;
    size_t n = size < room ? size : room;
    const char *end = memchr(data, '\n', n);
    if (end) n = (size_t)(end - data) + 1;
    memcpy(part + *used, data, n);
    *used += n;
    if (!end && *used < VS_LINE_SIZE) return n;
    size_t whole = end ? *used : boundary(part, *used);
    record(log, stream, part, whole);
    memmove(part, part + whole, *used - whole);
    *used -= whole;
    return n;
}

void vs_log_add(struct vs_log *log, int stream, const char *data, size_t size) {
    stamp(log);
    if (log->lost) tell_lost(log);
    while (size) {
        const char *end = log->part[stream].used ? NULL : memchr(data, '\n', size);
        size_t n = end ? (size_t)(end - data) + 1 : 0;
        if (n && n <= VS_LINE_SIZE)
            record(log, stream, data, n);
        else
            n = complete(log, stream, data, size);
        data += n, size -= n;
    }
    flush(log);
}

/* The machine has ended: what never got its newline is a record as it is. */
void vs_log_end(struct vs_log *log) {
    stamp(log);
    for (int stream = 0; stream < 2; stream++) {
        record(log, stream, log->part[stream].data, log->part[stream].used);
        log->part[stream].used = 0;
    }
    flush(log);
}
