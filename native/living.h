/* A machine that lives on, made and started by the native command from what it remembers. */
#ifndef VISCUM_LIVING_H
#define VISCUM_LIVING_H

#include "remembered.h"

/* Make the machine's folder, start its monitor and print its id. Does not return where that
 * worked; else nothing is left, and Python finds out what is wrong. */
void vs_living_run(const struct vs_remembered *remembered);

#endif
