/* The `viscum` command: starts this environment's Python without its site start-up (2 ms).
 * Where viscum is not beside that Python, Python looks for it in its usual way. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char program[] =
    "import sys\n"
    "bin = sys.argv.pop(1)\n"
    "sys.path.append('%s/../lib/python%d.%d/site-packages' % ((bin,) + sys.version_info[:2]))\n"
    "try:\n"
    "    from viscum.__main__ import leave\n"
    "except ModuleNotFoundError:\n"
    "    import site\n"
    "    site.main()\n"
    "    from viscum.__main__ import leave\n"
    "sys.argv[0] = bin + '/viscum'\n"
    "leave()\n";

int main(int argc, char **argv) {
    char bin[PATH_MAX], python[PATH_MAX + 16];
    ssize_t length = readlink("/proc/self/exe", bin, sizeof bin - 1);
    if (length <= 0) {
        fprintf(stderr, "viscum: /proc/self/exe: %s\n", strerror(errno));
        return 125;
    }
    bin[length] = 0;
    *strrchr(bin, '/') = 0;
    snprintf(python, sizeof python, "%s/python3", bin);
    char **words = calloc((size_t)argc + 6, sizeof *words);
    if (!words) return 125;
    int at = 0;
    words[at++] = python;
    words[at++] = "-IS";
    words[at++] = "-c";
    words[at++] = (char *)program;
    words[at++] = bin;
    for (int i = 1; i < argc; i++) words[at++] = argv[i];
    execv(python, words);
    words[0] = "python3"; /* not beside it: a user's or the system's installation */
    words[1] = "-P"; /* with its site start-up, which knows where such packages are */
    execvp("python3", words);
    fprintf(stderr, "viscum: python3: %s\n", strerror(errno));
    return 127;
}
