/* The reader of a layer: bytes come in as they are decompressed, entries go out as files. */
#include "tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum state { HEADER, META, MORE_PARTS, MAP, DATA, SKIP, END };

struct vs_untar {
    struct vs_place place;
    struct vs_tar_entry entry, extra; /* what becomes a file; the header of a header */
    enum state state;
    unsigned char block[VS_TAR_BLOCK];
    size_t have;      /* bytes of `block` */
    char *meta, *pax; /* the header that is being read; the one that `entry` points into */
    size_t meta_size, meta_have;
    char meta_type;
    int64_t left; /* bytes of the entry still to come */
    int64_t skip; /* bytes to pass over */
    int64_t max_bytes, max_entries, bytes, entries;
    int64_t map_left, map_number,
        map_first; /* GNU.sparse 1.0: numbers to come, the one that is read */
    int map_digits;
    size_t part;
    int64_t part_done;
    int fd;
    int reason;
    char path[VS_TAR_PATH + 1];
};

struct vs_untar *vs_untar_new(int root, unsigned flags, int64_t max_bytes, int64_t max_entries) {
    struct vs_untar *u = calloc(1, sizeof *u);
    if (!u) return NULL;
    u->fd = -1;
    u->max_bytes = max_bytes;
    u->max_entries = max_entries;
    u->reason = vs_place_init(&u->place, root, flags);
    return u;
}

static void next_entry(struct vs_untar *u) {
    u->entry.has = 0;
    u->entry.xattr_count = 0;
    u->entry.part_count = 0;
    u->entry.map_in_data = 0;
    free(u->pax);
    u->pax = NULL;
}

void vs_untar_free(struct vs_untar *u) {
    if (u->fd >= 0) close(u->fd);
    next_entry(u);
    vs_place_free(&u->place);
    free(u->entry.parts);
    free(u->meta);
    free(u);
}

const struct vs_place *vs_untar_place(const struct vs_untar *u) { return &u->place; }

void vs_untar_counts(const struct vs_untar *u, int64_t *entries, int64_t *bytes) {
    *entries = u->entries;
    *bytes = u->bytes;
}

const char *vs_untar_where(const struct vs_untar *u, int *error) {
    *error = u->reason == VS_TAR_SYSTEM ? u->place.error : 0;
    return u->path;
}

/* Without "." and empty parts; ".." is refused, since no program that is well makes it. */
static int clean(char *out, const char *name) {
    size_t n = 0;
    while (*name) {
        size_t size = strcspn(name, "/");
        int dots = size == 1 && name[0] == '.';
        if (size == 2 && name[0] == '.' && name[1] == '.') return VS_TAR_NAME;
        if (size && !dots) {
            if (n) out[n++] = '/';
            if (n + size > VS_TAR_PATH - 1) return VS_TAR_NAME;
            memcpy(out + n, name, size);
            n += size;
        }
        name += size + (name[size] == '/');
    }
    out[n] = 0;
    return 0;
}

static int64_t padded(int64_t size) { return (VS_TAR_BLOCK - size % VS_TAR_BLOCK) % VS_TAR_BLOCK; }

static void skip(struct vs_untar *u, int64_t size) {
    u->skip = size;
    u->state = size ? SKIP : HEADER;
}

/* The file is whole: its attributes, then what pads it. */
static int file_done(struct vs_untar *u) {
    int reason = vs_place_file_done(&u->place, &u->entry, u->fd);
    if (close(u->fd) && !reason) reason = vs_fail(&u->place);
    u->fd = -1;
    skip(u, padded(u->entry.size));
    next_entry(u);
    return reason;
}

static int one_part(struct vs_untar *u) {
    u->entry.part_count = 0;
    return vs_tar_add_part(&u->entry, 0, u->entry.size);
}

/* The header and all that belongs to it is read. */
static int begin_file(struct vs_untar *u) {
    int sparse = u->entry.has & VS_HAS_SPARSE;
    int reason = sparse ? vs_tar_check_parts(&u->entry) : one_part(u);
    if (reason) return reason;
    if (u->entry.size > u->max_bytes - u->bytes) return VS_TAR_LARGE;
    u->bytes += u->entry.size;
    reason = vs_place_entry(&u->place, &u->entry, u->path, &u->fd);
    if (reason) return reason;
    u->left = u->entry.size;
    u->part = 0;
    u->part_done = 0;
    if (u->fd < 0) { /* a whiteout, or nothing that is kept */
        skip(u, u->left + padded(u->entry.size));
        next_entry(u);
        return 0;
    }
    u->state = DATA;
    return u->left ? 0 : file_done(u);
}

