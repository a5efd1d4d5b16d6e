/* The decoder of compiled plans. It trusts nothing: every length, reference and kind is checked
 * before a single operation runs, and what it does not know it refuses. */
#include "core.h"

#include <errno.h>

struct verb {
    const char *name;
    const char *kinds;
    uint8_t section;
};

#define ROW(code_, id, name_, section_, kinds_)                                                    \
    [code_] = {.name = name_, .kinds = kinds_, .section = section_},
static const struct verb verbs[] = {VS_VOCABULARY(ROW)};
#undef ROW
#define VERBS (sizeof verbs / sizeof verbs[0])

const char *vs_op_name(uint32_t code) {
    return code < VERBS && verbs[code].name ? verbs[code].name : "?";
}

static uint32_t read32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Strings end somewhere in the table because the table ends with NUL. */
static int string_fits(const struct vs_plan *plan, uint64_t arg) {
    if (arg & VS_PARAMETER_BIT) return arg - VS_PARAMETER_BIT < VS_PARAMETERS;
    return arg < plan->table_size;
}

static int blob_fits(const struct vs_plan *plan, uint64_t arg) {
    uint64_t offset = arg >> 32, size = (uint32_t)arg;
    return offset + size < plan->table_size;
}

static int slots_fit(const struct vs_plan *plan, uint64_t arg) {
    uint32_t size;
    if (!blob_fits(plan, arg)) return 0;
    vs_blob(plan, arg, &size);
    for (uint32_t i = 0; i < size / 2; i++)
        if (vs_listed(plan, arg, i) >= VS_SLOTS) return 0;
    return size % 2 == 0;
}

static int strings_fit(const struct vs_plan *plan, uint64_t arg) {
    uint32_t size;
    if (!blob_fits(plan, arg)) return 0;
    const char *text = vs_blob(plan, arg, &size);
    return size == 0 || text[size - 1] == 0;
}

static int argument_fits(const struct vs_plan *plan, char kind, uint64_t arg) {
    switch (kind) {
    case 'I': return 1;
    case 'S': return string_fits(plan, arg);
    case 'B': return blob_fits(plan, arg);
    case 'N': return strings_fit(plan, arg);
    case 'L': return slots_fit(plan, arg);
    case 'F': return arg < VS_SLOTS;
    case 'O': return arg < VS_SLOTS || arg == VS_NONE;
    default: return 0;
    }
}

static int operation_fits(const struct vs_plan *plan, const struct vs_op *op) {
    if (op->code >= VERBS || !verbs[op->code].name) return 0;
    const struct verb *verb = &verbs[op->code];
    if (op->section != verb->section) return 0;
    size_t count = vs_len(verb->kinds);
    for (size_t i = 0; i < 7; i++) {
        if (i >= count && op->arg[i] != 0) return 0;
        if (i < count && !argument_fits(plan, verb->kinds[i], op->arg[i])) return 0;
    }
    return 1;
}

/* Fill plan->first; the operations must stand in the order of their sections. */
static int sections_fit(struct vs_plan *plan, struct vs_report *report) {
    uint32_t section = 0, clones = 0;
    plan->first[0] = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        report->index = (int32_t)i;
        if (!operation_fits(plan, &plan->ops[i])) return 0;
        if (plan->ops[i].section < section) return 0;
        while (section < plan->ops[i].section) plan->first[++section] = i;
        clones += section == VS_SPAWN;
    }
    while (section < VS_SECTIONS) plan->first[++section] = plan->count;
    report->index = -1;
    return clones == 1;
}

/* Point `plan` into `data`, which must stay where it is and be aligned to 8 bytes. */
int vs_plan_decode(struct vs_plan *plan, const void *data, size_t size, struct vs_report *report) {
    const unsigned char *bytes = data;
    *report = (struct vs_report){.index = -1};
    for (int i = 0; i < VS_SLOTS; i++) plan->slots[i] = -1;
    if (size < VS_HEADER_SIZE) return vs_refuse(&report->fault, EBADMSG);
    for (int i = 0; i < 8; i++)
        if (bytes[i] != (unsigned char)VS_MAGIC[i]) return vs_refuse(&report->fault, EBADMSG);
    if (read32(bytes + 8) != VS_VERSION || read32(bytes + 20) != VS_PARAMETERS ||
        read32(bytes + 24) || read32(bytes + 28))
        return vs_refuse(&report->fault, EPROTONOSUPPORT);
    plan->count = read32(bytes + 12);
    plan->table_size = read32(bytes + 16);
    if (plan->count > VS_MAX_OPERATIONS || plan->table_size > VS_MAX_TABLE ||
        plan->table_size < 2 ||
        size != VS_HEADER_SIZE + (size_t)plan->count * VS_RECORD_SIZE + plan->table_size)
        return vs_refuse(&report->fault, EBADMSG);
    plan->ops = (const struct vs_op *)(bytes + VS_HEADER_SIZE);
    plan->table = (const char *)(plan->ops + plan->count);
    if (plan->table[0] || plan->table[plan->table_size - 1]) {
        return vs_refuse(&report->fault, EBADMSG);
    }
    return sections_fit(plan, report) ? 0 : vs_refuse(&report->fault, EBADMSG);
}
