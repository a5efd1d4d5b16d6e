/* Headers of tar archives: ustar, V7, GNU, pax. Pure functions of bytes. */
#include "tar.h"

#include <stdlib.h>
#include <string.h>

#define NUMBER_LIMIT (INT64_MAX / 16)

int vs_tar_is_zero(const unsigned char *block) {
    for (int i = 0; i < VS_TAR_BLOCK; i++)
        if (block[i]) return 0;
    return 1;
}

/* Octal digits between spaces, or base 256 where the first bit is set. */
static int field(const unsigned char *at, int width, int64_t *out) {
    int64_t value = 0;
    int i = 0;
    if (at[0] & 0x80) {
        value = at[0] & 0x40 ? (int64_t)at[0] - 256 : at[0] & 0x7f;
        for (i = 1; i < width; i++) {
            if (value > NUMBER_LIMIT >> 4 || value < -(NUMBER_LIMIT >> 4)) return VS_TAR_NUMBER;
            value = value * 256 + at[i];
        }
        *out = value;
        return 0;
    }
    while (i < width && at[i] == ' ') i++;
    for (; i < width && at[i] >= '0' && at[i] <= '7'; i++) {
        if (value > NUMBER_LIMIT) return VS_TAR_NUMBER;
        value = value * 8 + (at[i] - '0');
    }
    for (; i < width; i++)
        if (at[i] && at[i] != ' ') return VS_TAR_NUMBER;
    *out = value;
    return 0;
}

/* Both sums are in use: of unsigned bytes, and of signed ones by very old programs. */
static int checksum_fits(const unsigned char *block) {
    int64_t wanted, plain = 0, odd = 0;
    if (field(block + 148, 8, &wanted)) return 0;
    for (int i = 0; i < VS_TAR_BLOCK; i++) {
        unsigned char byte = i >= 148 && i < 156 ? ' ' : block[i];
        plain += byte;
        odd += (signed char)byte;
    }
    return wanted == plain || wanted == odd;
}

static size_t text(char *out, const unsigned char *at, size_t width) {
    size_t n = strnlen((const char *)at, width);
    memcpy(out, at, n);
    out[n] = 0;
    return n;
}

static void ustar_name(const unsigned char *block, char *name) {
    size_t n = 0;
    if (!memcmp(block + 257, "ustar\0", 6) && block[345]) {
        n = text(name, block + 345, 155);
        name[n++] = '/';
    }
    text(name + n, block, 100);
}

static int numbers(const unsigned char *block, struct vs_tar_entry *entry) {
    int64_t mode, uid, gid, size, mtime;
    int bad = field(block + 100, 8, &mode) | field(block + 108, 8, &uid) |
              field(block + 116, 8, &gid) | field(block + 124, 12, &size) |
              field(block + 136, 12, &mtime);
    entry->major = entry->minor = 0;
    if (entry->type == '3' || entry->type == '4')
        bad |= field(block + 329, 8, &entry->major) | field(block + 337, 8, &entry->minor);
    if (bad) return VS_TAR_NUMBER;
    entry->mode = (uint32_t)mode & 07777;
    if (!(entry->has & VS_HAS_UID)) entry->uid = uid;
    if (!(entry->has & VS_HAS_GID)) entry->gid = gid;
    if (!(entry->has & VS_HAS_SIZE)) entry->size = size;
    if (!(entry->has & VS_HAS_MTIME)) entry->mtime = mtime, entry->nanoseconds = 0;
    int ids_fit =
        entry->uid >= 0 && entry->uid < UINT32_MAX && entry->gid >= 0 && entry->gid < UINT32_MAX;
    int device_fits = entry->major >= 0 && entry->major <= UINT32_MAX && entry->minor >= 0 &&
                      entry->minor <= UINT32_MAX;
    return entry->size >= 0 && ids_fit && device_fits ? 0 : VS_TAR_NUMBER;
}

