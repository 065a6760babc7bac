/* What is wrong with a file, in words. */
#ifndef NET_FILE_ERROR_H
#define NET_FILE_ERROR_H

#include <datapeer/net.h>

#define PATH_SHOWN "%.300s" /* leaves room for what else a message says */

/* Returns code. */
int dp_file_fail(dp_file_error *error, int code, const char *format, ...) DP_PRINTF(3, 4);

#endif