static int begin_entry(struct vs_untar *u) {
    struct vs_tar_entry *entry = &u->entry;
    int reason = clean(u->path, entry->name);
    if (reason) return reason;
    if (entry->type == '1') {
        char target[VS_TAR_PATH + 1];
        reason = clean(target, entry->target);
        if (reason || !*target) return VS_TAR_NAME;
        strcpy(entry->target, target);
    }
    if (++u->entries > u->max_entries) return VS_TAR_MANY;
    if (entry->type == '0' || entry->type == 'S') {
        if (entry->has & VS_HAS_SPARSE && !(entry->has & VS_HAS_REAL_SIZE)) return VS_TAR_SPARSE;
        if (entry->map_in_data && entry->has & VS_HAS_SPARSE) {
            u->state = MAP;
            u->map_left = -1;
            u->map_number = u->map_digits = 0;
            entry->part_count = 0;
            return 0;
        }
        return begin_file(u);
    }
    if (entry->type == '2' && !*entry->target) return VS_TAR_NAME;
    reason = vs_place_entry(&u->place, entry, u->path, &u->fd);
    next_entry(u);
    skip(u, 0); /* entries of these kinds have no data, whatever their size says */
    return reason;
}

static int begin_meta(struct vs_untar *u) {
    int64_t size = u->extra.size;
    if (size > VS_TAR_META) return VS_TAR_PAX;
    free(u->meta);
    u->meta = malloc((size_t)size + 1);
    if (!u->meta) return VS_TAR_MEMORY;
    u->meta_size = (size_t)size;
    u->meta_have = 0;
    u->meta_type = u->extra.type;
    u->state = META;
    return 0;
}

/* What a header before the entry says of it. */
static int meta_done(struct vs_untar *u) {
    struct vs_tar_entry *entry = &u->entry;
    int reason = 0;
    u->meta[u->meta_size] = 0;
    if (u->meta_type == 'x' || u->meta_type == 'X') {
        free(u->pax);
        u->pax = u->meta;
        u->meta = NULL;
        entry->xattr_count = 0;
        reason = vs_tar_pax(u->pax, u->meta_size, entry);
    } else if (u->meta_type == 'L' || u->meta_type == 'K') {
        int name = u->meta_type == 'L';
        size_t n = strlen(u->meta);
        if (!n || n > VS_TAR_PATH) return VS_TAR_NAME;
        entry->has |= name ? VS_HAS_PATH : VS_HAS_LINK;
        strcpy(name ? entry->name : entry->target, u->meta);
    }
    skip(u, padded((int64_t)u->meta_size));
    return reason;
}

static int header_done(struct vs_untar *u) {
    if (vs_tar_is_zero(u->block)) {
        u->state = END;
        return 0;
    }
    if (u->block[156] && strchr("xXgLK", u->block[156])) {
        u->extra.has = 0; /* its own fields are not those of the entry that follows */
        int bad = vs_tar_header(u->block, &u->extra);
        return bad ? bad : begin_meta(u);
    }
    int reason = vs_tar_header(u->block, &u->entry);
    if (reason) return reason;
    if (!strchr("012345S6V", u->entry.type)) return VS_TAR_TYPE;
    if (u->entry.type == 'V') return next_entry(u), skip(u, u->entry.size), 0;
    if (u->entry.type == 'S' && u->block[482]) return u->state = MORE_PARTS, 0;
    return begin_entry(u);
}

/* A number of the map that stands before a sparse file's data: how many parts there are, then
 * offset and size of each. */
static int map_number(struct vs_untar *u) {
    int64_t number = u->map_number;
    if (!u->map_digits) return VS_TAR_SPARSE;
    u->map_number = u->map_digits = 0;
    if (u->map_left < 0) {
        if (number > VS_TAR_PARTS) return VS_TAR_SPARSE;
        u->map_left = 2 * number;
        return 0;
    }
    if (u->map_left-- % 2) return vs_tar_add_part(&u->entry, u->map_first, number);
    u->map_first = number;
    return 0;
}

