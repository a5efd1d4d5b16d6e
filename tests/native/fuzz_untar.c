/* Fuzz target: the reader of layers, under ASan and UBSan, unpacking into a folder of its own. The
 * input is fed in two pieces. A file beside that folder must stay as it is. */
#include "tar.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char ground[64], top[96], kept[96];

static int drop(const char *path, const struct stat *is, int kind, struct FTW *walk) {
    (void)is, (void)kind;
    return walk->level ? remove(path) : 0;
}

static void remove_ground(void) {
    nftw(ground, drop, 16, FTW_DEPTH | FTW_PHYS);
    rmdir(ground);
}

static void prepare(void) {
    snprintf(ground, sizeof ground, "/dev/shm/viscum-fuzz-XXXXXX");
    if (!mkdtemp(ground)) abort();
    snprintf(top, sizeof top, "%s/top", ground);
    snprintf(kept, sizeof kept, "%s/kept", ground);
    int fd = open(kept, O_WRONLY | O_CREAT, 0600);
    if (fd < 0 || write(fd, "kept", 4) != 4) abort();
    close(fd);
    atexit(remove_ground);
}

/* Checksums are mended, or hardly any input would be a header. */
static void mend(unsigned char *data, size_t size) {
    for (size_t at = 0; at + 512 <= size; at += 512) {
        unsigned sum = 0;
        if (data[at + 155] != ' ') continue;
        memset(data + at + 148, ' ', 8);
        for (int i = 0; i < 512; i++) sum += data[at + i];
        snprintf((char *)data + at + 148, 8, "%06o", sum);
        data[at + 155] = ' ';
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct stat is;
    if (!*ground) prepare();
    mkdir(top, 0755);
    int root = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unsigned char *copy = malloc(size + 1);
    memcpy(copy, data, size);
    mend(copy, size);
    struct vs_untar *untar = vs_untar_new(root, 0, 1 << 20, 64);
    if (!vs_untar_feed(untar, copy, size / 3) &&
        !vs_untar_feed(untar, copy + size / 3, size - size / 3))
        vs_untar_finish(untar);
    vs_untar_free(untar);
    free(copy);
    nftw(top, drop, 16, FTW_DEPTH | FTW_PHYS);
    rmdir(top);
    if (stat(kept, &is) || is.st_size != 4 || is.st_nlink != 1) abort();
    return 0;
}
