/* Fuzz target: the decoder of compiled plans, under ASan and UBSan. Every argument of what it
 * accepts is then followed, as the operations would. */
#include "core.h"

#include <stdlib.h>
#include <string.h>

static volatile size_t sink;

static void follow(const struct vs_plan *plan) {
    for (uint32_t i = 0; i < plan->count; i++) {
        const char *name = vs_op_name(plan->ops[i].code);
        sink += strlen(name);
        for (int a = 0; a < 7; a++) {
            uint32_t size;
            uint64_t arg = plan->ops[i].arg[a];
            if (arg < plan->table_size) sink += strlen(plan->table + arg);
            if ((arg >> 32) + (uint32_t)arg < plan->table_size) {
                const char *blob = vs_blob(plan, arg, &size);
                for (uint32_t b = 0; b < size; b++) sink += (unsigned char)blob[b];
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct vs_plan plan;
    struct vs_report report;
    void *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    if (vs_plan_decode(&plan, copy, size, &report) == 0) follow(&plan);
    free(copy);
    return 0;
}