static int map_done(struct vs_untar *u) {
    if (u->entry.size < VS_TAR_BLOCK) return VS_TAR_SPARSE;
    u->entry.size -= VS_TAR_BLOCK;
    for (int i = 0; i < VS_TAR_BLOCK && u->map_left; i++) {
        char c = (char)u->block[i];
        if (c == '\n') {
            int reason = map_number(u);
            if (reason) return reason;
        } else {
            if (c < '0' || c > '9' || ++u->map_digits > 18) return VS_TAR_SPARSE;
            u->map_number = u->map_number * 10 + (c - '0');
        }
    }
    return u->map_left ? 0 : begin_file(u);
}

/* Another block of GNU's old map. */
static int parts_done(struct vs_untar *u) {
    int reason = vs_tar_sparse_block(u->block, 21, &u->entry);
    if (reason || u->block[504]) return reason;
    return begin_entry(u);
}

/* Write what there is of the entry's data into the part of the file that it belongs to. */
static ssize_t write_data(struct vs_untar *u, const unsigned char *data, size_t size) {
    const struct vs_tar_part *part = &u->entry.parts[u->part];
    if (u->part_done == part->size) {
        u->part++;
        u->part_done = 0;
        return 0;
    }
    int64_t room = part->size - u->part_done;
    if (size > (size_t)room) size = (size_t)room;
    ssize_t done = pwrite(u->fd, data, size, part->offset + u->part_done);
    if (done > 0) u->part_done += done, u->left -= done;
    return done;
}

/* Take up to a block into `block`; whether it is full. */
static int collect(struct vs_untar *u, const unsigned char **data, size_t *size) {
    size_t n = VS_TAR_BLOCK - u->have;
    if (n > *size) n = *size;
    memcpy(u->block + u->have, *data, n);
    u->have = (u->have + n) % VS_TAR_BLOCK;
    *data += n;
    *size -= n;
    return u->have == 0;
}

static int take_meta(struct vs_untar *u, const unsigned char **data, size_t *size) {
    size_t n = u->meta_size - u->meta_have;
    if (n > *size) n = *size;
    memcpy(u->meta + u->meta_have, *data, n);
    u->meta_have += n;
    *data += n;
    *size -= n;
    return u->meta_have == u->meta_size ? meta_done(u) : 0;
}

static int take_data(struct vs_untar *u, const unsigned char **data, size_t *size) {
    ssize_t done = write_data(u, *data, *size);
    if (done < 0) return errno == EINTR ? 0 : vs_fail(&u->place);
    *data += done;
    *size -= (size_t)done;
    return u->left ? 0 : file_done(u);
}

static int take_block(struct vs_untar *u, const unsigned char **data, size_t *size) {
    if (!collect(u, data, size)) return 0;
    if (u->state == HEADER) return header_done(u);
    return u->state == MAP ? map_done(u) : parts_done(u);
}

/* The next bytes of the archive. 0, or the reason that ends this layer for good. */
int vs_untar_feed(struct vs_untar *u, const unsigned char *data, size_t size) {
    while (size && !u->reason && u->state != END) {
        if (u->state == SKIP) {
            int64_t n = u->skip < (int64_t)size ? u->skip : (int64_t)size;
            data += n;
            size -= (size_t)n;
            skip(u, u->skip - n);
        } else if (u->state == DATA) {
            u->reason = take_data(u, &data, &size);
        } else if (u->state == META) {
            u->reason = take_meta(u, &data, &size);
        } else {
            u->reason = take_block(u, &data, &size);
        }
    }
    return u->reason;
}

/* The archive is over; it may end without the blocks that should end it. */
int vs_untar_finish(struct vs_untar *u) {
    int between =
        u->state == END || (u->state == HEADER && !u->have && !u->entry.has) || u->state == SKIP;
    if (!u->reason && !between) u->reason = VS_TAR_TRUNCATED;
    if (!u->reason) u->reason = vs_place_finish(&u->place);
    return u->reason;
}