/* `entry` comes with what headers before this one said. */
int vs_tar_header(const unsigned char *block, struct vs_tar_entry *entry) {
    if (!checksum_fits(block)) return VS_TAR_HEADER;
    entry->type = block[156] ? (char)block[156] : '0';
    if (!(entry->has & VS_HAS_PATH)) ustar_name(block, entry->name);
    if (!(entry->has & VS_HAS_LINK)) text(entry->target, block + 157, 100);
    int reason = numbers(block, entry);
    if (reason) return reason;
    size_t n = strlen(entry->name);
    if (entry->type == '0' && n && entry->name[n - 1] == '/') entry->type = '5';
    if (entry->type == '7') entry->type = '0';
    if (entry->type != 'S') return 0;
    if (field(block + 483, 12, &entry->real_size) || entry->real_size < 0) return VS_TAR_SPARSE;
    entry->has |= VS_HAS_SPARSE | VS_HAS_REAL_SIZE;
    return vs_tar_sparse_block(block + 386, 4, entry);
}

int vs_tar_add_part(struct vs_tar_entry *entry, int64_t offset, int64_t size) {
    if (offset < 0 || size < 0 || entry->part_count >= VS_TAR_PARTS) return VS_TAR_SPARSE;
    if (entry->part_count == entry->part_room) {
        size_t room = entry->part_room ? entry->part_room * 2 : 8;
        struct vs_tar_part *parts = realloc(entry->parts, room * sizeof *parts);
        if (!parts) return VS_TAR_MEMORY;
        entry->parts = parts;
        entry->part_room = room;
    }
    entry->parts[entry->part_count++] = (struct vs_tar_part){offset, size};
    return 0;
}

/* Places of GNU's old map of a sparse file: offset and size, an empty one ends it. */
int vs_tar_sparse_block(const unsigned char *at, int count, struct vs_tar_entry *entry) {
    for (int i = 0; i < count && at[24 * i]; i++) {
        int64_t offset, size;
        if (field(at + 24 * i, 12, &offset) || field(at + 24 * i + 12, 12, &size))
            return VS_TAR_SPARSE;
        int reason = vs_tar_add_part(entry, offset, size);
        if (reason) return reason;
    }
    return 0;
}

/* In order, within the file, and as many bytes as the archive has of it. */
int vs_tar_check_parts(const struct vs_tar_entry *entry) {
    int64_t end = 0, sum = 0;
    for (size_t i = 0; i < entry->part_count; i++) {
        const struct vs_tar_part *part = &entry->parts[i];
        if (part->offset < end || part->size > entry->real_size ||
            part->offset > entry->real_size - part->size)
            return VS_TAR_SPARSE;
        end = part->offset + part->size;
        sum += part->size;
    }
    return sum == entry->size ? 0 : VS_TAR_SPARSE;
}

/* Digits from *at on; -1 where there are none or too many. */
int64_t vs_tar_decimal(const char **at, const char *end) {
    int64_t value = 0;
    const char *from = *at;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        if (value > NUMBER_LIMIT) return -1;
        value = value * 10 + (**at - '0');
    }
    return *at == from ? -1 : value;
}

static int whole(const char *value, size_t size, int64_t *out) {
    const char *at = value;
    *out = vs_tar_decimal(&at, value + size);
    return *out < 0 || at != value + size ? VS_TAR_PAX : 0;
}

/* "-1.5", "1700000000.123456789", with more digits than nanoseconds have. */
static int pax_time(const char *value, size_t size, struct vs_tar_entry *entry) {
    const char *at = value, *end = value + size;
    int negative = size && *at == '-', digits = 0;
    at += negative;
    int64_t seconds = vs_tar_decimal(&at, end);
    int32_t nano = 0;
    if (seconds < 0) return VS_TAR_PAX;
    if (at < end && *at == '.')
        for (at++; at < end && *at >= '0' && *at <= '9'; at++)
            if (digits < 9) nano = nano * 10 + (*at - '0'), digits++;
    if (at != end) return VS_TAR_PAX;
    for (; digits < 9; digits++) nano *= 10;
    entry->mtime = negative ? -seconds - (nano > 0) : seconds;
    entry->nanoseconds = negative && nano ? 1000000000 - nano : nano;
    entry->has |= VS_HAS_MTIME;
    return 0;
}

static int pax_path(char *out, const char *value, size_t size) {
    if (!size || size > VS_TAR_PATH || memchr(value, 0, size)) return VS_TAR_NAME;
    memcpy(out, value, size);
    out[size] = 0;
    return 0;
}

