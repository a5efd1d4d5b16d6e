/* The core without Python: decoding, launching a plan made by hand, what is left after a failure.
 */
#include "core.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

/* A plan in memory: a clone without namespaces and an exec of /bin/sh -c SCRIPT. */
struct image {
    char bytes[4096];
    size_t size;
};

static void put32(struct image *image, uint32_t value) {
    memcpy(image->bytes + image->size, &value, 4);
    image->size += 4;
}

static void put_op(struct image *image, uint32_t code, uint32_t section, const uint64_t *args,
                   int count) {
    put32(image, code);
    put32(image, section);
    uint64_t all[7] = {0};
    for (int i = 0; i < count; i++) all[i] = args[i];
    memcpy(image->bytes + image->size, all, sizeof all);
    image->size += sizeof all;
}

static void make(struct image *image, const char *script) {
    char table[1024] = "\0/bin/sh\0-c\0";
    size_t at = 12, length = strlen(script) + 1;
    memcpy(table + at, script, length);
    size_t size = at + length + 1;
    table[size - 1] = 0;
    image->size = 0;
    memcpy(image->bytes, VS_MAGIC, 8);
    image->size = 8;
    uint32_t header[] = {VS_VERSION, 3, (uint32_t)size, VS_PARAMETERS, 0, 0};
    for (int i = 0; i < 6; i++) put32(image, header[i]);
    put_op(image, OP_clone, VS_SPAWN, (uint64_t[]){0, VS_NONE}, 2);
    put_op(image, OP_stdio, VS_ENTER, NULL, 0);
    uint64_t arguments = 1ull << 32 | (11 + length);
    put_op(image, OP_exec, VS_EXEC, (uint64_t[]){1, arguments, 0, 0}, 4);
    memcpy(image->bytes + image->size, table, size);
    image->size += size;
}

static void test_launch_runs_the_command(void) {
    struct image image;
    struct vs_plan plan;
    struct vs_report report;
    struct vs_machine m;
    struct vs_stat stat;
    make(&image, "exit 7");
    CHECK(vs_plan_decode(&plan, image.bytes, image.size, &report) == 0);
    CHECK(vs_plan_load(&plan, &report) == 0);
    vs_machine_init(&m, &plan);
    CHECK(vs_launch(&m, -1, &report) == 0);
    CHECK(vs_reap(m.pidfd, 0, &stat) == 0);
    CHECK(stat.code == CLD_EXITED && stat.status == 7);
    vs_release(&m);
}

static void test_launch_reports_what_failed(void) {
    struct image image;
    struct vs_plan plan;
    struct vs_report report;
    struct vs_machine m;
    make(&image, "exit 0");
    CHECK(vs_plan_decode(&plan, image.bytes, image.size, &report) == 0);
    for (int at = 0; at < 3; at++) {
        vs_machine_init(&m, &plan);
        m.fail_at = at;
        CHECK(vs_launch(&m, -1, &report) == -EIO);
        CHECK(report.index == at && report.fault.err == EIO);
        CHECK(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD);
    }
}

static void test_decoder_refuses_every_truncation(void) {
    struct image image;
    struct vs_plan plan;
    struct vs_report report;
    make(&image, "exit 0");
    for (size_t size = 0; size < image.size; size++)
        CHECK(vs_plan_decode(&plan, image.bytes, size, &report) < 0);
}

static void test_decoder_refuses_wild_references(void) {
    struct image image;
    struct vs_plan plan;
    struct vs_report report;
    make(&image, "exit 0");
    size_t argument = VS_HEADER_SIZE + 2 * VS_RECORD_SIZE + 8;
    uint64_t wild[] = {4096, VS_PARAMETER_BIT | VS_PARAMETERS, ~0ull, 1ull << 40};
    for (int i = 0; i < 4; i++) {
        memcpy(image.bytes + argument, &wild[i], 8);
        CHECK(vs_plan_decode(&plan, image.bytes, image.size, &report) < 0);
        CHECK(report.index == 2);
    }
}

/* A plan for the fuzzer to begin with. */
static int write_seed(const char *path) {
    struct image image;
    make(&image, "exit 0");
    FILE *file = fopen(path, "wb");
    if (!file) return 1;
    size_t written = fwrite(image.bytes, 1, image.size, file);
    return fclose(file) != 0 || written != image.size;
}

int main(int argc, char **argv) {
    if (argc > 1) return write_seed(argv[1]);
    test_launch_runs_the_command();
    test_launch_reports_what_failed();
    test_decoder_refuses_every_truncation();
    test_decoder_refuses_wild_references();
    printf("%d passed, %d failed\n", 4, failures);
    return failures != 0;
}
