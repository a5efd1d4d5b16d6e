/* Raw system calls. The child of a launch shares its parent's memory, and with it errno, so
 * nothing here touches errno: every call returns its result or a negative error number. */
#ifndef VISCUM_SYS_H
#define VISCUM_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long vs_raw(long nr, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
static inline long vs_raw(long nr, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
static inline long vs_raw(long nr, long a, long b, long c, long d, long e, long f) {
    register long a7 __asm__("a7") = nr;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "memory");
    return a0;
}
#else
#error "viscum runs on x86_64, aarch64 and riscv64"
#endif

/* The call that failed last, for the report. */
struct vs_fault {
    int32_t nr;  /* system call number, 0 where no call was made */
    int32_t err; /* positive error number, 0 while all is well */
};

static inline long vs_noted(struct vs_fault *fault, long nr, long a, long b, long c, long d, long e,
                            long f) {
    long ret = vs_raw(nr, a, b, c, d, e, f);
    if (ret < 0 && ret > -4096) {
        fault->nr = (int32_t)nr;
        fault->err = (int32_t)-ret;
    }
    return ret;
}

#define VS_PAD(nr, a, b, c, d, e, f, ...)                                                          \
    nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)
/* SYS: a call whose failure does not matter. CALL: one whose failure is noted in `fault`. */
#define SYS(...)         vs_raw(VS_PAD(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0))
#define CALL(fault, ...) vs_noted(fault, VS_PAD(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0))

/* A failure found without a system call. */
static inline int vs_refuse(struct vs_fault *fault, int err) {
    fault->nr = 0;
    fault->err = err;
    return -err;
}

/* Numbers that C libraries of machines in use do not know yet; the same on every architecture. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self  446
#endif

static inline size_t vs_len(const char *s) {
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

static inline void vs_copy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
}

static inline int vs_same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

/* Write `value` in decimal with an end; returns the length. `out` holds 21 bytes. */
static inline size_t vs_decimal(char *out, uint64_t value) {
    char reversed[20];
    size_t n = 0;
    do reversed[n++] = (char)('0' + value % 10);
    while (value /= 10);
    for (size_t i = 0; i < n; i++) out[i] = reversed[n - 1 - i];
    out[n] = 0;
    return n;
}

#endif
