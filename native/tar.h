/* Layers: tar archives as strangers made them, unpacked below a folder and nowhere else.
 *
 *   vs_untar_new     a folder, bounds
 *   vs_untar_feed    the next bytes of the archive, as many as there are
 *   vs_untar_finish  attributes of folders; what needs the layers below is told
 *
 * This code runs in the caller's threads, not in the child of a launch: it may allocate. */
#ifndef VISCUM_TAR_H
#define VISCUM_TAR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define VS_PRIVATE    __attribute__((visibility("hidden")))
#define VS_TAR_BLOCK  512
#define VS_TAR_PATH   4096
#define VS_TAR_META   (1 << 20) /* of one pax or GNU header */
#define VS_TAR_XATTRS 64
#define VS_TAR_PARTS  (1 << 20) /* of one sparse file */

enum vs_tar_reason {
    VS_TAR_SYSTEM = 1, /* errno says what */
    VS_TAR_HEADER,     /* checksum, magic */
    VS_TAR_NUMBER,     /* a field that is no number, or is out of range */
    VS_TAR_NAME,       /* empty, "..", NUL, too long */
    VS_TAR_PAX,        /* a malformed pax or GNU header */
    VS_TAR_SPARSE,     /* a malformed map of a sparse file */
    VS_TAR_TYPE,       /* an entry of an unknown kind */
    VS_TAR_LARGE,      /* more bytes than allowed */
    VS_TAR_MANY,       /* more entries than allowed */
    VS_TAR_TRUNCATED,  /* ends within an entry */
    VS_TAR_IN_THE_WAY, /* a file where a folder is needed */
    VS_TAR_MEMORY,
};

enum { VS_UNTAR_OWNERS = 1, VS_UNTAR_DEVICES = 2, VS_UNTAR_TRUSTED = 4 };
enum {
    VS_HAS_PATH = 1,
    VS_HAS_LINK = 2,
    VS_HAS_SIZE = 4,
    VS_HAS_UID = 8,
    VS_HAS_GID = 16,
    VS_HAS_MTIME = 32,
    VS_HAS_SPARSE = 64,
    VS_HAS_REAL_SIZE = 128
};

struct vs_tar_xattr {
    const char *name, *value;
    size_t size;
};

struct vs_tar_part {
    int64_t offset, size;
};

struct vs_tar_entry {
    char type;
    uint32_t mode;
    int64_t uid, gid, size, mtime, major, minor;
    int32_t nanoseconds;
    int64_t real_size; /* of a sparse file */
    int map_in_data;   /* its map stands before its data (GNU.sparse 1.0) */
    unsigned has;      /* VS_HAS_*: set by a header before the entry's own */
    char name[VS_TAR_PATH + 1], target[VS_TAR_PATH + 1];
    struct vs_tar_xattr xattrs[VS_TAR_XATTRS];
    unsigned xattr_count;
    struct vs_tar_part *parts;
    size_t part_count, part_room;
};

/* tar_header.c: 0, or a reason */
VS_PRIVATE int vs_tar_is_zero(const unsigned char *block);
VS_PRIVATE int vs_tar_header(const unsigned char *block, struct vs_tar_entry *entry);
VS_PRIVATE int vs_tar_pax(char *text, size_t size, struct vs_tar_entry *entry);
VS_PRIVATE int vs_tar_add_part(struct vs_tar_entry *entry, int64_t offset, int64_t size);
VS_PRIVATE int vs_tar_sparse_block(const unsigned char *at, int count, struct vs_tar_entry *entry);
VS_PRIVATE int vs_tar_check_parts(const struct vs_tar_entry *entry);
VS_PRIVATE int64_t vs_tar_decimal(const char **at, const char *end);

/* untar_place.c: what the entries become */
struct vs_folder {
    char *path;
    int64_t mtime;
    int32_t nanoseconds;
    uint32_t mode;
    int told; /* the archive has an entry for it */
};

struct vs_missing {
    char *name, *target;
};

struct vs_place {
    int root;
    unsigned flags;
    uint32_t umask;
    uid_t uid;
    gid_t gid;
    struct {
        char path[VS_TAR_PATH + 1];
        int fd;
        unsigned used;
    } near[8]; /* folders that entries were put in last */
    unsigned clock;
    int stale; /* something was replaced: `near` may be wrong */
    struct vs_folder *folders;
    size_t folder_count, folder_room;
    uint32_t *index; /* hash table of `folders`, numbers from 1 */
    size_t index_size;
    uint64_t seed;
    struct vs_missing *missing; /* hard links to what only a layer below can have */
    size_t missing_count;
    int64_t skipped; /* devices that this user may not make */
    int error;       /* errno of VS_TAR_SYSTEM */
};

VS_PRIVATE int vs_place_init(struct vs_place *place, int root, unsigned flags);
VS_PRIVATE void vs_place_free(struct vs_place *place);
/* Put an entry at the clean path `path`; a regular file's descriptor is in *fd, else -1. */
VS_PRIVATE int vs_place_entry(struct vs_place *place, struct vs_tar_entry *entry, char *path,
                              int *fd);
VS_PRIVATE int vs_place_file_done(struct vs_place *place, const struct vs_tar_entry *entry, int fd);
VS_PRIVATE int vs_place_finish(struct vs_place *place);

/* untar_folders.c: the folders of a layer, and descriptors of those in use */
VS_PRIVATE struct vs_folder *vs_folder_note(struct vs_place *place, const char *path);
VS_PRIVATE int vs_parent(struct vs_place *place, const char *path);
VS_PRIVATE void vs_forget_parents(struct vs_place *place);
VS_PRIVATE int vs_fail(struct vs_place *place);
VS_PRIVATE int vs_is_whiteout(int dir, const char *name);
VS_PRIVATE int vs_set_opaque(struct vs_place *place, int dir, const char *name);
VS_PRIVATE long vs_open_inside(int root, const char *path, uint64_t flags);
VS_PRIVATE int vs_finish_folders(struct vs_place *place);

/* untar.c */
struct vs_untar;
VS_PRIVATE struct vs_untar *vs_untar_new(int root, unsigned flags, int64_t max_bytes,
                                         int64_t max_entries);
VS_PRIVATE int vs_untar_feed(struct vs_untar *u, const unsigned char *data, size_t size);
VS_PRIVATE int vs_untar_finish(struct vs_untar *u);
VS_PRIVATE void vs_untar_free(struct vs_untar *u);
VS_PRIVATE const struct vs_place *vs_untar_place(const struct vs_untar *u);
VS_PRIVATE void vs_untar_counts(const struct vs_untar *u, int64_t *entries, int64_t *bytes);
/* What entry the last failure was about, and its errno. */
VS_PRIVATE const char *vs_untar_where(const struct vs_untar *u, int *error);

#endif