/* GNU.sparse.map: "offset,size,offset,size" */
static int pax_map(const char *value, size_t size, struct vs_tar_entry *entry) {
    const char *at = value, *end = value + size;
    entry->part_count = 0;
    while (at < end) {
        int64_t offset = vs_tar_decimal(&at, end);
        if (offset < 0 || at == end || *at++ != ',') return VS_TAR_SPARSE;
        int64_t length = vs_tar_decimal(&at, end);
        if (length < 0 || (at < end && *at++ != ',')) return VS_TAR_SPARSE;
        int reason = vs_tar_add_part(entry, offset, length);
        if (reason) return reason;
    }
    return 0;
}

static int pax_sparse(const char *key, char *value, size_t size, struct vs_tar_entry *entry) {
    int64_t number;
    entry->has |= VS_HAS_SPARSE;
    if (!strcmp(key, "name")) {
        entry->has |= VS_HAS_PATH;
        return pax_path(entry->name, value, size);
    }
    if (!strcmp(key, "map")) return pax_map(value, size, entry);
    if (whole(value, size, &number)) return VS_TAR_SPARSE;
    if (!strcmp(key, "realsize") || !strcmp(key, "size")) {
        entry->real_size = number;
        entry->has |= VS_HAS_REAL_SIZE;
    } else if (!strcmp(key, "major")) {
        if (number > 1) return VS_TAR_SPARSE;
        entry->map_in_data = number == 1;
    } else if (!strcmp(key, "offset")) {
        return vs_tar_add_part(entry, number, 0);
    } else if (!strcmp(key, "numbytes")) {
        if (!entry->part_count) return VS_TAR_SPARSE;
        entry->parts[entry->part_count - 1].size = number;
    }
    return 0;
}

static int pax_xattr(const char *name, char *value, size_t size, struct vs_tar_entry *entry) {
    if (entry->xattr_count == VS_TAR_XATTRS) return VS_TAR_PAX;
    entry->xattrs[entry->xattr_count++] = (struct vs_tar_xattr){name, value, size};
    return 0;
}

static int pax_record(const char *key, char *value, size_t size, struct vs_tar_entry *entry) {
    if (!strcmp(key, "path")) {
        if (entry->has & VS_HAS_SPARSE && entry->has & VS_HAS_PATH) return 0; /* has its own name */
        entry->has |= VS_HAS_PATH;
        return pax_path(entry->name, value, size);
    }
    if (!strcmp(key, "linkpath")) {
        entry->has |= VS_HAS_LINK;
        return pax_path(entry->target, value, size);
    }
    if (!strcmp(key, "size")) return entry->has |= VS_HAS_SIZE, whole(value, size, &entry->size);
    if (!strcmp(key, "uid")) return entry->has |= VS_HAS_UID, whole(value, size, &entry->uid);
    if (!strcmp(key, "gid")) return entry->has |= VS_HAS_GID, whole(value, size, &entry->gid);
    if (!strcmp(key, "mtime")) return pax_time(value, size, entry);
    if (!strncmp(key, "GNU.sparse.", 11)) return pax_sparse(key + 11, value, size, entry);
    if (!strncmp(key, "SCHILY.xattr.", 13)) return pax_xattr(key + 13, value, size, entry);
    return 0;
}

/* Records "LENGTH KEY=VALUE\n". Keys get an end in place; names and values stay in `text`. */
int vs_tar_pax(char *record, size_t size, struct vs_tar_entry *entry) {
    const char *end = record + size;
    while (record < end && *record) {
        const char *at = record;
        int64_t length = vs_tar_decimal(&at, end);
        if (length < 5 || length > end - record || at == end || *at != ' ') return VS_TAR_PAX;
        char *key = record + (at + 1 - record), *last = record + length - 1;
        if (key >= last || *last != '\n') return VS_TAR_PAX;
        char *equals = memchr(key, '=', (size_t)(last - key));
        if (!equals || equals == key || memchr(key, 0, (size_t)(equals - key))) return VS_TAR_PAX;
        *equals = 0;
        int reason = pax_record(key, equals + 1, (size_t)(last - equals - 1), entry);
        if (reason) return reason;
        record += length;
    }
    return 0;
}
