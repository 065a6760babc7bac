/* The net disk's actions: fs.list, fs.stat and fs.read on one folder, which no path can leave. */
#ifndef APPS_DISK_H
#define APPS_DISK_H

#include <datapeer/datapeer.h>

typedef struct disk disk;

/* root: the folder. IO with errno if it can't be opened, UNSUPPORTED on a kernel without openat2
 * (before 5.6). */
int disk_open(disk **out, const char *root);
/* After the router's last call. */
void disk_close(disk *d);
int disk_register(disk *d, dp_router *router);

#endif
