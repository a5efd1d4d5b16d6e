/* The memory that children share with this process for a moment must never be seen by a machine.
 *
 * A child that joins a running machine can be looked at by what runs there. While one is under way
 * this process is not dumpable: then nobody without capabilities over the host's user namespace
 * may trace it or open its files in /proc (ptrace(2), "ptrace access mode checking").
 *
 * A child that starts a machine is alone in it, but its parent has to write id maps to its files
 * in /proc, which an ordinary user may do only while both are dumpable. So the two kinds exclude
 * each other. A change of ids also makes the shared memory undumpable; the last one out puts back
 * what the first one found. */
#include "core.h"

#include <pthread.h>
#include <sys/prctl.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int inside[2]; /* starting, joining */
static int dumpable;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A fork must not fall between a change of the counters and what goes with it. */
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void in_parent(void) { pthread_mutex_unlock(&lock); }

/* After a fork there are no launches under way here, whatever other threads were doing. */
static void forget(void) {
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&changed, NULL);
    if (inside[0] || inside[1]) SYS(SYS_prctl, PR_SET_DUMPABLE, dumpable);
    inside[0] = inside[1] = 0;
}

static void watch_forks(void) { pthread_atfork(before_fork, in_parent, forget); }

void vs_memory_enter(int joins) {
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&lock);
    while (inside[!joins]) pthread_cond_wait(&changed, &lock);
    if (inside[joins]++ == 0) {
        dumpable = (int)SYS(SYS_prctl, PR_GET_DUMPABLE);
        if (joins) SYS(SYS_prctl, PR_SET_DUMPABLE, 0);
    }
    pthread_mutex_unlock(&lock);
}

void vs_memory_leave(int joins) {
    pthread_mutex_lock(&lock);
    if (--inside[joins] == 0) {
        SYS(SYS_prctl, PR_SET_DUMPABLE, dumpable);
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
}
